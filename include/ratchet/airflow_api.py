"""A small client of Airflow's public REST API: what the demo and the nightly note need of it."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from ratchet.errors import ServiceError, ServiceRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

_TRIES = 5


class AirflowApi:
    """Speaks to one Airflow as one user.

    Args:
        url: of the api-server.
        user: who asks.
        password: of that user, for the simple auth manager's token endpoint.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}

    @cached_property
    def _client(self) -> httpx.Client:
        client = httpx.Client(base_url=self.url, timeout=30)
        reply = client.post("/auth/token", json=self._login)
        if reply.status_code != httpx.codes.CREATED:
            raise ServiceRefused("Airflow", f"logging in to {self.url} as {self._login['username']}", reply.text[:200])
        client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"
        return client

    def request(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request and return the reply's JSON; what may pass is tried again.

        Raises:
            ServiceError: Airflow did not answer. ServiceRefused: it answered no.
        """
        for tries in range(1, _TRIES + 1):
            try:
                reply = self._client.request(method, f"/api/v2{path}", json=json, params=params)
            except httpx.TransportError as exc:
                if tries == _TRIES:
                    raise ServiceError("Airflow", f"{method} {self.url}/api/v2{path}", exc) from exc
            else:
                if reply.status_code < httpx.codes.BAD_REQUEST:
                    return reply.json() if reply.content else None
                if reply.status_code < httpx.codes.INTERNAL_SERVER_ERROR or tries == _TRIES:
                    raise ServiceRefused(
                        "Airflow", f"{method} {self.url}/api/v2{path}", f"{reply.status_code} {reply.text[:500]}"
                    )
            time.sleep(0.5 * tries)
        raise AssertionError  # the last try either returned or raised

    def wait_for_dag(self, dag: str, seconds: float = 120) -> None:
        """Wait until Airflow has parsed a DAG.

        Raises:
            ServiceError: it has not; with its import error where there is one.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                self.request("GET", f"/dags/{dag}")
            except ServiceRefused as exc:
                if time.monotonic() > end:
                    errors = self.request("GET", "/importErrors")["import_errors"]
                    raise ServiceError(
                        "Airflow", f"parsing DAG {dag}", "; ".join(e["stack_trace"][-500:] for e in errors) or exc
                    ) from exc
                time.sleep(1)
            else:
                return

    def unpause(self, dag: str) -> None:
        """Let the scheduler run a DAG."""
        self.request("PATCH", f"/dags/{dag}", json={"is_paused": False})

    def backfill(self, dag: str, first: date, last: date, conf: Mapping[str, Any] | None = None) -> int:
        """Ask for one run per date, in order and one at a time; return the backfill's id."""
        body = {
            "dag_id": dag,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T23:59:59Z",
            "max_active_runs": 1,
            "reprocess_behavior": "completed",
            "dag_run_conf": dict(conf or {}),
        }
        return int(self.request("POST", "/backfills", json=body)["id"])

    def backfill_done(self, backfill: int) -> bool:
        """Say whether a backfill has no run left."""
        return self.request("GET", f"/backfills/{backfill}")["completed_at"] is not None

    def runs(self, dag: str, **filters: Any) -> list[dict[str, Any]]:
        """Return runs of a DAG, oldest date first."""
        found: list[dict[str, Any]] = self.request(
            "GET", f"/dags/{dag}/dagRuns", params={"limit": 100, "order_by": "run_after", **filters}
        )["dag_runs"]
        return found

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        found: list[dict[str, Any]] = self.request("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return found
