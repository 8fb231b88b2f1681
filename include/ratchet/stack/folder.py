"""The state folder: everything that the stack writes lies in it, readable by its owner only."""

from __future__ import annotations

import base64
import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ratchet.domain.records import Record
from ratchet.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

R = TypeVar("R", bound=Record)

ROLES = ("admin", "op", "user", "viewer")  # a user of each role, named after it


class Secrets(Record):
    """What was generated once for this folder; nothing has a default password."""

    passwords: dict[str, str]  # Airflow's users
    jwt: str
    session: str
    fernet: str
    postgres: str
    s3_key: str
    s3_secret: str

    @classmethod
    def generate(cls) -> Secrets:
        """Draw new ones."""
        return cls(
            passwords={role: secrets.token_urlsafe(12) for role in ROLES},
            jwt=secrets.token_urlsafe(48),
            session=secrets.token_urlsafe(32),
            fernet=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            postgres=secrets.token_urlsafe(24),
            s3_key="RATCHET" + secrets.token_hex(6).upper(),
            s3_secret=secrets.token_urlsafe(30),
        )


class Plan(Record):
    """What `up` decided: which services on which ports, and where the project's DAGs and plugins are."""

    services: tuple[str, ...]
    ports: dict[str, int]
    project: Path
    dags: Path
    plugins: Path
    home: Path | None = None  # RATCHET_HOME, where the user keeps pipelines in a repository of their own
    owner: int | None = None  # a test's process: the stack ends with it
    revision: int = 0  # counts what `up` asked for, so that it can tell an answer from what was written before


@dataclass(frozen=True)
class Folder:
    """Paths inside the state folder."""

    root: Path

    @property
    def plan(self) -> Path:
        """What `up` decided."""
        return self.root / "plan.json"

    @property
    def run(self) -> Path:
        """What the supervisor last saw."""
        return self.root / "run.json"

    @property
    def secrets(self) -> Path:
        """Generated passwords and keys."""
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        """One log file per service."""
        return self.root / "logs"

    @property
    def env(self) -> Path:
        """Variables for clients, to be read by a shell."""
        return self.root / "env"

    @property
    def airflow(self) -> Path:
        """Airflow's own home."""
        return self.root / "airflow"

    @property
    def preload(self) -> Path:
        """What the workers' parent process has imported."""
        return self.root / "preload.json"

    def make(self) -> None:
        """Create the folder and its parts, closed to others."""
        try:
            for path in (self.root, self.logs, self.airflow, self.root / "s3" / "objects"):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)
        except OSError as exc:
            raise ServiceError("stack", f"making the state folder {self.root}", exc) from exc

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one `up` or `down` at a time change this folder."""
        import fcntl  # noqa: PLC0415  not on Windows, where `ratchet run` should still work

        self.make()
        with (self.root / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise ServiceError(
                    "stack", "starting or stopping it", "another `ratchet up` or `down` is at it"
                ) from exc
            yield


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
    temporary.replace(path)


def save(path: Path, record: Record) -> None:
    """Write a record as JSON."""
    write_private(path, record.model_dump_json(indent=1) + "\n")


def load(path: Path, kind: type[R]) -> R | None:
    """Read a record; None where there is none, or only what another version of Ratchet or a full disk has left."""
    try:
        return kind.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def load_json(path: Path) -> Any:
    """Read plain JSON; None where there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def secrets_of(folder: Folder) -> Secrets:
    """Return the folder's secrets, drawing them the first time.

    Raises:
        ServiceError: the file is there but cannot be read: to draw new ones would lock everybody out of the old data.
    """
    known = load_json(folder.secrets)
    if known is None and folder.secrets.exists():
        raise ServiceError(
            "stack", f"reading {folder.secrets}", "it is damaged; restore it, or remove the state folder"
        )
    found = Secrets.model_validate(Secrets.generate().model_dump() | (known or {}))  # a later version may need one more
    if found.model_dump() != known:
        save(folder.secrets, found)
    return found
