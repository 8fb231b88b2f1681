"""Segments: one model for each value of a column, each with a champion, gates and a ledger of its own."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from segment_world import SEGMENTED, TOMORROW, both, columns, landed
from small_world import FIRST, NIGHT, ROWS, SPEC, QuickTrainer, World

from ratchet.domain.checks import Outcome
from ratchet.domain.night import Night
from ratchet.errors import ArtifactTampered, RatchetError, SpecInvalid
from ratchet.steps import frames, history, overview, segments
from ratchet.steps.context import Context
from ratchet.steps.prune import models_of, prunable
from ratchet.steps.reproduce import reproduce
from ratchet.steps.rollback import roll_back
from ratchet.steps.segments import SegmentUnknown

if TYPE_CHECKING:
    from pathlib import Path

    from ratchet.ports import Fit, TrainingPlan
    from ratchet.tables import FeatureFrame


class Broken(QuickTrainer):
    """A trainer that cannot fit the rows of one place."""

    def fit(self, frame: FeatureFrame, *rest: Any) -> Fit:
        """See ``ports.Trainer.fit``."""
        if set(frame.table["place"].to_pylist()) == {"north"}:
            raise ZeroDivisionError("no north today")
        return super().fit(frame, *rest)


class Unread(QuickTrainer):
    """A trainer that the machine fails when it scores the rows of one place."""

    def predict(self, files: Any, table: Any) -> Any:
        """See ``ports.Trainer.predict``."""
        if set(table["place"].to_pylist()) == {"north"}:
            raise OSError("no memory is left")
        return super().predict(files, table)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a world in which a night has been, with its segments."""
    made = landed(World(tmp_path_factory.mktemp("segments"), SEGMENTED), TOMORROW)
    both(made)
    return made


def test_each_segment_has_a_champion_and_a_ledger_of_its_own(world: World) -> None:
    """The segments with rows enough each promote their first model into a ledger under their own name."""
    found = segments.newest(world.services, "small")
    assert found
    own = {segment.value: segment.champion for segment in found.segments if segment.serves == "own"}
    assert own == {"north": 1, "South Side": 1}
    for slug in ("north", *(s.slug for s in found.segments if s.value == "South Side")):
        (entry,) = world.services.ledger.entries(f"small--{slug}")
        assert entry.action == "bootstrap"
        assert world.registry.alias(f"small--{slug}", "champion") == 1
    assert [entry.pipeline for entry in world.entries] == ["small"]


def test_a_sparse_segment_is_served_by_the_global_champion(world: World) -> None:
    """A segment of too few rows has no night, and the record says why and who serves it."""
    found = segments.newest(world.services, "small")
    assert found
    (islet,) = (segment for segment in found.segments if segment.value == "islet")
    assert (islet.serves, islet.outcome, found.champion) == ("global", None, 1)
    assert "rows to fit on, segments.min_rows is 40" in islet.why
    assert world.services.ledger.entries("small--islet") == ()


def test_every_row_is_in_a_segment_or_has_no_value(world: World) -> None:
    """The rows of all segments and those without a value add up to the labelled rows of the window."""
    found = segments.newest(world.services, "small")
    assert found
    assert found.of_none > 0
    assert sum(segment.rows for segment in found.segments) + found.of_none == found.rows == 8 * 2 * ROWS


def test_a_segment_learns_from_its_rows_alone(world: World) -> None:
    """The frame of a segment holds the rows of the frame of all that have its value, in the same order."""
    night = world.until("train", pipeline=world.pipeline())
    whole = frames.feature_frame(Context(world.pipeline(), night, world.services), world.pipeline().sql).table
    own = world.pipeline().of_segment("north")
    part = frames.feature_frame(Context(own, night, world.services), own.sql).table
    here = [place == "north" for place in whole["place"].to_pylist()]
    assert part.equals(whole.filter(here).combine_chunks())
    versions = world.registry.versions("small--north")
    assert {v.recipe_spec for v in versions}.isdisjoint(v.recipe_spec for v in world.registry.versions("small"))


def test_the_second_night_compares_each_segment_with_its_own_champion(world: World, tmp_path: Path) -> None:
    """A segment's challenger meets the segment's champion, on the segment's rows."""
    again = world.copy(tmp_path)
    _, found, error = both(again, TOMORROW)
    assert error is None
    north = next(segment for segment in found.segments if segment.value == "north")
    assert north.version == 2
    (record,) = (key for key in again.store.keys(f"nights/small--north/{TOMORROW}"))
    night = Night.model_validate_json(again.store.get(record))
    assert night.score
    assert night.evaluate
    assert night.score.champion
    assert night.score.champion.version == 1
    assert 0 < night.evaluate.common_rows <= night.evaluate.rows < 3 * 2 * ROWS


def test_one_failing_segment_blocks_no_other(world: World, tmp_path: Path) -> None:
    """What goes wrong in one segment's night is told, and the others and the segment's champion stay as they are."""
    again = world.copy(tmp_path)
    services = again.machine("cache", Broken())
    _, found, error = both(again, TOMORROW, services)
    assert isinstance(error, ZeroDivisionError)
    (north,) = found.failed
    assert (north.value, north.champion, north.outcome) == ("north", 1, "failed")
    assert "no north today" in found.words
    assert {s.value: s.version for s in found.segments}["South Side"] == 2


def test_a_night_that_breaks_before_it_knows_who_serves_takes_nobody_s_champion(world: World, tmp_path: Path) -> None:
    """Where already the league cannot score, the segment's own champion still serves, and the record says so."""
    again = world.copy(tmp_path)
    _, found, error = both(again, TOMORROW, again.machine("cache", Unread()))
    assert isinstance(error, OSError)
    (north,) = found.failed
    assert (north.value, north.champion, north.serves, north.why) == ("north", 1, "own", "")
    assert found.own == 2


def test_run_again_it_finds_the_same(world: World, tmp_path: Path) -> None:
    """The same night a second time makes no version, no entry and no other record."""
    again = world.copy(tmp_path)
    before = again.store.contents("ledger/"), again.store.contents("runs/")
    first = segments.newest(again.services, "small")
    _, found, _ = both(again)
    assert (again.store.contents("ledger/"), again.store.contents("runs/")) == before
    assert first
    assert [(s.slug, s.champion, s.version) for s in found.segments] == [
        (s.slug, s.champion, s.version) for s in first.segments
    ]


def test_a_dry_run_promotes_no_segment(tmp_path: Path) -> None:
    """A dry run decides on every segment, and leaves no ledger and no version."""
    fresh = landed(World(tmp_path, SEGMENTED))
    _, found, _ = both(fresh, dry_run=True)
    assert {s.outcome for s in found.segments if not s.why or s.outcome} == {"promoted"}
    assert found.own == 0
    assert not fresh.store.contents("ledger/")
    assert segments.newest(fresh.services, "small") is None


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"skip": ("north",)}, "segments.skip names it"), ({"most": 1}, "it is not among the 1 of most rows")],
)
def test_whoever_is_left_out_is_told(world: World, asked: dict[str, Any], named: str) -> None:
    """A value that the spec skips, or that comes after the most of them, falls back, and the plan says why."""
    pipeline = world.pipeline(**{f"segments__{key}": value for key, value in asked.items()})
    night = world.until("train", pipeline=pipeline)
    made = segments.plan(Context(pipeline, night, world.services))
    assert any(named in segment.without for segment in made.segments)
    assert made.missing == 0


def test_a_column_that_is_no_feature_is_refused(world: World) -> None:
    """The message names the features that there are."""
    pipeline = world.pipeline(segments__by="plaice")
    night = world.until("train", pipeline=pipeline)
    with pytest.raises(SpecInvalid, match="'plaice' is no feature of the query; there are: x, z, place"):
        segments.plan(Context(pipeline, night, world.services))


def test_a_segment_is_found_by_its_value_or_slug(world: World) -> None:
    """What a person types names the segment's model; what no night has seen is refused with those that there are."""
    name = segments.resolve(world.services, "small", "South Side")
    assert name.startswith("small--south_side-")
    assert segments.resolve(world.services, "small", name.partition("--")[2]) == name
    with pytest.raises(RatchetError, match=r"no segment 'Atlantis'; the newest night has seen: north"):
        segments.resolve(world.services, "small", "Atlantis")


def test_who_serves_is_what_the_ledgers_say_now(world: World, tmp_path: Path) -> None:
    """The list follows the ledgers, not the record of the night."""
    again = world.copy(tmp_path)
    found = segments.newest(again.services, "small")
    assert found
    for key in again.store.keys("ledger/small--north/"):
        again.store.delete(key)
    now = {s.value: s.serves for s in segments.standing_now(again.services, found).segments}
    assert now == {"north": "global", "South Side": "own", "islet": "global"}


def test_prune_keeps_what_segments_need(world: World, tmp_path: Path) -> None:
    """A snapshot that a kept night of a segment has read stays, although nothing else of the pipeline needs it."""
    again = world.copy(tmp_path)
    both(again, TOMORROW)
    pipeline = again.pipeline(retention__days=0, retention__versions=0)
    assert [model.name for model in models_of(again.services, pipeline)][-1] == "small"
    assert "small--north" in [model.name for model in models_of(again.services, pipeline)]
    snapshots = set(again.store.keys("snapshots/small/"))
    for key in [key for key in again.store.keys("nights/small/") if f"/{NIGHT}/" in key]:
        again.store.delete(key)  # as an earlier prune has
    assert not {kept.key for kept in prunable(again.services, pipeline).objects} & snapshots


def test_prune_takes_what_became_of_segments_in_old_nights(world: World, tmp_path: Path) -> None:
    """The newest word on them stays, and so does that of a night that is kept; a night that nothing refers to any more loses its."""
    again = world.copy(tmp_path)
    for cutoff in (date(2024, 1, 5), TOMORROW):
        again.store.put(f"segments/small/{cutoff}/{'0' * 16}.json", b"{}")
        again.store.put(f"segments/small/{cutoff}/{'0' * 16}-dry.json", b"{}")
    found = prunable(again.services, again.pipeline(retention__days=30))
    old = [kept.key for kept in found.objects if kept.key.startswith("segments/")]
    assert old == [f"segments/small/2024-01-05/{'0' * 16}{end}.json" for end in ("-dry", "")]
    found = prunable(again.services, again.pipeline(retention__days=0))
    assert f"segments/small/{TOMORROW}/{'0' * 16}.json" not in {kept.key for kept in found.objects}


def test_the_overview_tells_of_the_segments_whichever_ends_first(world: World, tmp_path: Path) -> None:
    """The line about the segments is there after their nights, and after the report of the night of all rows."""
    again = world.copy(tmp_path)
    for _ in range(2):
        found = overview.indexed(again.services, "small")
        assert found
        assert found.segments
        assert (found.segments.total, found.segments.own) == (3, 2)
        again.store.delete("overview/small.json")
        again.night(TOMORROW)


def test_a_segments_version_is_built_again_on_another_machine(world: World, tmp_path: Path) -> None:
    """From the pipeline's snapshot, the segment's rows and its recipe come the same bytes."""
    again = world.copy(tmp_path)
    again.caches = tmp_path
    made = reproduce(again.machine("with-an-empty-cache"), "small--north", 1)
    assert made.identical
    assert made.differing == ()


def test_a_version_of_fewer_rows_than_were_once_asked_for_is_built_again(tmp_path: Path) -> None:
    """The bound on a segment's rows may be lowered: what it then makes is of the same recipe, and comes out again."""
    fresh = landed(World(tmp_path, SEGMENTED), TOMORROW)
    for asked, cutoff in ((110, NIGHT), (40, TOMORROW)):
        fresh.spec = yaml.safe_dump({**yaml.safe_load(SPEC), "segments": {"by": "place", "min_rows": asked}})
        for day in (FIRST + timedelta(days=i) for i in range(2, 4) if cutoff == TOMORROW):
            fresh.land(day, **columns(np.random.default_rng(1), day, ROWS))  # fewer than there were
        both(fresh, cutoff, repin=cutoff == TOMORROW)
    versions = fresh.registry.versions("small--north")
    assert len({version.recipe_spec for version in versions}) == 1
    assert [reproduce(fresh.services, "small--north", v.version).identical for v in versions] == [True, True]


def test_a_segment_is_rolled_back_by_its_name(world: World, tmp_path: Path) -> None:
    """The segment's ledger has the entry, and neither the pipeline's nor another segment's has."""
    again = world.copy(tmp_path)
    both(again, TOMORROW)
    own = again.pipeline().of_segment("north")
    entries = again.services.ledger.entries("small--north")
    before = {key: data for key, data in again.store.contents("ledger/").items() if "small--north" not in key}
    assert [entry.champion.version for entry in entries if entry.champion] == [1, 2]
    roll_back(again.services, own, to=None, actor="olga", reason="it was better before")
    last = again.services.ledger.entries("small--north")[-1]
    assert (last.action, last.champion and last.champion.version) == ("rollback", 1)
    assert {k: d for k, d in again.store.contents("ledger/").items() if "small--north" not in k} == before


def test_an_unknown_segment_is_told_in_few_words():
    """A value without a letter is quoted, and one that fills a page is cut."""
    told = str(SegmentUnknown("small", "Case", ["", "case", "x" * 300]))
    assert told == f"small has no segment 'Case'; the newest night has seen: '', case, {'x' * 60}…"


def night_of(world: World, name: str, cutoff: date = NIGHT) -> Night:
    """Return the stored night of a segment."""
    (record,) = world.store.keys(f"nights/{name}/{cutoff}")
    return Night.model_validate_json(world.store.get(record))


def kept_of(world: World, cutoff: date, side: str) -> pd.DataFrame:
    """Return what the night of all rows has kept of one side's predictions for the north."""
    found = pq.read_table(
        io.BytesIO(world.store.get(night_of(world, "small", cutoff).evaluate.predictions))
    ).to_pandas()
    return found[(found["slice:place"] == "north") & found[side].notna()]


def daily(kept: pd.DataFrame, side: str) -> dict[date, float]:
    """Return daily log losses as they are clipped everywhere."""
    p = kept[side].clip(0.002, 0.998)
    losses = -np.log(np.where(kept["label"] == 1, p, 1 - p))
    return pd.Series(losses, index=kept["dt"]).groupby(level=0).mean().to_dict()


def test_a_segments_model_is_compared_with_the_one_that_would_serve_it_otherwise(world: World, tmp_path: Path) -> None:
    """Tonight's global challenger is a baseline of the segment's; once there is a global champion, that is, on rows that it has not seen."""
    again = world.copy(tmp_path)
    both(again, TOMORROW)
    for cutoff, side in ((NIGHT, "challenger"), (TOMORROW, "champion")):
        case = night_of(again, "small--north", cutoff).evaluate.case
        assert "global" in case.must_beat.baselines
        wanted = daily(kept_of(again, cutoff, side), side)
        found = {date.fromisoformat(day.day): day.baseline for day in case.baselines["global"]["log_loss"]}
        assert found == pytest.approx(wanted)
    check = next(c for c in night_of(world, "small--north").gate.verdict.checks if c.kind == "baselines")
    assert "global" in check.name


class Poor(QuickTrainer):
    """A trainer that learns from the rows of one place as if nothing could be told from them."""

    def fit(self, frame: FeatureFrame, days: Any, plan: TrainingPlan, query: Any) -> Fit:
        """See ``ports.Trainer.fit``."""
        if set(frame.table["place"].to_pylist()) == {"north"}:
            plan = plan.model_copy(update={"rounds": 1, "params": {**plan.params, "eta": 0.02}})
        return super().fit(frame, days, plan, query)


def test_a_segments_model_that_is_no_better_than_the_global_one_is_not_promoted(tmp_path: Path) -> None:
    """It passes the gates of the spec, and is better than an average; the global model predicts its rows better, and goes on serving them."""
    spec = yaml.safe_load(SEGMENTED)
    spec["evaluation"] |= {"baselines": ["average"]}
    fresh = landed(World(tmp_path, yaml.safe_dump(spec)))
    _, found, error = both(fresh, NIGHT, fresh.machine("cache", Poor()))
    assert error is None
    outcomes = {s.value: s.outcome for s in found.segments}
    assert outcomes["north"] in {"undecided", "refused"}
    verdict = night_of(fresh, "small--north").gate.verdict
    (check,) = (c for c in verdict.checks if c.outcome is not Outcome.PASS and c.outcome is not Outcome.NOT_APPLICABLE)
    assert check.kind == "baselines"
    assert check.reason.startswith("global minus challenger -")


def test_predictions_that_were_changed_are_compared_with_nothing(world: World, tmp_path: Path) -> None:
    """The bytes are checked against the record of the night of all rows."""
    again = world.copy(tmp_path)
    again.caches = tmp_path
    services = again.machine("cache")
    night = again.night(TOMORROW, services)
    again.store.put(night.evaluate.predictions, b"PAR1")
    _, error = segments.run_all(night, again.pipeline(), services)
    assert isinstance(error, ArtifactTampered)


def test_the_history_of_a_segment_tells_its_own_rows(world: World) -> None:
    """Of the snapshot it has learnt from the segment's rows alone; of all rows it is all."""
    found = segments.newest(world.services, "small")
    assert found
    north = next(segment.rows for segment in found.segments if segment.value == "north")
    assert night_of(world, "small--north").rows == north < night_of(world, "small").rows == 8 * 2 * ROWS
    learnt = history.served(world.services, "small--north", datetime.max.replace(tzinfo=UTC)).learnt
    assert learnt.rows == north


def test_a_segments_night_alone_asks_for_no_global_model(world: World) -> None:
    """A replay of one segment has no night of all rows beside it; what is not there is not asked for."""
    night = world.until("train", pipeline=world.pipeline())
    assert segments.started(night, world.pipeline().of_segment("north")).of_all is None
