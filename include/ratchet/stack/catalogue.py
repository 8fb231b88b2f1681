"""The services of the stack, declared."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.errors import UsageError
from ratchet.stack.airflow_env import airflow_environment
from ratchet.stack.ports import HOST
from ratchet.stack.postgres import MARK, uri
from ratchet.stack.service import Heartbeat, Http, Service, Sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratchet.stack.folder import Folder, Plan, Secrets

GROUPS = ("s3", "postgres", "mlflow", "airflow")  # what `up` can be asked for; each needs those before it
REGION = "us-east-1"
BUCKET = "ratchet"

# Variables of the caller that a service may see. All else stays out, so that a stray AIRFLOW__ or AWS_ variable of a
# shell cannot change the stack.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
)
# What nights are told by whoever starts them; the store and MLflow need none of it.
_NIGHTS = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
    "RATCHET_ALERT_URL",
    "RATCHET_CACHE_GIB",
    "RATCHET_DASK",
    "RATCHET_MEMORY_GIB",
    "RATCHET_S3_ETAGS",
    "RATCHET_SIGNING_KEY",
    "RATCHET_SIGNING_KEY_PASSWORD",
    "RATCHET_TRUSTED_KEYS",
)


def closure(groups: Iterable[str]) -> tuple[str, ...]:
    """Return the groups asked for and those that they need, in order.

    Raises:
        UsageError: there is no such group.
    """
    wanted = set(groups)
    unknown = sorted(wanted - set(GROUPS))
    if unknown:
        raise UsageError(f"no service {unknown[0]!r} in the stack; there are: {', '.join(GROUPS)}")
    return GROUPS[: max((GROUPS.index(g) for g in wanted), default=-1) + 1]


def client_environment(plan: Plan, secrets: Secrets) -> dict[str, str]:
    """Return the variables by which a client on this machine finds the services."""
    found = {
        "RATCHET_S3_ENDPOINT": f"http://{HOST}:{plan.ports['s3']}",
        "RATCHET_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": secrets.s3_key,
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    if "mlflow" in plan.ports:
        found["MLFLOW_TRACKING_URI"] = f"http://{HOST}:{plan.ports['mlflow']}"
    if "airflow" in plan.ports:
        found |= {
            "RATCHET_AIRFLOW_URL": f"http://{HOST}:{plan.ports['airflow']}",
            "RATCHET_AIRFLOW_USER": "admin",
            "RATCHET_AIRFLOW_PASSWORD": secrets.passwords["admin"],
        }
    return found


def services(folder: Folder, plan: Plan, secrets: Secrets) -> tuple[Service, ...]:
    """Declare the services of this plan."""
    plain = _base_environment(folder, plan)
    base = plain | client_environment(plan, secrets)
    found = [_s3(folder, plan, plain), _buckets(plan, base)]
    if "postgres" in plan.services:
        found.append(_postgres(folder, plan, secrets, plain))
    if "mlflow" in plan.services:
        found.append(_mlflow(plan, secrets, base))
    if "airflow" in plan.services:
        found += _airflow(folder, plan, secrets, base)
    return tuple(found)


def _base_environment(folder: Folder, plan: Plan) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    include = str(Path(__file__).resolve().parents[2])
    bin_folder = str(Path(sys.executable).parent)
    return kept | {
        "PATH": f"{bin_folder}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": include,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "RATCHET_STATE": str(folder.root),
        "RATCHET_CACHE": str(folder.root / "cache"),
        "RATCHET_HOME": str(plan.home or Path(include)),
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluation jobs of language models: eight processes less
        "DO_NOT_TRACK": "true",
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve the other processes of a small machine
        "MIMALLOC_ARENA_EAGER_COMMIT": "0",  # what Arrow reserves would count towards a limit on memory
        "OMP_NUM_THREADS": str(os.cpu_count() or 2),
        "MPLBACKEND": "Agg",
        "no_proxy": f"{HOST},localhost",
        "NO_PROXY": f"{HOST},localhost",
    }


def _s3(folder: Folder, plan: Plan, base: dict[str, str]) -> Service:
    port = plan.ports["s3"]
    return Service(
        "s3",
        (str(ministack(plan.project)),),
        base
        | {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
            "PERSIST_STATE": "1",
            "S3_PERSIST": "1",
            "STATE_DIR": str(folder.root / "s3"),
            "S3_DATA_DIR": str(folder.root / "s3" / "objects"),
            "MINISTACK_REGION": REGION,
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": "",
        },
        Http(port, "/_ministack/health"),
        last=True,
        address=f"http://{HOST}:{port}",
        patience=30.0,
    )


def _buckets(plan: Plan, base: dict[str, str]) -> Service:
    python = (sys.executable, "-m", "ratchet.stack.buckets", f"http://{HOST}:{plan.ports['s3']}")
    return Service("buckets", python, base, needs=("s3",), once=True, patience=60.0)


def ministack(project: Path) -> Path:
    """Return the S3 server's program: in an environment of its own, because it pins a botocore of its own.

    Raises:
        UsageError: it is not installed.
    """
    folder = Path(os.environ.get("RATCHET_MINISTACK") or project / ".tools" / "ministack")
    program = folder / "bin" / "ministack"
    if not program.exists():
        raise UsageError(
            f"the S3 server is not installed in {folder}: run `make setup`, or name its environment in RATCHET_MINISTACK"
        )
    return program


def _postgres(folder: Folder, plan: Plan, secrets: Secrets, base: dict[str, str]) -> Service:
    port = plan.ports["postgres"]
    command = (sys.executable, "-m", "ratchet.stack.postgres", str(folder.root / "postgres"), str(port))
    environment = base | {"RATCHET_POSTGRES_PASSWORD": secrets.postgres}
    # SIGINT: close the connections of clients, do not wait for them.
    return Service(
        "postgres",
        command,
        environment,
        Sql(port, secrets.postgres),
        stop=signal.SIGINT,
        last=True,
        patience=60.0,
        address=f"{HOST}:{port}",
    )


def _mlflow(plan: Plan, secrets: Secrets, base: dict[str, str]) -> Service:
    port = plan.ports["mlflow"]
    database = uri(plan.ports["postgres"], secrets.postgres, "mlflow")
    command = (sys.executable, "-m", "ratchet.stack.mlflow_server", "s3://mlflow", str(port))
    environment = base | {
        "RATCHET_MLFLOW_DATABASE": database,
        "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{plan.ports['s3']}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{plan.ports['s3']}",
    }
    return Service(
        "mlflow", command, environment, Http(port, "/health"), needs=("postgres",), address=f"http://{HOST}:{port}"
    )


def _airflow(folder: Folder, plan: Plan, secrets: Secrets, base: dict[str, str]) -> list[Service]:
    port = plan.ports["airflow"]
    database = uri(plan.ports["postgres"], secrets.postgres, "airflow")
    environment = base | airflow_environment(folder, plan, secrets, database)

    # Nights write their run's note, which takes no more than a user's rights.
    environment |= {"RATCHET_AIRFLOW_USER": "user", "RATCHET_AIRFLOW_PASSWORD": secrets.passwords["user"]}
    environment |= {name: os.environ[name] for name in _NIGHTS if name in os.environ}

    def airflow(name: str, *arguments: str, probe: Http | Heartbeat | None = None, **rest: object) -> Service:
        command = (sys.executable, "-m", *arguments)
        needs = ("postgres",) if rest.get("once") else ("airflow-migrate",)
        own = environment | {"RATCHET_STACK_SERVICE": name}
        return Service(name, command, own, probe, needs=needs, **rest)  # type: ignore[arg-type]

    # The scheduler's and the triggerer's own log servers would listen on every address; the api-server reads the files.
    return [
        airflow(
            "airflow-migrate",
            "airflow",
            "db",
            "migrate",
            once=True,
            mark=folder.root / "postgres" / MARK,
            mark_text=version("apache-airflow-core"),
        ),
        airflow(
            "airflow-api",
            "airflow",
            "api-server",
            # The first call to the execution API takes seconds, in which it builds its versions: let no task wait for that.
            probe=Http(port, "/execution/health"),
            address=f"http://{HOST}:{port}",
        ),
        airflow("airflow-scheduler", "ratchet.stack.scheduler", probe=Heartbeat(port, "scheduler")),
        airflow("airflow-dag-processor", "airflow", "dag-processor", probe=Heartbeat(port, "dag_processor")),
        airflow("airflow-triggerer", "airflow", "triggerer", "--skip-serve-logs", probe=Heartbeat(port, "triggerer")),
    ]
