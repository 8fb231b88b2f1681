"""The tasks of the segments, run in the order in which Airflow would, over a small world: what they hand on, and which are red."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from stand_in import Ti

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "steps"))

from small_world import FIRST, NIGHT, ROWS, SPEC, SQL, SUITE, QuickTrainer, World


class Broken(QuickTrainer):
    """A trainer that cannot fit the rows of one place."""

    def fit(self, frame, *rest):
        """See ``ports.Trainer.fit``."""
        if set(frame.table["place"].to_pylist()) == {"south"}:
            raise ZeroDivisionError("no south today")
        return super().fit(frame, *rest)


class Announced(dict):
    """Outlet events of an alias: the assets that were added to it."""

    def __missing__(self, alias):
        """Begin with none."""
        self[alias] = SimpleNamespace(found=[])
        self[alias].add = lambda asset, extra: self[alias].found.append((asset.uri, extra))
        return self[alias]


class MappedTi(Ti):
    """A task instance that remembers everything that the tasks of one run hand on."""

    dag_id = "small"

    def __init__(self):
        super().__init__()
        self.kept = {}
        self.task_id = ""

    def xcom_push(self, key, value):
        """Remember what a task hands on under a key; of a mapped task all of it."""
        self.kept.setdefault((self.task_id, key), []).append(value)

    def xcom_pull(self, task_ids, key):
        """Return it; Airflow gives a list where there are several."""
        found = self.kept.get((task_ids, key), [])
        return found[0] if len(found) == 1 else found or None


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world whose pipeline has segments by place: two large ones and a sparse one; and its home."""
    home = tmp_path / "home"
    spec = yaml.safe_dump({**yaml.safe_load(SPEC), "segments": {"by": "place", "min_rows": 30}})
    for name, content in {
        "pipelines/small.yaml": spec,
        "suites/small.json": str(SUITE).replace("'", '"'),
        "features/small.sql": SQL,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    monkeypatch.setenv("RATCHET_HOME", str(home))
    made = World(tmp_path, spec)
    for i in range((NIGHT - FIRST).days + 1):
        rows, random = 2 * ROWS, np.random.default_rng(i)
        place = np.where(np.arange(rows) < 2, "islet", np.where(np.arange(rows) % 2, "north", "south"))
        x, z = random.normal(size=rows), random.normal(size=rows)
        far = np.abs(x) + 0.2 * random.normal(size=rows) > 0.7
        day = FIRST.fromordinal(FIRST.toordinal() + i)  # where it is hot in the north, it is cold in the south
        made.land(day, id=np.arange(rows) + 1000 * i, x=x, z=z, place=place, y=far ^ (place == "south"))
    return made


@pytest.fixture
def run(world, context, monkeypatch):
    """Run the tasks of the segments after a night of all rows; return their red words by task, and the task instance."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from ratchet.orchestration import kept, segments, tasks

    def one(given, ti, task, name, wrong):
        ti.task_id = name
        ti.states[name] = "success"
        try:
            return task.execute(given)
        except (AirflowFailException, AirflowSkipException) as exc:
            ti.states[name] = "skipped" if isinstance(exc, AirflowSkipException) else "failed"
            wrong.setdefault(name, []).append(f"{type(exc).__name__}: {exc}")
            return []

    def make(trainer=None, *, judged=True):
        services = world.machine("cache", trainer)
        monkeypatch.setattr(segments, "connected", lambda: services)
        monkeypatch.setattr(tasks.connections, "environment", dict)
        ti, wrong = MappedTi(), {}
        given = {**context(ti), "outlet_events": Announced()}
        if judged:
            night = world.night(pipeline=world.pipeline())
            ti.task_id = "gate"
            tasks.hand_on(given, night)
            kept.keep(world.store, given, "gate", night)
        ti.events = given["outlet_events"]
        chunks = one(given, ti, segments.ListSegments(task_id="segments", pipeline="small"), "segments", wrong)
        ti.mapped, ti.chunks = len(chunks), chunks
        for chunk in chunks:
            one(given, ti, segments.RunSegments(task_id="segment", pipeline="small", segments=chunk), "segment", wrong)
            ti.named = given["segment"]
        one(given, ti, segments.EndSegments(task_id="segments_end", pipeline="small"), "segments_end", wrong)
        return SimpleNamespace(ti=ti, wrong=wrong, told=segments.told(given))

    return make


def test_each_segment_has_its_night_and_the_end_tells(run, world):
    """Two segments are promoted, the sparse one falls back, nothing is red, and consumers hear of each new champion."""
    done = run()
    assert done.wrong == {}
    assert done.ti.mapped == 2
    assert done.told.startswith("3 segments by place: 2 served by a champion of their own; tonight 2 promoted")
    assert [entry.action for entry in world.services.ledger.entries("small--north")] == ["bootstrap"]
    ((alias, told),) = done.ti.events.items()
    assert alias.name == "champion"
    assert dict(told.found)["x-ratchet://champion/small--north"]["version"] == 1
    assert done.ti.named in {"north", "south"}
    assert done.ti.chunks == [[0, 1], [1, 2]]  # the values lie in the store


def test_a_list_that_is_gone_is_named(run, world, context, monkeypatch):
    """Where somebody has deleted the list, the words say which task makes it anew."""
    from airflow.sdk.exceptions import AirflowFailException

    from ratchet.orchestration import segments

    ti = run().ti
    (key,) = [key for key in world.store.keys("runs/small/") if "/segments-" in key]
    world.store.delete(key)
    monkeypatch.setattr(segments, "connected", lambda: world.services)
    task = segments.RunSegments(task_id="segment", pipeline="small", segments=[0, 1])
    with pytest.raises(AirflowFailException, match="clear the task `segments`"):
        task.execute(context(ti))


@pytest.mark.parametrize(
    ("facts", "tries", "told"),
    [
        ({"appended": True}, (1, 2), True),
        ({"appended": False}, (1, 2), False),  # found done, by a run before
        ({"appended": False}, (2, 2), True),  # by the attempt before, which failed and could tell nobody
        ({"outcome": "undecided"}, (1, 2), True),
        ({"outcome": "undecided"}, (4, 5), False),  # cleared
    ],
)
def test_consumers_hear_of_each_turn_once(run, context, monkeypatch, facts, tries, told):
    """As of that of all rows: of a promotion by the attempt that ends well, and of a rollback."""
    from ratchet.domain.segments import SegmentNight
    from ratchet.orchestration import segments
    from ratchet.steps import segments as steps

    done = run()
    (version,) = segments.connected().registry.versions("small--north")
    facts = {"outcome": "promoted", **facts}
    facts["turned" if facts["outcome"] == "promoted" else "back"] = version
    north, ti = SegmentNight(value="north", slug="north", champion=1, **facts), done.ti
    monkeypatch.setattr(steps, "run_segment", lambda *_: (north, None))
    (ti.try_number, ti.max_tries), events = tries, Announced()
    task = segments.RunSegments(task_id="segment", pipeline="small", retries=2, segments=[0, 1])
    task.execute({**context(ti), "outlet_events": events})
    heard = [uri for alias in events.values() for uri, _ in alias.found]
    assert heard == (["x-ratchet://champion/small--north"] if told else [])


def test_a_failing_segment_is_red_and_named(run, world):
    """Its mapped task and the end are red, the other segment is promoted all the same."""
    done = run(Broken())
    assert set(done.wrong) == {"segment", "segments_end"}
    assert done.wrong["segment"] == ["AirflowFailException: south: FAILED, ZeroDivisionError: no south today"]
    assert "Went wrong: south: ZeroDivisionError: no south today" in done.wrong["segments_end"][0]
    assert world.services.ledger.entries("small--north")
    assert not world.services.ledger.entries("small--south")


def test_no_verdict_no_segment(run):
    """Where the night of all rows was not judged, no segment has a night, and nothing is red."""
    done = run(judged=False)
    assert all(words[0].startswith("AirflowSkipException") for words in done.wrong.values())
    assert done.told == ""


def test_what_an_earlier_attempt_has_listed_is_not_told_again(run, world, context, monkeypatch):
    """Where a cleared run fails before its segments are listed, nothing is said of them, although the old list still lies there."""
    from airflow.sdk.exceptions import AirflowSkipException

    from ratchet.orchestration import segments

    ti = run().ti
    ti.states["segments"] = "upstream_failed"
    monkeypatch.setattr(segments, "connected", lambda: world.services)
    with pytest.raises(AirflowSkipException, match="were not listed"):
        segments.EndSegments(task_id="segments_end", pipeline="small").execute(context(ti))


def test_an_edited_xcom_changes_no_segment(run, world, context, monkeypatch):
    """What the gate has judged is read from the object store, whatever the task before has handed on."""
    from ratchet.orchestration import segments

    ti = run().ti
    edited = ti.kept["gate", "night"][0]
    edited["validate_"]["findings"] = [{"kind": "leak", "action": "hold", "subject": "x", "words": "planted"}]
    monkeypatch.setattr(segments, "connected", lambda: world.services)
    night, _ = segments.ListSegments(task_id="segments", pipeline="small").night(context(ti))
    assert night.findings == ()
