"""What a service is: a command, its environment, what it waits for, and how to see that it is well."""

from __future__ import annotations

import http.client
import json
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ratchet.stack.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMEOUT = 15.0  # seconds; a first answer may take some


class Probe(Protocol):
    """Asks a service how it is."""

    def __call__(self, since: float) -> str | None:
        """Return None when it is well, else what is wrong; ``since`` is when the service was started."""


@dataclass(frozen=True)
class Http:
    """Well when a GET answers 200."""

    port: int
    path: str

    def __call__(self, since: float) -> str | None:  # noqa: ARG002  the protocol's
        """Ask."""
        status, _ = _get(self.port, self.path)
        return None if status == http.client.OK else f"answers {status}" if status else "does not answer yet"


@dataclass(frozen=True)
class Heartbeat:
    """Well when Airflow's health page has a fresh heartbeat of the component."""

    port: int
    component: str

    def __call__(self, since: float) -> str | None:
        """Ask."""
        status, body = _get(self.port, "/api/v2/monitor/health")
        if status != http.client.OK:
            return "the api-server does not answer"
        found = (json.loads(body) or {}).get(self.component) or {}
        last = found.get(f"latest_{self.component}_heartbeat")
        if last is None or datetime.fromisoformat(last).timestamp() < since:
            return "has not shown a heartbeat yet"  # an earlier process's heartbeat does not count
        return None if found.get("status") == "healthy" else f"its last heartbeat was at {last}"


@dataclass(frozen=True)
class Sql:
    """Well when PostgreSQL answers a query."""

    port: int
    password: str

    def __call__(self, since: float) -> str | None:  # noqa: ARG002  the protocol's
        """Ask."""
        import psycopg2  # noqa: PLC0415  only where there is a database

        try:
            connection = psycopg2.connect(
                host=HOST,
                port=self.port,
                user="ratchet",
                password=self.password,
                dbname="postgres",
                connect_timeout=3,
            )
        except psycopg2.Error as exc:
            return str(exc).strip().splitlines()[-1][:200]
        connection.close()
        return None


@dataclass(frozen=True)
class Service:
    """One process of the stack.

    ``once``: it prepares something and ends with status 0, instead of staying.
    ``mark``: a file whose text, ``mark_text``, says that this need not be done again.
    ``patience``: seconds that it may take to become well before it counts as failed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    probe: Probe | None = None
    needs: tuple[str, ...] = ()
    once: bool = False
    mark: Path | None = None
    mark_text: str = ""
    patience: float = 180.0
    stop: int = signal.SIGTERM
    last: bool = False  # stopped after the others, which may still be writing to it
    address: str | None = None

    def log(self, logs: Path) -> Path:
        """Return the file that its output goes to."""
        return logs / f"{self.name}.log"


def _get(port: int, path: str) -> tuple[int | None, Any]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None, b""
    finally:
        connection.close()
