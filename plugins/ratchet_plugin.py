"""Airflow plugin: Ratchet's pages, and where the UI shows them."""

from __future__ import annotations

import sys
from typing import Any

from airflow.plugins_manager import AirflowPlugin


def _pages() -> list[dict[str, Any]]:
    """Return the web app, in the api-server only: the other processes have no use for it."""
    if "airflow.api_fastapi.app" not in sys.modules:
        return []
    from ratchet.ui.app import app  # noqa: PLC0415

    return [{"app": app, "url_prefix": "/ratchet", "name": "Ratchet"}]


class RatchetPlugin(AirflowPlugin):
    """Registrations only."""

    name = "ratchet"
    fastapi_apps = _pages()
    external_views = [
        {"name": "Ratchet", "href": "/ratchet/", "destination": "nav", "category": "browse"},
        {"name": "Nights", "href": "/ratchet/pipelines/{DAG_ID}", "destination": "dag", "url_route": "ratchet-nights"},
    ]
