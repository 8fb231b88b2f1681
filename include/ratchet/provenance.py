"""Which code a run was made by."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

_DECIDE = (
    "domain",
    "steps",
    "adapters",
    "spec.py",
    "ports.py",
)  # the parts of this package that a result can depend on
_SHOW = "report"  # the page of a night tells of its result and decides nothing
_LIBRARIES = ("duckdb", "great-expectations", "numpy", "pyarrow", "scikit-learn", "scipy", "xgboost")


def libraries() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


@functools.cache
def code_digest() -> str:
    """Return the sha256 of the code and library versions that decide a night's result."""
    root = Path(__file__).parent
    seen = hashlib.sha256(repr(sorted(libraries().items())).encode())
    for part in _DECIDE:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if _SHOW in path.relative_to(root).parts:
                continue
            seen.update(f"{path.relative_to(root).as_posix()}\0".encode())
            seen.update(path.read_bytes())
    return seen.hexdigest()
