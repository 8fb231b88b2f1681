"""The plugin's pages: what they show, what they escape, and what they answer when something is missing."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.domain.night import Ended, GateResult, Night, NightRequest, PromoteResult, ReportResult
from ratchet.domain.verdict import Verdict
from ratchet.errors import LedgerBroken, ObjectNotFound, SettingsInvalid

DAY = date(2013, 6, 1)
PAGE = "reports/flight_delay/2013-06-01/abc.html"


@pytest.fixture(scope="module")
def pages():
    from ratchet.ui import app

    return app


class Store:
    """An object store that is a dictionary."""

    def __init__(self, objects):
        self.objects = objects

    def list(self, prefix):
        """Yield what lies under a prefix."""
        return (SimpleNamespace(uri=key) for key in sorted(self.objects) if key.startswith(prefix))

    def get(self, key):
        """Return an object."""
        if key not in self.objects:
            raise ObjectNotFound(key)
        return self.objects[key]


@pytest.fixture
def client(pages, monkeypatch):
    """A browser of somebody who may read everything; ``client.objects`` is what the store holds."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    night = Night(
        request=NightRequest(pipeline="flight_delay", cutoff=date(2013, 6, 1), actor="<script>alert(1)</script>"),
        ended=Ended(outcome="rejected", step="validate", reason="corrupt", detail="<b>bold</b>"),
        report=ReportResult(page=PAGE, record="r"),
    )
    objects = {
        PAGE: b"<html>the night</html>",
        "nights/flight_delay/2013-06-01/abc.json": night.model_dump_json().encode(),
    }
    ledger = SimpleNamespace(entries=lambda _name: ())
    found = SimpleNamespace(store=Store(objects), ledger=ledger)
    wired = SimpleNamespace(services=lambda: found, object_store=lambda: found.store)
    monkeypatch.setattr(pages, "_wiring", lambda: wired)
    monkeypatch.setattr(pages, "get_auth_manager", lambda: SimpleNamespace(is_authorized_dag=lambda **_: True))
    monkeypatch.setattr(pages, "pipeline_names", lambda _home: ("flight_delay",))
    overrides = {get_user: lambda: "vic", pages.may_read.dependency: lambda: None}
    monkeypatch.setattr(pages.app, "dependency_overrides", overrides)
    client = TestClient(pages.app, raise_server_exceptions=False)
    client.objects, client.found, client.wired = objects, found, wired
    return client


@pytest.mark.parametrize("path", ["/", "/pipelines/flight_delay"])
def test_what_comes_from_data_is_escaped(client, path):
    """Names and reasons are shown as text, and the page could run no script anyhow."""
    page = client.get(path)
    assert page.status_code == 200
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_overview_leads_to_the_last_report(client):
    """The last night's outcome and its page are one look and one click away."""
    text = client.get("/").text
    assert "No champion yet" in text
    assert 'class="mark rejected"' in text
    assert f'href="/{PAGE}"' in text


def test_what_holds_a_promotion_back_is_shown(client):
    """Where the evidence stands, a freeze and what people should have heard of are on both pages."""
    champion = Champion(version=4, run_key="r", artifact_digest="d", cutoff=DAY, seen_through=DAY, mlflow_run_id="m")
    turn = LedgerEntry(
        seq=1, previous=GENESIS, pipeline="flight_delay", action="bootstrap", champion=champion, judged_through=DAY,
        actor="schedule", reason="", at="2013-06-01T03:00:00+00:00",
    )  # fmt: skip
    freeze = turn.model_copy(update={"seq": 2, "action": "freeze", "actor": "olga", "reason": "audit <b>week</b>"})
    client.found.ledger.entries = lambda _name: (turn, freeze)
    reason = "refreshing against holding: E = 4.47 of 20 after 9 days"
    checks = (
        Check(kind="evidence", name="brier", outcome=Outcome.UNDECIDED, reason=reason, value=4.472, limit=20.0),
        Check(kind="smoke test", name="smoke test", outcome=Outcome.PASS, reason="the same"),
    )
    night = Night(
        request=NightRequest(pipeline="flight_delay", cutoff=date(2013, 6, 2)),
        gate=GateResult(verdict=Verdict(outcome=Outcome.UNDECIDED, bootstrap=False, checks=checks)),
        promote=PromoteResult(promoted=False, entry=None, detail="", repaired="the alias was moved by hand"),
    )
    client.objects["nights/flight_delay/2013-06-02/def.json"] = night.model_dump_json().encode()
    for path in ("/", "/pipelines/flight_delay"):
        text = client.get(path).text
        assert "Champion: version 4" in text
        assert "until it is thawed, by olga (entry 2): audit &lt;b&gt;week&lt;/b&gt;" in text
        assert reason in text
        assert "50 % of the way to a decision" in text
        assert "the alias was moved by hand. <span" in text
        assert "ratchet reconcile flight_delay --adopt" in text


def test_broken_ledger_is_shown_and_hides_nothing(client):
    """A pipeline that cannot be read says why, in its own place."""

    def broken(name):
        raise LedgerBroken(name, 3, "its hash is not that of its content")

    client.found.ledger.entries = broken
    page = client.get("/")
    assert page.status_code == 200
    assert "entry 00000003" in page.text


def test_user_sees_only_what_they_may(client, pages, monkeypatch):
    """A pipeline whose DAG a user may not read is not named."""
    monkeypatch.setattr(pages, "get_auth_manager", lambda: SimpleNamespace(is_authorized_dag=lambda **_: False))
    assert "flight_delay" not in client.get("/").text


def test_report_is_served_in_a_sandbox(client):
    """A stored page is served as it is, with an origin of its own and without scripts."""
    page = client.get(f"/{PAGE}")
    assert page.content == b"<html>the night</html>"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/reports/flight_delay/2013-06-02/abc.html",
        "/reports/flight_delay/2013-06-01/%2E%2E%2Fsecret.html",
        "/reports/flight_delay/..%2F..%2Fledger/2013-06-01/abc.html",
        "/reports/Flight/2013-06-01/abc.html",
        "/reports/flight_delay/yesterday/abc.html",
        "/data_docs/flight_delay/zz/abc.html",
        "/pipelines/unknown",
        "/elsewhere",
    ],
)
def test_missing_pages_are_answered_in_words(client, path):
    """Nothing outside the pages that nights leave behind can be reached."""
    page = client.get(path)
    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text


def test_missing_settings_tell_no_secrets(client, pages, monkeypatch):
    """A reader learns that something is not set up, not what was found there."""

    def unset():
        raise SettingsInvalid("MLFLOW_TRACKING_URI", "http://user:secret@mlflow", "an address")

    monkeypatch.setattr(client.wired, "services", unset)
    page = client.get("/")
    assert page.status_code == 503
    assert "secret" not in page.text


def with_data(client, **left_out):
    """Store a night that has read three days, and the manifest of its snapshot."""
    from ratchet.domain.findings import Finding
    from ratchet.domain.night import SnapshotResult, ValidateResult
    from ratchet.domain.snapshots import Pin, Snapshot, SnapshotDiff
    from ratchet.domain.windows import Span

    days = [date(2013, 6, d) for d in (1, 2, 3)]
    pins = tuple(
        Pin(
            uri=f"s3://lake/dt={day}/<a>.csv",
            size=9,
            etag="e",
            version=None,
            sha256=str(day.day) * 64,
            day=day,
            rows=rows,
        )
        for day, rows in zip(days, (900, 450, 880), strict=True)
    )
    snapshot = Snapshot(
        pipeline="flight_delay", cutoff=days[-1], window=Span(first=days[0], last=days[-1]), tables={"rows": pins}
    )
    late = SnapshotDiff(previous=None, late={pins[0].key: 2})
    night = Night(
        request=NightRequest(pipeline="flight_delay", cutoff=days[-1]),
        snapshot=SnapshotResult(
            digest=snapshot.digest, partitions=3, objects=3, bytes=27, rows=2230, difference=late, reused=False
        ),
        validate_=ValidateResult(
            checked=1, cached=2, warnings=(), docs="data_docs/flight_delay/abcdef01/0123.html", rows=2230,
            findings=(Finding(kind="volume", action="warn", subject="2013-06-02", words="450 rows where <900> are usual"),), **left_out,
        ),
    )  # fmt: skip
    client.objects[f"snapshots/flight_delay/{snapshot.digest}.json"] = snapshot.model_dump_json().encode()
    client.objects["nights/flight_delay/2013-06-03/def.json"] = night.model_dump_json().encode()


def test_the_data_of_a_pipeline(client):
    """Each partition of the newest snapshot stands there with what was left out of it, why, how late it came, and its Data Docs."""
    from ratchet.domain.quarantine import QuarantinedPartition, QuarantinedRows

    whole = QuarantinedPartition(partition="2013-06-02", objects=(), rows=450, reasons=("too few rows",))
    single = QuarantinedRows(
        partition="2013-06-03", content="c", objects=(), rows=7, reasons=("distance below zero",), kept="k"
    )
    with_data(client, quarantined=(whole,), quarantined_rows=(single,))
    page = client.get("/pipelines/flight_delay/data").text
    for words in (
        "too few rows",
        "distance below zero",
        ">7</span>",
        ">all</span>",
        "2 days late",
        "where &lt;900&gt; are usual",
    ):
        assert words in page
    assert page.count("Data Docs</a>") == 3
    assert '<i class="whole"' in page


def test_data_that_was_never_read(client):
    """Before any night has validated anything the page says so, and a DAG that is no pipeline is not found."""
    assert "No night has validated any data yet." in client.get("/pipelines/flight_delay/data").text
    assert client.get("/pipelines/other/data").status_code == 404
