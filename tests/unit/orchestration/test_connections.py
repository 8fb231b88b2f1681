"""Airflow's connections fill in what the environment does not say."""

from __future__ import annotations

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException


@pytest.fixture
def connections(monkeypatch):
    """The module, over connections that are set as Airflow reads them from its environment."""
    from ratchet.orchestration import connections

    for name in ("RATCHET_S3_ENDPOINT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    known = {}

    def get(name):
        if name not in known:
            raise AirflowNotFoundException(name)
        return Connection.from_uri(known[name], conn_id=name)

    monkeypatch.setattr(connections.BaseHook, "get_connection", get)
    connections.known = known
    yield connections
    del connections.known


def test_connections_become_variables(connections):
    """The object store's and MLflow's connections say all that the settings and the SDKs read."""
    connections.known.update(
        ratchet_s3="aws://key:secret@/?endpoint_url=http%3A%2F%2Fs3%3A4566&bucket_name=models&region_name=eu-west-1",
        ratchet_mlflow="http://bob:pw@mlflow:5000",
    )
    assert connections.environment() == {
        "RATCHET_S3_ENDPOINT": "http://s3:4566",
        "RATCHET_BUCKET": "models",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLFLOW_TRACKING_USERNAME": "bob",
        "MLFLOW_TRACKING_PASSWORD": "pw",
    }


def test_missing_connections_add_nothing(connections):
    """Without connections there is only the environment."""
    assert connections.environment() == {}


def test_environment_speaks_first(connections, monkeypatch):
    """A service that the environment names is not looked up."""
    connections.known["ratchet_mlflow"] = "http://elsewhere:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here:2")
    assert connections.environment() == {}
