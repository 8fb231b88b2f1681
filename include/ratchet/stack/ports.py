"""Choosing ports: the remembered one, the usual one, or a free one, and saying which and why."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratchet.errors import SettingsInvalid, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """A port that somebody connects to: its name, where people expect it, and the variable that overrides it."""

    name: str
    usual: int
    variable: str


DOORS = (
    Door("s3", 4566, "RATCHET_S3_PORT"),
    Door("postgres", 5432, "RATCHET_POSTGRES_PORT"),
    Door("mlflow", 5000, "RATCHET_MLFLOW_PORT"),
    Door("airflow", 8080, "RATCHET_AIRFLOW_PORT"),
)


@dataclass(frozen=True)
class Ports:
    """The ports chosen, and a sentence for each that is not the one a person would expect."""

    chosen: dict[str, int]
    notes: tuple[str, ...] = ()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port in TIME_WAIT is free for a server, and a listening one is still refused.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free(taken: Iterable[int] = ()) -> int:
    """Return a port that nobody listens on and that is not in ``taken``."""
    avoid = set(taken)
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port


@contextmanager
def reserved(names: Iterable[str]) -> Iterator[dict[str, int]]:
    """Choose a free port for each name, and keep them from everybody who asks for any port until the `with` block ends.

    The seconds between choosing a port and listening on it are enough for another process to be given it. A socket that is
    bound and does not listen leaves the port to a server that asks for it by its number, on Linux; elsewhere it would not,
    and nothing is kept.
    """
    with ExitStack() as held:
        found: dict[str, int] = {}
        for name in names:
            keeper = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind((HOST, 0))
            found[name] = int(keeper.getsockname()[1])
        if sys.platform != "linux":
            held.close()
        yield found


def asked_for(environment: Mapping[str, str] | None = None) -> dict[str, int]:
    """Read the ports that the environment asks for.

    Raises:
        SettingsInvalid: a variable holds no port number.
    """
    env = os.environ if environment is None else environment
    found = {}
    for door in DOORS:
        text = env.get(door.variable, "").strip()
        if not text:
            continue
        if not text.isdigit() or not 0 < int(text) < 2**16:
            raise SettingsInvalid(door.variable, text, "a port between 1 and 65535")
        found[door.name] = int(text)
    return found


def choose(names: Iterable[str], asked: Mapping[str, int], remembered: Mapping[str, int]) -> Ports:
    """Choose a port for each name.

    A port that was asked for is taken or refused; a remembered one is kept where it is still free, so that bookmarks
    live on; else the usual one, else any.

    Raises:
        UsageError: a port that was asked for is in use, or two were asked to share one.
    """
    wanted = set(names)
    chosen: dict[str, int] = {}
    notes: list[str] = []
    for door in sorted((d for d in DOORS if d.name in wanted), key=lambda d: d.name not in asked):
        if door.name in asked:
            port = asked[door.name]
            if port in chosen.values() or not is_free(port):
                raise UsageError(
                    f"port {port}, asked for {door.name} ({door.variable}), is in use on {HOST}: "
                    f"free it, or set {door.variable} to another"
                )
        else:
            port = _first_free(door, remembered.get(door.name), set(chosen.values()) | set(asked.values()), notes)
        chosen[door.name] = port
    return Ports(chosen, tuple(notes))


def _first_free(door: Door, remembered: int | None, taken: set[int], notes: list[str]) -> int:
    candidates = [p for p in (remembered, door.usual) if p is not None]
    for port in candidates:
        if port not in taken and is_free(port):
            break
    else:
        port = any_free(taken)
    if port != candidates[0]:
        notes.append(f"port {candidates[0]} is in use, so {door.name} listens on {port}")
    return port
