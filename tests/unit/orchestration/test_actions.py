"""Rollback, freeze and thaw by a form: who asked is who triggered, and the run says what happened."""

from __future__ import annotations

import shutil
from datetime import date
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from stand_in import Ti

from fakes import MemoryStore
from ratchet.domain import layout
from ratchet.domain.ledger import Champion, LedgerEntry
from ratchet.domain.segments import SegmentsResult, SegmentStanding
from ratchet.errors import ActionRefused, ServiceError
from ratchet.home import default_home

CHAMPION = Champion(
    version=3,
    run_key="k3",
    artifact_digest="a" * 64,
    cutoff=date(2013, 6, 1),
    seen_through=date(2013, 6, 1),
    mlflow_run_id="r",
)


@pytest.fixture(scope="module")
def actions():
    from ratchet.orchestration import actions

    return actions


@pytest.fixture
def notes(actions, monkeypatch):
    """The notes that were written."""
    found = []
    monkeypatch.setattr(actions.notes, "write", lambda _dag, _run, note, _say: found.append(note))
    return found


@pytest.fixture
def done(actions, monkeypatch, notes, tmp_path):
    """What the steps were asked to do; they do it as the second entry of a ledger."""
    asked = []
    store = MemoryStore(tmp_path)
    night = SegmentsResult(
        pipeline="flight_delay",
        cutoff=date(2013, 6, 1),
        run_key="k",
        by="origin",
        rows=9,
        of_none=0,
        segments=(SegmentStanding(value="JFK", slug="jfk-2e17bfe259", rows=9),),
    )
    store.put(layout.segments_of("flight_delay", night.cutoff, "k"), night.model_dump_json().encode())
    services = SimpleNamespace(ledger=SimpleNamespace(entries=lambda _name: [0]), store=store)
    monkeypatch.setattr(actions, "connected", lambda: services)

    def act(action):
        def step(_services, pipeline, *, actor, reason, to=None, until=None):
            asked.append((action, getattr(pipeline, "name", pipeline), actor, reason, to or until))
            return LedgerEntry(
                seq=2,
                previous="0",
                pipeline="flight_delay",
                action=action,
                champion=CHAMPION,
                judged_through=date(2013, 6, 1),
                actor=actor,
                reason=reason,
                until=until,
                at="2013-06-02T00:00:00+00:00",
            )

        return step

    monkeypatch.setattr("ratchet.steps.rollback.roll_back", act("rollback"))
    monkeypatch.setattr("ratchet.steps.freeze.freeze", act("freeze"))
    monkeypatch.setattr("ratchet.steps.freeze.thaw", act("thaw"))
    return asked


class Alias:
    """The events of an asset that is named only now."""

    def __init__(self):
        self.told = []

    def add(self, asset, extra):
        """Remember an event."""
        self.told.append((asset.uri, extra))


@pytest.fixture
def run(actions, context):
    """Run an action's task; return the events that it told."""

    def make(action, ti=None, kind="manual", user="olga", **fields):
        given = context(ti or Ti(), pipeline="flight_delay", reason="wrong labels", **fields)
        given["dag_run"].run_type, given["dag_run"].triggering_user_name = kind, user
        given["outlet_events"] = {actions.ANY_CHAMPION: Alias()}
        actions.ActionTask(action=action, retries=2).execute(given)
        return given["outlet_events"][actions.ANY_CHAMPION].told

    return make


def test_rollback_is_in_the_name_of_who_triggered(run, done, notes):
    """The ledger gets the user whom Airflow knows, the run a note, and the DAGs that wait for a champion an event."""
    told = run("rollback", version=None)
    assert done == [("rollback", "flight_delay", "olga", "wrong labels", None)]
    assert notes == ["ROLLED BACK: version 3 serves flight_delay (ledger entry 2, by olga): wrong labels."]
    [(uri, extra)] = told
    assert uri == "x-ratchet://champion/flight_delay"
    assert (extra["version"], extra["entry"], extra["artifact_digest"]) == (3, 2, "a" * 64)


@pytest.mark.parametrize("asked", ["JFK", "jfk-2e17bfe259"])
@pytest.mark.parametrize("action", ["rollback", "freeze", "thaw"])
def test_a_segment_is_meant_by_its_value_or_slug(run, done, action, asked, tmp_path, monkeypatch):
    """Where the form names a segment, its own champion is acted on; the pipeline's is left alone."""
    home = shutil.copytree(default_home(), tmp_path / "home", ignore=shutil.ignore_patterns("ratchet"))
    with (home / "pipelines" / "flight_delay.yaml").open("a") as spec:
        spec.write("\nsegments: {by: origin}\n")
    monkeypatch.setenv("RATCHET_HOME", str(home))
    run(action, segment=asked, version=None, until=None)
    assert [name for _, name, *_ in done] == ["flight_delay--jfk-2e17bfe259"]


def test_a_segment_that_no_night_has_seen_is_refused(run, done, notes):
    """The note names those that there are, and nothing was done."""
    with pytest.raises(AirflowFailException):
        run("rollback", segment="Atlantis", version=None)
    assert notes == ["NOT DONE: flight_delay has no segment 'Atlantis'; the newest night has seen: JFK"]
    assert done == []


def test_rollback_to_a_version(run, done):
    """The form's version is the one that is asked for."""
    run("rollback", version=3)
    assert done[0][-1] == 3


def test_rollback_that_was_done_before_is_told_so(run, done, notes, actions, monkeypatch):
    """Clearing the run changes nothing, announces nothing, and says so."""
    monkeypatch.setattr(actions, "connected", lambda: SimpleNamespace(ledger=SimpleNamespace(entries=lambda _: [0, 0])))
    ti = Ti()
    ti.try_number, ti.max_tries = 2, 3
    assert run("rollback", ti, version=None) == []
    assert notes[0].endswith("It was so before this run, which changed nothing.")


def test_freeze_until_a_day(run, done, notes):
    """The form's date is a date, and no champion is announced."""
    assert run("freeze", until="2030-01-02") == []
    assert done == [("freeze", "flight_delay", "olga", "wrong labels", date(2030, 1, 2))]
    assert notes == [
        "FROZEN: nobody is promoted in flight_delay up to 2030-01-02 (ledger entry 2, by olga): wrong labels."
    ]


def test_thaw(run, done, notes):
    """A thaw needs no more than a reason."""
    run("thaw")
    assert notes == ["THAWED: promotions of flight_delay go on (ledger entry 2, by olga): wrong labels."]


@pytest.mark.parametrize(
    ("kind", "user"),
    [
        ("scheduled", None),
        ("backfill", "olga"),
        ("asset_triggered", None),
        ("operator_triggered", None),
        ("manual", None),
    ],
)
def test_only_a_person_may_ask(run, done, notes, kind, user):
    """A schedule, a backfill, an asset or another DAG cannot act in a person's name."""
    with pytest.raises(AirflowFailException, match="only a person may ask for a rollback"):
        run("rollback", kind=kind, user=user, version=None)
    assert not done
    assert notes[0].startswith("NOT DONE: only a person")


def test_refusal_fails_in_words(run, actions, done, notes, monkeypatch):
    """What cannot be done fails at once with the reason, on the run as well."""
    refused = ActionRefused("rollback", "flight_delay", "version 9 never served; there are: 3")
    monkeypatch.setattr(actions, "_act", lambda *_: (_ for _ in ()).throw(refused))
    with pytest.raises(AirflowFailException, match="version 9 never served; there are: 3") as caught:
        run("rollback", version=9)
    assert caught.value.__cause__ is None
    assert notes == ["NOT DONE: rollback of flight_delay refused: version 9 never served; there are: 3"]


def test_weather_is_left_to_the_retries(run, actions, done, monkeypatch):
    """A store that does not answer is asked again; the step finds out whether it had been done."""
    monkeypatch.setattr(actions, "_act", lambda *_: (_ for _ in ()).throw(ServiceError("object store", "put x", "503")))
    with pytest.raises(ServiceError):
        run("rollback", version=None)
