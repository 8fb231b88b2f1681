"""The run's note: how the night came out, where the grid shows it. Written by Airflow's API as a user of its own.

``RATCHET_AIRFLOW_URL``, ``RATCHET_AIRFLOW_USER`` and ``RATCHET_AIRFLOW_PASSWORD`` name the API and who speaks; a plain user will do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from ratchet.errors import RatchetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratchet.airflow_api import AirflowApi

_LONGEST = 1000  # characters that Airflow keeps


def write(
    dag_id: str, run_id: str, note: str, say: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> bool:
    """Write a run's note. A note that cannot be written is said, and fails nothing."""
    airflow = api(environment)
    if airflow is None:
        say(f"no note is written, for RATCHET_AIRFLOW_URL, _USER and _PASSWORD are not set; it would say: {note}")
        return False
    path = run_path(dag_id, run_id)
    try:
        airflow.request("PATCH", path, json={"note": note[:_LONGEST]}, params={"update_mask": "note"})
    except (RatchetError, OSError, ValueError) as exc:
        say(f"the note could not be written ({type(exc).__name__}: {exc}); it would say: {note}")
        return False
    return True


def api(environment: Mapping[str, str] | None = None) -> AirflowApi | None:
    """Return Airflow's API, where the environment says who speaks."""
    from ratchet.airflow_api import AirflowApi  # noqa: PLC0415  only when a night ends

    env = os.environ if environment is None else environment
    url, user, password = (env.get(f"RATCHET_AIRFLOW_{name}", "") for name in ("URL", "USER", "PASSWORD"))
    return AirflowApi(url, user, password) if url and user and password else None


def run_path(dag_id: str, run_id: str) -> str:
    """Return a run's path in the API."""
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
