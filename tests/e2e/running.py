"""A running Airflow, as its users see it."""

from __future__ import annotations

import json
import time
from datetime import date
from urllib.parse import quote

import httpx

from ratchet import wiring
from ratchet.airflow_api import AirflowApi
from ratchet.settings import settings

NIGHTLY, GUARDED, PATIENT, SEGMENTED, SEARCHED = "flight_delay", "guarded", "patient", "segmented", "searched"
LAST = date(2013, 4, 12)  # a day whose file is broken


class Airflow:
    """The running Airflow, as its admin sees it, or another of its users."""

    def __init__(self, running):
        env = running.environment
        self.url = env["RATCHET_AIRFLOW_URL"]
        self.api = AirflowApi(self.url, env["RATCHET_AIRFLOW_USER"], env["RATCHET_AIRFLOW_PASSWORD"])
        self.passwords = json.loads((running.state / "airflow" / "passwords.json").read_text())
        self.services = wiring.services(settings(env))
        self.store = self.services.store

    def user(self, name):
        """Return the API as another user sees it."""
        return AirflowApi(self.url, name, self.passwords[name])

    def trigger(self, dag=NIGHTLY, user="admin", **conf):
        """Trigger a run by hand and return its id."""
        body = {"logical_date": None, "conf": conf}
        return self.user(user).request("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"]

    def states(self, run, dag=NIGHTLY):
        """Return the tasks' states."""
        return {task["task_id"]: task["state"] for task in self.api.tasks(dag, run)}

    def finished(self, run, dag=NIGHTLY):
        """Wait for a run; return it with its tasks' states under ``tasks``."""
        end = time.monotonic() + 600
        while True:
            found = self.api.request("GET", f"/dags/{dag}/dagRuns/{run}")
            if found["state"] in {"success", "failed"}:
                return found | {"tasks": self.states(run, dag)}
            assert time.monotonic() < end, f"{run} is still {found['state']}: {self.states(run, dag)}"
            time.sleep(0.5)

    def asked(self, run, dag=GUARDED):
        """Wait until a run asks for a person; return the question."""
        end = time.monotonic() + 600
        while (state := self.states(run, dag)["approve"]) != "awaiting_input":
            assert time.monotonic() < end, f"{run} asks nobody: approve is {state}"
            time.sleep(0.5)
        return self.api.request("GET", self.question(run, dag))

    def question(self, run, dag=GUARDED):
        """Return the question's path in the API."""
        return f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/approve/-1/hitlDetails"

    def answer(self, run, option, reason, user="user"):
        """Answer a question as a user."""
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        return self.user(user).request("PATCH", self.question(run), json=body)

    def link(self, run, task, name, dag=NIGHTLY):
        """Return the address behind a button of a task."""
        return self.api.request("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"][name]

    def news(self, dag):
        """Return what was told of new champions by a DAG, oldest first."""
        found = self.api.request("GET", "/assets/events", params={"source_dag_id": dag, "order_by": "timestamp"})
        return found["asset_events"]

    def get(self, url, user=None):
        """Fetch a page as a user, or as nobody."""
        headers = {}
        if user:
            login = {"username": user, "password": self.passwords[user]}
            token = httpx.post(f"{self.url}/auth/token", json=login, trust_env=False).json()["access_token"]
            headers["Authorization"] = f"Bearer {token}"
        return httpx.get(url, headers=headers, trust_env=False, timeout=30)
