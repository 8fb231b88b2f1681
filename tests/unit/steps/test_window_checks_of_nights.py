"""The checks over the window in whole nights."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import yaml
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, World, partition

from fakes import Tripwire
from ratchet.errors import SpecInvalid
from ratchet.steps.release import release
from ratchet.steps.window_checks import _coded

DAY = timedelta(days=1)
NEXT = NIGHT + DAY


def spec(**window):
    """Return the small pipeline with short history and other checks."""
    made = yaml.safe_load(SPEC)
    made["validation"]["window"] = {"min_history": 4, **window}
    return yaml.safe_dump(made)


@pytest.fixture
def make(tmp_path):
    """Make a world whose spec has these checks, with all days landed."""
    return lambda **window: World(tmp_path, spec(**window)).land_all()


def y_of(day):
    """Return the labels that a day's rows have."""
    random = np.random.default_rng(day.toordinal())
    x, _ = random.normal(size=ROWS), random.normal(size=ROWS)
    random.choice(["north", "south"], ROWS)
    return x + 0.5 * random.normal(size=ROWS) > 0  # as small_world gives them


def told(night):
    """Return what the night has found, by kind."""
    return {finding.kind: finding for finding in night.findings}


def test_a_usual_night_finds_nothing(make):
    """Days drawn alike show nothing, and the model is promoted."""
    night = make().night()
    assert (night.findings, night.outcome, night.alerts) == ((), "promoted", ())


def test_labels_of_one_class_hold_the_promotion(make):
    """A newest day of one class only is trained on, but not promoted; a person is told, and may say that it is right."""
    world = make()
    world.land(NIGHT, y=np.ones(ROWS, bool))
    night = world.night()
    assert (night.outcome, world.entries) == ("undecided", ())
    assert any(reason.startswith("labels class true: class true has 100.0%") for reason in night.reasons)
    assert [alert.kind for alert in night.alerts] == ["data"]
    assert "known_days" in night.alerts[0].words
    assert world.night(pipeline=world.pipeline(validation__window__known_days=[str(NIGHT)])).outcome == "promoted"


def test_a_day_holds_until_it_has_left_the_holdout(make):
    """The night after is held too, because its model is judged by the same day."""
    world = make()
    world.land(NIGHT, y=np.ones(ROWS, bool))
    world.land(NEXT)
    world.night()
    assert told(world.night(NEXT))["labels"].action == "hold"


def test_a_leak_holds_the_promotion_and_says_what_to_do(make):
    """A feature that is the label in disguise is named."""
    world = make()
    for i in range(DAYS):
        day = FIRST + i * DAY
        world.land(day, z=y_of(day) * 3.0 + np.arange(ROWS) / 100)
    night = world.night()
    (finding,) = night.findings
    assert (finding.kind, finding.action, finding.subject) == ("leak", "hold", "z")
    assert "AUC of 1.0000 (of 320 rows)" in finding.words
    assert "source.unknown_at_prediction" in finding.words
    assert (night.outcome, world.entries) == ("undecided", ())
    allowed = world.night(pipeline=world.pipeline(validation__window__leak__allowed=["z"]))
    assert allowed.findings == ()
    assert not [reason for reason in allowed.reasons if "leak" in reason]  # a regression draws z as well as trees do


def test_a_leak_can_reject_before_anything_is_trained(make):
    """Where the spec says so a leak ends the night, and no run is left in the registry."""
    world = make(leak={"action": "reject"})
    for i in range(DAYS):
        day = FIRST + i * DAY
        world.land(day, z=y_of(day) * 3.0)
    night = world.night()
    assert (night.outcome, night.ended.reason, night.ended.step) == ("rejected", "leak", "train")
    assert world.registry.runs == {}


def test_rows_on_both_sides_of_the_cut_reject_the_night(make):
    """A day of training that landed again in the hold-out ends the night, naming both and the way out."""
    world = make()
    before = world.state()
    world.land(NIGHT, partition(FIRST))
    night = world.night()
    assert (night.outcome, night.ended.reason) == ("rejected", "time")
    assert f"rows/dt={NIGHT}/part.parquet" in night.ended.detail
    assert f"and before that in rows/dt={FIRST}/part.parquet" in night.ended.detail
    assert f"Found as well: duplicates {NIGHT}" in night.ended.detail
    assert {**world.state(), "pins": before["pins"]} == before


def test_a_day_that_landed_twice_within_training_holds(make):
    """Twice the same rows in training weigh twice."""
    world = make()
    world.land(FIRST + DAY, partition(FIRST))
    night = world.night()
    assert (night.outcome, [f.kind for f in night.findings]) == ("undecided", ["duplicates"])


def test_every_row_ten_times_is_not_promoted(make):
    """Rows that were multiplied hold the promotion back, on the very first night."""
    world = World(make().folder, spec())
    for i in range(DAYS):
        day = FIRST + i * DAY
        random = np.random.default_rng(day.toordinal())
        x = np.repeat(random.normal(size=30), 10)
        same = {"id": np.repeat(np.arange(30) + day.toordinal() * 1000, 10), "z": -x, "place": ["north"] * 300}
        world.land(day, rows=300, x=x, y=x > 0, **same)
    night = world.night()
    assert night.outcome == "undecided"
    assert "every row comes 10 times" in told(night)["duplicates"].words


@pytest.mark.parametrize("late", [0, 3])
def test_events_from_the_future_reject_the_night(make, late):
    """Rows whose event lies after their partition's day end the night; those of the day do not."""
    world = make(event_time="seen")
    for i in range(DAYS):
        day = FIRST + i * DAY
        at = [datetime(day.year, day.month, day.day, 23)] * ROWS  # noqa: DTZ001
        world.land(day, seen=at)
    seen = [datetime(NIGHT.year, NIGHT.month, NIGHT.day, 9) + DAY * (row < late) for row in range(ROWS)]  # noqa: DTZ001
    world.land(NIGHT, seen=seen)
    night = world.night()
    assert night.outcome == ("rejected" if late else "promoted")
    if late:
        assert night.ended.reason == "time"
        assert (
            f"3 rows are from the future: in rows/dt={NIGHT}/part.parquet seen lies after {NIGHT}" in night.ended.detail
        )
        assert "row 1, 2, 3. Land them with the day that they are of" in night.ended.detail


def test_events_whose_time_cannot_be_read_reject_the_night(make):
    """Text that is no time has not been checked, and what has not been checked has not passed; a blank is no value."""
    world = make(event_time="seen")
    for i in range(DAYS):
        day = FIRST + i * DAY
        world.land(day, seen=[str(day), " ", None, *[f"{day} 08:00"] * (ROWS - 3)])
    assert world.night().outcome == "promoted"
    world.land(NIGHT, seen=["01/02/2031", *[str(NIGHT)] * (ROWS - 1)])
    night = world.night(repin=True)
    assert (night.outcome, night.ended.reason) == ("rejected", "time")
    assert f"cannot be told: in rows/dt={NIGHT}/part.parquet seen holds values that are no DATE" in night.ended.detail
    assert "2031" not in night.ended.detail


def test_a_day_that_comes_back_from_quarantine_is_compared(make):
    """What a person gives back is looked at by the window's checks as if it had just landed."""
    world, day = make(nulls={"action": "warn", "jump": 0.1}, min_history=2), FIRST + 3 * DAY
    world.land(day, x=np.full(ROWS, 99.0), place=pa.nulls(ROWS, pa.string()))
    assert "nulls" not in told(world.night())
    release(world.services, world.pipeline(), str(day), (), actor="ann", reason="a hot day")
    world.land(NEXT)
    assert f"missing values on {day}: place: 100%" in told(world.night(NEXT))["nulls"].words


def test_a_summary_that_has_rotted_here_is_had_from_the_store(make):
    """Nothing in the cache is trusted: half a summary ends no night."""
    world = make()
    first = world.night()
    for kept in (world.services.cache / "summaries").iterdir():
        kept.write_bytes(kept.read_bytes()[:40])
    again = world.night(NIGHT, repin=True, dry_run=True)
    assert (again.outcome, again.findings) == (first.outcome, first.findings)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"event_time": "plac"}, "event_time: the source has no column 'plac'; did you mean 'place'?"),
        ({"event_time": "place"}, "event_time: column 'place' holds no DATE or TIMESTAMP"),
        ({"key": ["id", "nr"]}, "key[1]: the source has no column 'nr'. It has id, place, x, y, z"),
    ],
)
def test_a_column_that_is_not_there_is_named(make, window, words):
    """A check that is told of a column that the source has not would find nothing for ever; the spec is refused."""
    with pytest.raises(SpecInvalid) as caught:
        make(**window).night()
    assert f"validation.window.{words}" in str(caught.value)


def test_missing_values_are_found_in_columns_and_features(make):
    """A newest day without a column's values is warned of, in the source and in the feature made of it, and holds nobody back."""
    world = make()
    world.land(NIGHT, z=np.full(ROWS, np.nan))
    night = world.night()
    named = {(f.kind, f.action, f.subject) for f in night.findings}
    assert named == {("nulls", "warn", "column z"), ("nulls", "warn", "feature z")}  # a NaN is no value
    world.land(NEXT, z=[None] * ROWS)
    found = world.night(NEXT).findings
    assert {f.subject for f in found} == {"column z", "feature z"}


def test_a_warning_comes_once(make):
    """The night after, the day is no news; the night itself, run again, still says it."""
    world = make()
    world.land(NIGHT, rows=ROWS // 4, z=np.zeros(ROWS // 4), y=np.arange(ROWS // 4) % 2 == 0)
    first = world.night()
    assert told(first)["volume"].words.startswith(f"{NIGHT} has 10 rows, 4.0 times fewer than usual")
    assert world.night().findings == first.findings
    world.land(NEXT)
    assert "volume" not in told(world.night(NEXT))


def test_a_partition_in_quarantine_is_not_compared(make):
    """What is left out anyway raises no second alarm."""
    world = make()
    world.land(NIGHT, rows=5, x=np.full(5, 99.0), z=np.zeros(5), y=np.zeros(5, bool))
    night = world.night()
    assert [q.partition for q in night.validate_.quarantined] == [str(NIGHT)]
    assert night.findings == ()


def test_rows_in_quarantine_are_not_compared(make):
    """Rows that are left out one by one are no duplicates of others."""
    world = make(key=["id"])
    ids = np.arange(ROWS) + NIGHT.toordinal() * 1000
    x = np.random.default_rng(1).normal(size=ROWS)
    ids[:3], x[:3] = FIRST.toordinal() * 1000 + np.arange(3), 99.0
    world.land(NIGHT, id=ids, x=x, y=x > 0)
    night = world.night()
    assert sum(q.rows for q in night.validate_.quarantined_rows) == 3
    assert night.findings == ()


def test_a_night_summarises_what_is_new(make):
    """The first night summarises each partition, the next one only the new one, whatever machine it runs on."""
    world = make()
    world.night()
    assert len(world.store.keys("summaries/")) == DAYS
    world.land(NEXT)
    world.store.tripwire = seen = Tripwire()
    world.night(NEXT, services=world.machine("another"))
    assert len([what for what in seen.seen if "summaries/" in what]) == 1
    assert len(world.store.keys("summaries/")) == DAYS + 1


def test_the_same_bytes_on_another_day_are_summarised_for_that_day(make):
    """A summary is of a content on a day: the same file under two dates has one for each."""
    world = make(overlap={"action": "off"})
    world.land(NIGHT, partition(FIRST))
    night = world.night()
    words = told(night)["duplicates"].words
    assert f"dt={NIGHT}" in words
    assert f"dt={FIRST}" in words


def test_checks_that_are_off_say_nothing(make):
    """All checks can be turned off."""
    off = {kind: {"action": "off"} for kind in ("volume", "nulls", "labels", "duplicates", "overlap", "leak")}
    world = make(**off)
    world.land(NIGHT, partition(FIRST))
    assert world.night().findings == ()


def test_no_value_of_a_row_is_told(make):
    """Findings name columns, days and partitions; what the rows say stays where it is."""
    world = make(overlap={"action": "hold"})
    for day in (FIRST, NIGHT):
        world.land(day, partition(FIRST, place=np.repeat("Ada Lovelace", ROWS)))
    night = world.night()
    assert {f.kind for f in night.findings} >= {"duplicates", "overlap"}
    kept = b"".join(world.store.contents("summaries/").values()).decode()
    assert kept
    assert not any("Ada" in text for text in (kept, str(night.findings), str(night.alerts)))


@pytest.mark.parametrize(
    "values",
    [
        [b"\xff\x00", b"a", None, b"a"],
        [[1], [2, 3], None, [2, 3]],
        [{"a": None}, {"a": 1}, None, {"a": 1}],
        [True, False, None, False],
    ],
)
def test_values_of_any_type_are_told_apart(values):
    """What is no text is compared all the same, bytes that are no UTF-8 too; a missing value is none of them."""
    first, second, missing, again = _coded(pa.chunked_array([values]))
    assert first != second == again
    assert np.isnan(missing)
