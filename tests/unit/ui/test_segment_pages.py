"""The pages of segments, and the overview of many pipelines from their index."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from fakes import MemoryStore
from ratchet.adapters.ledger import ObjectLedger
from ratchet.cli.show import tell_segments
from ratchet.domain import layout
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.domain.segments import SegmentsResult, SegmentStanding
from ratchet.steps import overview
from ratchet.ui.overview import overview as look_at_all

DAY = date(2013, 6, 1)
MADE = SegmentsResult(
    pipeline="flight_delay",
    cutoff=DAY,
    run_key="k" * 64,
    by="origin",
    rows=1000,
    of_none=7,
    champion=3,
    segments=(
        SegmentStanding(value="<b>EWR</b>", slug="ewr-0123456789", rows=600, champion=2, outcome="promoted"),
        SegmentStanding(value="JFK", slug="jfk-0123456789", rows=300, outcome="failed", reason="OSError: full"),
        SegmentStanding(value="tiny", slug="tiny", rows=93, why="93 rows to fit on, segments.min_rows is 1000"),
    ),
)


class Counting(MemoryStore):
    """A store that counts what is read."""

    gets = 0

    def get(self, uri):
        """See ``ports.ObjectStore.get``."""
        Counting.gets += 1
        return super().get(uri)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A browser of somebody who may read everything."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from ratchet.ui import app as pages

    store = Counting(tmp_path)
    found = SimpleNamespace(store=store, ledger=ObjectLedger(store))
    wired = SimpleNamespace(services=lambda: found, object_store=lambda: store)
    monkeypatch.setattr(pages, "_wiring", lambda: wired)
    monkeypatch.setattr(pages, "get_auth_manager", lambda: SimpleNamespace(is_authorized_dag=lambda **_: True))
    monkeypatch.setattr(pages, "pipeline_names", lambda _home: ("flight_delay",))
    monkeypatch.setattr(
        pages.app, "dependency_overrides", {get_user: lambda: "vic", pages.may_read.dependency: lambda: None}
    )
    made = TestClient(pages.app, raise_server_exceptions=False)
    made.store, made.found, made.pages = store, found, pages
    store.put(layout.segments_of("flight_delay", DAY, "abc"), MADE.model_dump_json().encode())
    return made


def entry(**given):
    """Return the first entry of a ledger."""
    champion = Champion(
        version=3, run_key="k", mlflow_run_id="r", artifact_digest="a" * 64, seen_through=DAY, cutoff=DAY
    )
    facts = {"seq": 1, "previous": GENESIS, "pipeline": "flight_delay", "action": "bootstrap", "champion": champion}
    return LedgerEntry(
        **{**facts, "judged_through": DAY, "actor": "x", "reason": "", "at": "2013-06-02T03:00:00+00:00", **given}
    ).sealed()


def test_segments_are_listed_with_who_serves_each(client):
    """The page says who serves whom and why, escapes the values, and leads to each segment's own page."""
    page = client.get("/pipelines/flight_delay/segments").text
    assert "1 of 3 segments are served by a champion of their own" in page
    assert "&lt;b&gt;EWR&lt;/b&gt;" in page
    assert "<b>EWR</b>" not in page
    assert "/pipelines/flight_delay--ewr-0123456789" in page
    assert "segments.min_rows is 1000" in page
    only = client.get("/pipelines/flight_delay/segments?show=failed").text
    assert "JFK" in only
    assert "tiny" not in only.partition("<table>")[2]


def test_a_segment_is_served_by_nobody_where_there_is_no_global_champion(client, capsys):
    """Neither the page nor the command line names a champion that there is not."""
    alone = MADE.model_copy(update={"champion": None})
    client.store.put(layout.segments_of("flight_delay", DAY, "abc"), alone.model_dump_json().encode())
    page = client.get("/pipelines/flight_delay/segments").text
    assert "the others by nobody yet" in page
    assert "nobody yet serves them" in page
    assert '<td class="number">nobody yet</td>' in page
    tell_segments(alone)
    told = capsys.readouterr().out
    assert "nobody yet" in told
    assert "global v" not in told


def test_a_segment_has_a_page_of_its_own(client):
    """It shows the segment's ledger, and leads back to its pipeline; so does a report of its nights."""
    client.store.put(
        layout.ledger_entry("flight_delay--tiny", 1), entry(pipeline="flight_delay--tiny").as_json().encode()
    )
    page = client.get("/pipelines/flight_delay--tiny")
    assert page.status_code == 200
    assert "Champion: version 3" in page.text
    assert "/pipelines/flight_delay/segments" in page.text
    key = layout.report("flight_delay--tiny", DAY, "abc")
    client.store.put(key, b"<html>tonight</html>")
    assert client.get(f"/{key}").text == "<html>tonight</html>"
    assert client.get("/pipelines/flight_delay--NO").status_code == 404


def test_who_may_not_read_a_pipeline_may_not_read_its_segments(client, monkeypatch):
    """Airflow is asked about the pipeline's DAG, whichever of its models is looked at."""
    asked = []
    monkeypatch.setattr(
        client.pages,
        "requires_access_dag",
        lambda _method, param_dag_id: lambda _request, _user: asked.append(param_dag_id),
    )
    del client.pages.app.dependency_overrides[client.pages.may_read.dependency]
    assert client.get("/pipelines/flight_delay--tiny").status_code == 200
    assert asked == ["flight_delay"]


def test_the_overview_reads_one_small_object_each_and_only_what_has_changed(client, monkeypatch):
    """Of two hundred pipelines a page shows a hundred, from their index; looked at again, it reads none a second time."""
    names = [f"p{n:03d}" for n in range(200)]
    monkeypatch.setattr(client.pages, "pipeline_names", lambda _home: tuple(names))
    for name in names:
        overview.keep(client.found, overview.shown(name, [entry(pipeline=name)], []))
    Counting.gets = 0
    first = client.get("/").text
    assert Counting.gets == 100
    assert "200 pipelines; page 1 of 2" in first
    assert "p099" in first
    assert "p100" not in first
    overview.keep(client.found, overview.shown("p007", [], []))
    Counting.gets = 0
    assert "No champion yet" in client.get("/").text
    assert Counting.gets == 1
    assert "p199" in client.get("/?page=2").text
    assert client.get("/?page=nonsense").status_code == 200


def test_the_index_follows_ledger_and_segments(client):
    """A turn, a freeze and the nights of the segments are shown without waiting for the next night."""
    overview.keep(client.found, overview.shown("flight_delay", [], []))
    overview.turned(client.found, "flight_delay", [entry()])
    overview.segmented(client.found, MADE)
    page = client.get("/").text
    assert "Champion: version 3" in page
    assert "3 segments" in page
    assert "1 went wrong" in page


def test_a_freeze_that_is_over_is_not_shown(client):
    """The index outlives a freeze; what it says is held against today."""
    today = datetime.now(UTC).date()
    for until, held in ((today, True), (today - timedelta(days=1), False)):
        kept = overview.shown("flight_delay", [], []).model_copy(update={"frozen": "hands off", "frozen_until": until})
        overview.keep(client.found, kept)
        for _ in range(2):  # read, and remembered
            (found,) = look_at_all(client.found, ["flight_delay"])
            assert (found.frozen == "hands off") is held


def test_a_pipeline_without_an_index_is_looked_at(client):
    """Where no night has ended since there is an index, or another version wrote it, ledger and nights are read."""
    client.store.put(layout.ledger_entry("flight_delay", 1), entry().as_json().encode())
    assert "Champion: version 3" in client.get("/").text
    client.store.put(layout.overview("flight_delay"), b'{"name": "flight_delay", "colour": "red"}')
    assert "Champion: version 3" in client.get("/").text
