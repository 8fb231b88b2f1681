"""A version's card among the plugin's pages."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from fakes import MemoryRegistry, MemoryStore
from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.report import HtmlReporter


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A browser of somebody who may read everything, and a registry with one version of an old night."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from ratchet.ui import app as pages

    store, registry = MemoryStore(tmp_path / "objects"), MemoryRegistry(tmp_path / "models")
    run = registry.start_run("flight_delay", "k", "<script>", {})
    facts = {"run_key": "k", "artifact_digest": "d", "seen_through": date(2013, 6, 1), "cutoff": date(2013, 6, 8)}
    registry.register("flight_delay", facts, run)
    found = SimpleNamespace(store=store, registry=registry, ledger=ObjectLedger(store), reporter=HtmlReporter())
    monkeypatch.setattr(pages, "_wiring", lambda: SimpleNamespace(services=lambda: found))
    overrides = {get_user: lambda: "vic", pages.may_read.dependency: lambda: None}
    monkeypatch.setattr(pages.app, "dependency_overrides", overrides)
    return TestClient(pages.app, raise_server_exceptions=False)


def test_a_card_is_gathered_when_somebody_looks(client):
    """Of an old version too: what is not on record is said, and the page could run no script."""
    page = client.get("/cards/flight_delay/1.html")
    assert page.status_code == 200
    assert "never served: no entry of the ledger names it" in page.text
    assert "No record of the night that made it is left" in page.text
    assert "sandbox" in page.headers["content-security-policy"]


def test_a_version_that_is_not_there_is_said(client):
    """With those that there are."""
    page = client.get("/cards/flight_delay/7.html")
    assert page.status_code == 404
    assert "the registry has no version 7; the newest are 1" in page.text
    assert client.get("/cards/flight_delay/x.html").status_code == 404
