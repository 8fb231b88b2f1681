"""`up`, `down` and `status`: plain functions, for the command line, the demo and the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.errors import ServiceError, UsageError
from ratchet.stack.airflow_env import passwords_file
from ratchet.stack.catalogue import GROUPS, client_environment, closure, ministack
from ratchet.stack.folder import Folder, Plan, Secrets, load, save, secrets_of, write_private
from ratchet.stack.ports import DOORS, asked_for, choose
from ratchet.stack.process import spawn, terminate
from ratchet.stack.record import WELL, Run, ServiceRun, boot_id, tail
from ratchet.stack.view import Status, view

if TYPE_CHECKING:
    import subprocess

# Supervisors that this process started: kept, or Python would warn that they still run.
_STARTED: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Progress:
    """One thing that happened while the stack was starting or stopping."""

    service: str
    state: str
    detail: str
    seconds: float  # since `up` or `down` was called


Watch = Callable[[Progress], None]


def _quiet(_: Progress) -> None:
    """Tell nobody."""


def project_root() -> Path:
    """Return the folder that holds `dags/`, `plugins/` and `include/`: the checkout, else the current folder."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "dags").is_dir() else Path.cwd()


def state_folder(given: Path | None = None) -> Folder:
    """Return the state folder: the one given, or `RATCHET_STATE`, or `.ratchet/` in the project."""
    chosen = given or Path(os.environ.get("RATCHET_STATE") or project_root() / ".ratchet")
    return Folder(chosen.expanduser().resolve())


def up(  # noqa: PLR0913  what can be chosen
    state: Path | None = None,
    *,
    services: Iterable[str] = GROUPS,
    ports: Mapping[str, int] | None = None,
    dags: Path | None = None,
    plugins: Path | None = None,
    home: Path | None = None,
    owner: int | None = None,
    progress: Watch = _quiet,
    patience: float = 300.0,
) -> Status:
    """Start what does not run yet, wait until all is well, and say where everything is.

    Args:
        state: the state folder; by default `RATCHET_STATE` or `.ratchet/`.
        services: of `s3`, `mlflow` and `airflow`; what they need is started too.
        ports: asked for by name, over the environment's `RATCHET_<NAME>_PORT`; a taken one is an error.
        dags: Airflow's folder of DAGs; by default `RATCHET_DAGS` or the project's.
        plugins: Airflow's folder of plugins; by default `RATCHET_PLUGINS` or the project's.
        home: the pipelines' home that the DAGs read; by default `RATCHET_HOME` or `include/`.
        owner: a process with whose end the stack ends too.
        progress: is told what happens.
        patience: seconds to wait.

    Raises:
        UsageError: a port that was asked for is taken, or something is not installed.
        ServiceError: a service did not start; its last words are in the message.
    """
    folder, began = state_folder(state), time.monotonic()

    def tell(service: str, happened: str, detail: str = "") -> None:
        progress(Progress(service, happened, detail, time.monotonic() - began))

    asked = asked_for() | dict(ports or {})
    with folder.locked():
        secrets = secrets_of(folder)
        run, old = _running(folder), load(folder.plan, Plan)
        if run is None:
            _sweep(folder, tell)
        wanted = closure({*services, *(old.services if run and old else ())})
        running = old.ports if run and old else {}
        _refuse_to_move(asked, running)
        names = [d.name for d in DOORS if d.name in wanted and d.name not in running]
        chosen = choose(names, {n: p for n, p in asked.items() if n in names}, old.ports if old else {})
        for note in chosen.notes:
            tell("ports", "note", note)
        root = project_root()
        plan = Plan(
            services=wanted,
            ports=running | chosen.chosen,
            project=root,
            dags=(dags or Path(os.environ.get("RATCHET_DAGS") or root / "dags")).resolve(),
            plugins=(plugins or Path(os.environ.get("RATCHET_PLUGINS") or root / "plugins")).resolve(),
            home=home or (Path(os.environ["RATCHET_HOME"]).resolve() if os.environ.get("RATCHET_HOME") else None),
            owner=owner,
            revision=old.revision if old else 0,
        )
        asks = run is None or any(s.state not in WELL for s in run.services) or old != plan
        plan = plan.model_copy(update={"revision": plan.revision + asks})
        ministack(plan.project)  # says what to do where it is missing, before anything starts
        _write_files(folder, plan, secrets)
        started = _start_supervisor(folder) if run is None else None
        if run is not None and asks:
            os.kill(run.supervisor.pid, signal.SIGHUP)
        _await(folder, plan, tell, patience, started)
    return view(folder)


def down(state: Path | None = None, *, progress: Watch = _quiet) -> bool:
    """Stop everything that `up` started in this state folder, and nothing else.

    Returns:
        whether anything ran.
    """
    folder, began = state_folder(state), time.monotonic()

    def tell(service: str, happened: str, detail: str = "") -> None:
        progress(Progress(service, happened, detail, time.monotonic() - began))

    if not folder.root.exists():
        return False
    with folder.locked():
        run = _running(folder)
        if run is None:
            return _sweep(folder, tell)
        tell("stack", "stopping")
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while run.supervisor.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        _sweep(folder, tell)
        tell("stack", "stopped")
        return True


def status(state: Path | None = None) -> Status:
    """Say what runs, where, since when and how it is."""
    return view(state_folder(state))


def environment(state: Path | None = None) -> dict[str, str]:
    """Return the variables by which a client finds the running stack; empty when none runs."""
    folder = state_folder(state)
    plan, secrets = load(folder.plan, Plan), load(folder.secrets, Secrets)
    if plan is None or secrets is None or _running(folder) is None:
        return {}
    return client_environment(plan, secrets)


def _running(folder: Folder) -> Run | None:
    """Return what the supervisor last saw, if it still lives."""
    run = load(folder.run, Run)
    return run if run is not None and run.boot == boot_id() and run.supervisor.alive() else None


def _sweep(folder: Folder, tell: Callable[..., None]) -> bool:
    """Stop what a dead supervisor has left behind."""
    run = load(folder.run, Run)
    if run is None or run.boot != boot_id():
        return False
    left = [s.process for s in run.services if s.process is not None]
    refs = [run.supervisor, *left]
    found = any(ref.alive() for ref in refs)
    if found:
        tell("stack", "recovering", "stopping what an earlier run has left behind")
    terminate(refs, 9.0)
    services = tuple(s.model_copy(update={"state": "stopped", "detail": ""}) for s in run.services)
    save(folder.run, run.model_copy(update={"services": services, "stopping": False}))
    return found


def _refuse_to_move(asked: Mapping[str, int], running: Mapping[str, int]) -> None:
    for name, port in asked.items():
        if name in running and running[name] != port:
            raise UsageError(
                f"{name} already runs on port {running[name]}, and port {port} was asked for: run `ratchet down` first"
            )


def _write_files(folder: Folder, plan: Plan, secrets: Secrets) -> None:
    save(folder.plan, plan)
    write_private(folder.airflow / "passwords.json", passwords_file(secrets))
    lines = [f"export {name}='{value}'\n" for name, value in client_environment(plan, secrets).items()]
    write_private(folder.env, "".join(lines))


def _start_supervisor(folder: Folder) -> subprocess.Popen[bytes]:
    folder.run.unlink(missing_ok=True)
    folder.preload.unlink(missing_ok=True)
    for old in folder.logs.glob("*.log"):  # the last run's logs are kept, and not mistaken for this one's
        old.replace(old.with_suffix(".log.1"))
    log = folder.logs / "supervisor.log"
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = (sys.executable, "-m", "ratchet.stack.supervisor", str(folder.root))
    _STARTED.append(spawn(command, environment, folder.root, log))
    return _STARTED[-1]


def _await(
    folder: Folder, plan: Plan, tell: Callable[..., None], patience: float, started: subprocess.Popen[bytes] | None
) -> None:
    """Wait until every service is well, telling each change."""
    seen: dict[str, str] = {}
    deadline = time.monotonic() + patience
    time.sleep(0.05)
    while True:
        run = _running(folder)
        for found in run.services if run else ():
            if seen.get(found.name) != found.state:
                seen[found.name] = found.state
                tell(found.name, found.state, found.detail)
        if run and run.services and _covers(run, plan):
            wrong = next((s for s in run.services if s.state in {"crashed", "unhealthy"}), None)
            if wrong is not None:
                raise _failure(wrong)
            if all(s.state in WELL for s in run.services):
                return
        starting = started is not None and started.poll() is None  # a busy machine takes long to import it
        if time.monotonic() > deadline or (
            run is None and not starting and time.monotonic() > deadline - patience + 20
        ):
            raise _late(folder, run, patience)
        time.sleep(0.1)


def _covers(run: Run, plan: Plan) -> bool:
    """Say whether the supervisor has read this plan; what it wrote before may tell of a crash that is being mended."""
    names = {s.name.partition("-")[0] for s in run.services}
    return run.revision == plan.revision and set(plan.services) <= names


def _failure(service: ServiceRun) -> ServiceError:
    words = "\n    ".join((service.tail or tail(service.log))[-8:])
    return ServiceError(service.name, "starting it", f"it {service.detail}; the end of {service.log}:\n    {words}")


def _late(folder: Folder, run: Run | None, patience: float) -> ServiceError:
    if run is None:
        words = "\n    ".join(tail(folder.logs / "supervisor.log"))
        return ServiceError("stack", "starting its supervisor", f"the end of its log:\n    {words}")
    slow = ", ".join(f"{s.name} {s.detail or s.state}" for s in run.services if s.state not in WELL)
    return ServiceError("stack", "starting it", f"after {patience:.0f} s: {slow}; logs are in {folder.logs}")
