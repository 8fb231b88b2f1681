"""Where the services are, when Airflow knows: its connections become the environment that the settings are read from."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

S3, MLFLOW = "ratchet_s3", "ratchet_mlflow"


def environment() -> dict[str, str]:
    """Return what the connections add to the environment, by the names of the variables that say the same.

    ``ratchet_s3`` is an aws connection (``endpoint_url``, ``region_name`` and ``bucket_name`` in its extra), ``ratchet_mlflow``
    an http connection. The environment speaks first: a service that it names is not looked up, which saves every task two
    calls; a connection that does not exist adds nothing.
    """
    found: dict[str, str | None] = {}
    for name, variable, read in ((S3, "RATCHET_S3_ENDPOINT", _s3), (MLFLOW, "MLFLOW_TRACKING_URI", _mlflow)):
        if not os.environ.get(variable):
            connection = _connection(name)
            if connection is not None:
                found |= read(connection)
    return {key: value for key, value in found.items() if value}


def use(found: dict[str, str]) -> None:
    """Hand the connections to this process; a task has one of its own."""
    os.environ.update(found)


def _connection(name: str) -> Any | None:
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return None


def _s3(connection: Any) -> dict[str, str | None]:
    extra = connection.extra_dejson
    return {
        "RATCHET_S3_ENDPOINT": extra.get("endpoint_url")
        or (connection.host if "://" in (connection.host or "") else None),
        "RATCHET_BUCKET": extra.get("bucket_name"),
        "AWS_ACCESS_KEY_ID": connection.login,
        "AWS_SECRET_ACCESS_KEY": connection.password,
        "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
        "AWS_DEFAULT_REGION": extra.get("region_name"),
    }


def _mlflow(connection: Any) -> dict[str, str | None]:
    host, scheme = connection.host or "", connection.schema or "http"
    address = host if "://" in host else f"{scheme}://{host}"
    return {
        "MLFLOW_TRACKING_URI": (f"{address}:{connection.port}" if connection.port else address) if host else None,
        "MLFLOW_TRACKING_USERNAME": connection.login,
        "MLFLOW_TRACKING_PASSWORD": connection.password,
    }
