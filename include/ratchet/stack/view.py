"""The stack as a person, or a program, wants to see it."""

from __future__ import annotations

import time

from ratchet.domain.records import Record
from ratchet.stack.folder import Folder, Plan, Secrets, load, load_json
from ratchet.stack.ports import HOST
from ratchet.stack.record import WELL, Run, ServiceRun, boot_id, tail


class ServiceView(Record):
    """One service."""

    name: str
    state: str
    healthy: bool
    detail: str
    pid: int | None
    uptime: float | None  # seconds
    started_in: float | None  # seconds from start to well
    exit_code: int | None
    address: str | None
    log: str
    last_words: tuple[str, ...]


class Status(Record):
    """The stack: `running` when its supervisor lives, `healthy` when every service is well."""

    running: bool
    healthy: bool
    folder: str
    note: str
    services: tuple[ServiceView, ...]
    addresses: dict[str, str]
    users: dict[str, str]  # Airflow's, with their passwords
    warm_workers: str
    env_file: str | None

    def named(self, name: str) -> ServiceView:
        """Return the service of that name."""
        return next(s for s in self.services if s.name == name)


def view(folder: Folder) -> Status:
    """Describe what runs in this folder."""
    plan, secrets, run = load(folder.plan, Plan), load(folder.secrets, Secrets), load(folder.run, Run)
    here = run is not None and run.boot == boot_id()
    running = here and run is not None and run.supervisor.alive()
    services = tuple(_service(s, watched=running, here=here) for s in run.services) if run else ()
    left = [s.name for s in services if s.pid and not running]
    shown = plan is not None and (running or bool(left))
    ports = plan.ports if plan is not None and shown else {}
    with_airflow = shown and secrets is not None and "airflow" in ports
    return Status(
        running=running,
        healthy=running and bool(services) and all(s.healthy for s in services),
        folder=str(folder.root),
        note=_note(run if here else None, running=running, left=left),
        services=services,
        addresses={n: f"http://{HOST}:{port}" for n, port in ports.items() if n != "postgres"},
        users=dict(secrets.passwords) if with_airflow and secrets is not None else {},
        warm_workers=_warm(folder) if with_airflow else "",
        env_file=str(folder.env) if shown else None,
    )


def _service(found: ServiceRun, *, watched: bool, here: bool) -> ServiceView:
    alive = here and found.process is not None and found.process.alive()
    state, detail = found.state, found.detail
    if not watched and state not in {"stopped", "done", "crashed"}:
        state = "unhealthy" if alive else "stopped"
        detail = "runs, but nobody watches it: `ratchet up` or `ratchet down` sets it right" if alive else ""
    failed = state in {"crashed", "unhealthy"}
    return ServiceView(
        name=found.name,
        state=state,
        healthy=state in WELL and (alive or state == "done"),
        detail=detail,
        pid=found.process.pid if alive and found.process else None,
        uptime=round(time.time() - found.since, 1) if alive and found.since else None,
        started_in=found.took,
        exit_code=found.exit_code,
        address=found.address,
        log=str(found.log),
        last_words=(found.tail or tail(found.log)) if failed else (),
    )


def _note(run: Run | None, *, running: bool, left: list[str]) -> str:
    if left:
        return (
            f"the supervisor is gone, but {', '.join(left)} still run: `ratchet up` recovers, `ratchet down` stops them"
        )
    if not running:
        return "nothing runs: start it with `ratchet up`"
    if run is not None and run.stopping:
        return "it is stopping"
    failed = [s.name for s in run.services if s.state == "crashed"] if run else []
    return f"{', '.join(failed)} failed: see the log, then `ratchet up` starts it again" if failed else ""


def _warm(folder: Folder) -> str:
    """Say whether the workers' parent process has imported what the tasks need."""
    found = load_json(folder.preload)
    if not isinstance(found, dict):
        return "not yet: the libraries are still being imported"
    failed = found.get("failed") or {}
    words = f"{found.get('loaded')} modules preloaded in {found.get('seconds')} s"
    return f"{words}; not preloaded: {', '.join(failed)}" if failed else words
