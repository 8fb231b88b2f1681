"""Which code a run was made by."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_DECIDE = ("domain", "steps", "adapters", "spec.py", "tables.py", "ports.py")  # where a result is decided
# Not there: what tells of results, keeps or deletes them, or acts on a champion. Models and verdicts are the same whatever these
# do, so a change in them must neither make a night anew nor take back what has been proved of a recipe.
_DECIDE_NOTHING = frozenset(
    {
        *(f"domain/{name}.py" for name in ("alerts", "layout", "policies", "retention", "watch")),
        *(f"steps/{name}.py" for name in ("adopt", "alerts", "approve", "audit", "crew", "fitness", "freeze")),
        *(
            f"steps/{name}.py"
            for name in (
                "history",
                "overdue",
                "overview",
                "promote",
                "prune",
                "release",
                "replay",
                "report",
                "reproduce",
                "rollback",
            )
        ),
        *(f"steps/{name}.py" for name in ("card", "card_limits", "card_metrics", "card_sections")),
        *(f"steps/{name}.py" for name in ("explain", "explain_row")),
        *(f"steps/{name}.py" for name in ("route", "uncertainty", "versions", "watch", "whatif")),
        "domain/cards.py",
        "domain/day_sums.py",
        "domain/explanations.py",
        "domain/rivals.py",
        "adapters/xgb_shap.py",
        *(f"adapters/{name}.py" for name in ("alerts", "ledger", "mlflow", "s3", "sandbox", "signing")),
        *(f"adapters/report/{name}.py" for name in ("comparison", "figures", "figures_lists", "figures_values")),
        *(
            f"adapters/report/{name}.py"
            for name in ("__init__", "card", "drift", "history", "page", "replay", "sides", "svg", "view", "words")
        ),
    }
)
_LIBRARIES = ("duckdb", "great-expectations", "numpy", "pyarrow", "scikit-learn", "scipy", "xgboost")


def libraries() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    return {"python": platform.python_version(), **_versions()}


@functools.cache  # each is looked for among all that is installed, and its description parsed
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


def machine() -> str:
    """Return the kind of processor and system: sums may be rounded differently on another."""
    return f"{platform.machine()} {platform.system()}"


def cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many processors this process may keep busy: those that the system lets it use, and its container's share of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return min(allowed, max(int(share) // int(period), 1))
    except (OSError, ValueError):  # no container, or one without a limit, which says max
        return allowed


@functools.cache
def commit() -> dict[str, Any]:
    """Return ``commit`` and ``dirty`` of the code; an image built without its history names it in ``RATCHET_COMMIT``."""
    told = os.environ.get("RATCHET_COMMIT")
    if told:
        return {"commit": told, "dirty": False}

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return {}


@functools.cache
def code_digest() -> str:
    """Return the sha256 of the code and library versions that decide a night's result."""
    return digest_of(Path(__file__).parent)


def digest_of(root: Path) -> str:
    """Return the sha256 of a package's code that decides, and of the library versions."""
    seen = hashlib.sha256(repr(sorted(libraries().items())).encode())
    for part in _DECIDE:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            name = path.relative_to(root).as_posix()
            if name not in _DECIDE_NOTHING:
                seen.update(f"{name}\0".encode())
                seen.update(path.read_bytes())
    return seen.hexdigest()
