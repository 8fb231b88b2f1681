"""The declared services: what needs what, what they are told, and what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ratchet.errors import UsageError
from ratchet.settings import settings
from ratchet.stack import catalogue
from ratchet.stack.folder import Folder, Plan, Secrets
from ratchet.stack.ports import DOORS

SECRETS = Secrets.generate()


@pytest.fixture
def services(tmp_path, monkeypatch):
    """Return all services by name, declared for a folder that does not exist."""
    (tmp_path / "ministack" / "bin").mkdir(parents=True)
    (tmp_path / "ministack" / "bin" / "ministack").touch()
    monkeypatch.setenv("RATCHET_MINISTACK", str(tmp_path / "ministack"))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("RATCHET_SIGNING_KEY", "/keys/promoter.pem")
    plan = Plan(
        services=catalogue.GROUPS,
        ports={d.name: d.usual for d in DOORS},
        project=tmp_path,
        dags=tmp_path / "dags",
        plugins=tmp_path / "plugins",
    )
    return {s.name: s for s in catalogue.services(Folder(tmp_path / "state"), plan, SECRETS)}


def test_a_service_brings_what_it_needs():
    """To ask for MLflow is to ask for its store and its database."""
    assert catalogue.closure(["mlflow"]) == ("s3", "postgres", "mlflow")
    assert catalogue.closure(["s3"]) == ("s3",)


def test_an_unknown_service_is_refused_with_the_choices():
    """The message lists what there is."""
    with pytest.raises(UsageError, match=r"'minio'.*s3, postgres, mlflow, airflow"):
        catalogue.closure(["minio"])


def test_every_need_is_declared_before_it_is_needed(services):
    """So the supervisor can never wait for itself."""
    seen = set()
    for service in services.values():
        assert set(service.needs) <= seen
        seen.add(service.name)


def test_every_lasting_service_has_a_probe(services):
    """A service that cannot be asked cannot be said to be well."""
    assert [s.name for s in services.values() if not s.once and s.probe is None] == []


def test_stray_variables_of_the_shell_do_not_reach_the_services(services):
    """An operator's AWS profile or Airflow setting changes nothing."""
    for service in services.values():
        assert "AWS_PROFILE" not in service.environment
        assert service.environment.get("AIRFLOW__CORE__EXECUTOR", "LocalExecutor") == "LocalExecutor"


def test_nights_are_told_the_signing_key_and_nobody_else_is(services):
    """The store that holds the ledger has no business with the key that signs it."""
    told = {name for name, service in services.items() if "RATCHET_SIGNING_KEY" in service.environment}
    assert told
    assert all(name.startswith("airflow") for name in told)


def test_nights_are_told_what_the_command_line_settles_for_itself(services):
    """Threads that wait do not spin, and Arrow reserves no gibibyte that a limit on memory would count."""
    settled = {"OMP_WAIT_POLICY": "PASSIVE", "MIMALLOC_ARENA_EAGER_COMMIT": "0"}
    for name in ("airflow-scheduler", "airflow-triggerer"):
        assert settled.items() <= services[name].environment.items()


def test_no_secret_is_on_a_command_line(services):
    """Everybody on the machine can read those."""
    words = " ".join(" ".join(s.command) for s in services.values())
    for secret in (SECRETS.postgres, SECRETS.s3_secret, SECRETS.jwt, *SECRETS.passwords.values()):
        assert secret not in words


def test_everything_listens_on_the_loopback_address(services):
    """No address is 0.0.0.0, and Airflow's extra log servers are off."""
    assert services["s3"].environment["BIND_HOST"] == "127.0.0.1"
    assert services["airflow-api"].environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert "--skip-serve-logs" in services["airflow-triggerer"].command


def test_tasks_are_users_of_airflow_not_its_admins(services):
    """A pipeline's code does not hold the administrator's password."""
    assert services["airflow-scheduler"].environment["RATCHET_AIRFLOW_USER"] == "user"
    assert SECRETS.passwords["admin"] not in services["airflow-scheduler"].environment.values()


def test_a_missing_s3_server_is_said_with_what_to_do(tmp_path, monkeypatch):
    """`make setup` is named."""
    monkeypatch.delenv("RATCHET_MINISTACK", raising=False)
    with pytest.raises(UsageError, match="make setup"):
        catalogue.ministack(tmp_path)


def test_every_setting_of_a_night_reaches_it():
    """Whatever the settings read beside the services' own addresses is handed to the nights, by `ratchet up` and in containers."""
    asked = set()

    class Asked(dict):
        def get(self, name, default=None):
            asked.add(name)
            return default

    settings(Asked())
    ours = {name for name in asked if name.startswith("RATCHET_")}
    ours -= {"RATCHET_S3_ENDPOINT", "RATCHET_BUCKET", "RATCHET_CACHE"}  # the stack's own
    dask = {name for name in catalogue._NIGHTS if name.startswith("DASK_DISTRIBUTED__COMM__TLS__")}  # Dask's own names
    assert ours == set(catalogue._NIGHTS) - dask
    compose = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yaml").read_text())
    assert ours | dask <= set(compose["x-airflow"]["environment"])
