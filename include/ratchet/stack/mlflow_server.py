"""Runs the MLflow server in one process: ``python -m ratchet.stack.mlflow_server DESTINATION PORT``.

``mlflow server`` imports MLflow, sets the database up, then starts uvicorn, which imports MLflow again: twice the seconds
and twice the memory. This does the same in order, in one process.
"""

from __future__ import annotations

import os
import sys

from ratchet.stack.ports import HOST

# MLflow would send clients to the object store by addresses that it has signed. Ours knows no such key and refuses them; a client
# tries for minutes, and says then that the path is wrong.
_PROXIED = {"multipart_uploads_enabled": False, "multipart_downloads_enabled": False}


def main(database: str, destination: str, port: int) -> None:
    """Set the database up and serve until SIGTERM."""
    from mlflow import server

    artifacts = "mlflow-artifacts:/"  # proxied: clients need no credentials of the object store for models
    os.environ |= {
        server.BACKEND_STORE_URI_ENV_VAR: database,
        server.REGISTRY_STORE_URI_ENV_VAR: database,
        server.ARTIFACT_ROOT_ENV_VAR: artifacts,
        server.SERVE_ARTIFACTS_ENV_VAR: "true",
        server.ARTIFACTS_DESTINATION_ENV_VAR: destination,
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
    }
    from mlflow.server import handlers

    handlers.initialize_backend_stores(database, database, artifacts)
    told = handlers.build_server_info_payload
    handlers.build_server_info_payload = lambda: told() | _PROXIED  # before the app is imported, which takes it by name
    import uvicorn  # noqa: PLC0415
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host=HOST, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main(os.environ["RATCHET_MLFLOW_DATABASE"], sys.argv[1], int(sys.argv[2]))  # an argument would show the password
