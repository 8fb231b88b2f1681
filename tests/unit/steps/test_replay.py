"""A replay runs the real nights in a world of its own: the same verdicts, models and ledger, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from small_world import NIGHT, ROWS, World

from fakes import Killed
from ratchet.adapters.report.replay import page
from ratchet.adapters.sandbox import FolderStore
from ratchet.domain import layout
from ratchet.domain.night import DayScore
from ratchet.domain.policies import BY_DAY, BY_NIGHT, NEVER, NEWEST, THIS, Range
from ratchet.errors import SpecInvalid, UsageError
from ratchet.home import with_gates
from ratchet.steps import replay as replays
from ratchet.steps import segments
from ratchet.steps.context import Nowhere
from ratchet.steps.crew import Crew
from ratchet.steps.replay import NIGHTS
from ratchet.wiring import sandboxed

if TYPE_CHECKING:
    from pathlib import Path

    from ratchet.domain.policies import Replayed
    from ratchet.spec import Pipeline

LAST = NIGHT + timedelta(days=4)
ALL = Range(first=NIGHT, last=LAST, every=1)
STRICT = "gates: [{kind: bound, metric: auc, at_least: 0.999, min_rows: 50}]"


def silent(*_):
    """Say nothing."""


class Loud:
    """An alerter that real people listen to."""

    def send(self, *_):
        """Fail the test."""
        raise AssertionError("a replay alerts nobody")


class Sandbox:
    """Replays in folders beside a small world."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.fits = 0

    def services(self, name: str, pipeline: Pipeline | None = None):
        """Return one of the replay's worlds."""
        machine = self.world.machine("replay")
        fit = machine.trainer.fit

        def counted(*given):
            self.fits += 1
            return fit(*given)

        machine.trainer.fit = counted
        machine = replace(machine, alerter=Loud())
        return sandboxed(machine, pipeline or self.world.pipeline(), self.folder / name, self.folder / "shared")

    def replay(self, wanted: Range = ALL, pipeline: Pipeline | None = None, watch=silent) -> Replayed:
        """Replay some nights in this process."""
        pipeline = pipeline or self.world.pipeline()
        with Crew(lambda name: self.services(name, pipeline), 1) as crew:
            return replays.replay(pipeline, wanted, crew, watch)


@pytest.fixture(scope="session")
def _landed(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("landed")).land_all(LAST)


@pytest.fixture
def landed(_landed: World, tmp_path: Path) -> World:
    """A world with data for all the nights, and none of them run."""
    return _landed.copy(tmp_path / "real")


@pytest.fixture(scope="session")
def whole(_landed: World, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """What a replay finds that nobody disturbs."""
    return Sandbox(_landed, tmp_path_factory.mktemp("whole")).replay()


@pytest.fixture
def sandbox(landed: World, tmp_path: Path) -> Sandbox:
    """A place for replays of it."""
    return Sandbox(landed, tmp_path / "sandbox")


def told(entries):
    """Return what must be the same of two ledgers that were written at other times in other worlds."""
    same = {"at", "hash", "previous", "actor", "reason"}
    return [
        {
            **e.model_dump(exclude=same | {"champion"}),
            "model": e.champion.artifact_digest,
            "version": e.champion.version,
        }
        for e in entries
    ]


@pytest.mark.parametrize(
    "gates",
    [
        (),
        (
            {"kind": "bound", "metric": "auc", "at_least": 0.6, "min_rows": 50},
            {
                "kind": "evidence",
                "loss": "log_loss",
                "wrong_promotions_per_quarter": 0.9,
                "min_days": 2,
                "shadow_nights": 1,
            },
        ),
    ],
    ids=["hold-out", "evidence"],
)
def test_replayed_nights_come_out_as_the_real_ones(landed, sandbox, gates):
    """Outcomes, reasons, models and the ledger are those of the same nights run for real, whatever the gates weigh."""
    if gates:
        landed.gated(*gates)
    found = sandbox.replay()
    real = [landed.night(cutoff) for cutoff in ALL.cutoffs]
    assert [(n.cutoff, n.outcome, n.reasons, n.challenger) for n in found.nights] == [
        (n.request.cutoff, n.outcome, n.reasons, n.register_.version.version) for n in real
    ]
    apart = sandbox.services(NIGHTS)
    assert told(apart.ledger.entries("small")) == told(landed.entries)
    assert [(v.version, v.run_key, v.artifact_digest, v.recipe) for v in apart.registry.versions("small")] == [
        (v.version, v.run_key, v.artifact_digest, v.recipe) for v in landed.registry.versions("small")
    ]
    assert {n.outcome for n in found.nights} >= {"promoted"}


def test_replayed_nights_tune_as_the_real_ones(landed, sandbox):
    """Each night searches when that is due, and takes the parameters in between that the real one would have taken."""
    space = {"max_depth": {"low": 1, "high": 4}, "eta": {"low": 0.05, "high": 0.8, "log": True}}
    tuned = landed.pipeline(training__tuning={"trials": 4, "every_days": 3, "space": space})
    found = sandbox.replay(pipeline=tuned)
    real = [landed.night(cutoff, pipeline=tuned) for cutoff in ALL.cutoffs]
    assert [night.tune.searched for night in real] == [True, False, False, True, False]
    assert [(n.outcome, n.challenger) for n in found.nights] == [(n.outcome, n.register_.version.version) for n in real]
    apart = sandbox.services(NIGHTS)
    assert [(v.artifact_digest, v.recipe_spec) for v in apart.registry.versions("small")] == [
        (v.artifact_digest, v.recipe_spec) for v in landed.registry.versions("small")
    ]


def test_a_segment_is_replayed_as_its_nights_were(landed, sandbox):
    """Alone, on the pipeline's data, it comes to the same models; where all rows decide its parameters, that cannot be."""
    parts = {"segments": {"by": "place", "min_rows": 20}}
    whole = landed.pipeline(**parts)
    own = whole.of_segment("north")
    found = sandbox.replay(pipeline=own)
    for cutoff in ALL.cutoffs:
        segments.run_all(landed.night(cutoff, pipeline=whole), whole, landed.services)
    apart = sandbox.services(NIGHTS, own)
    digests = [v.artifact_digest for v in landed.registry.versions("small--north")]
    assert [v.artifact_digest for v in apart.registry.versions("small--north")] == digests
    assert len(digests) == len(found.nights)
    tuned = landed.pipeline(**parts, training__tuning={"trials": 4}).of_segment("north")
    with pytest.raises(UsageError, match="would search for others; replay small"):
        sandbox.replay(pipeline=tuned)


def test_nothing_real_is_touched(landed, sandbox):
    """With a real champion in office, objects, versions, aliases and runs are byte for byte what they were."""
    landed.night(NIGHT)
    before = (landed.store.contents(), landed.state(), dict(landed.registry.runs), landed.registry.anchors("small"))
    sandbox.replay()
    assert before == (
        landed.store.contents(),
        landed.state(),
        dict(landed.registry.runs),
        landed.registry.anchors("small"),
    )


def test_nobody_is_alerted(sandbox):
    """Whoever is told of real nights hears nothing of those that are replayed."""
    assert isinstance(sandbox.services(NIGHTS).alerter, Nowhere)


def test_each_night_is_fitted_once(sandbox):
    """What was fitted ahead is found by the night, and again by a replay of other gates."""
    sandbox.replay()
    assert sandbox.fits == len(ALL.cutoffs)
    sandbox.replay(pipeline=with_gates(sandbox.world.pipeline(), STRICT, "strict.yaml"))
    assert sandbox.fits == len(ALL.cutoffs)


class Dying:
    """A watch under which the process dies after so much of one part."""

    def __init__(self, part: str, after: int) -> None:
        self.part, self.after = part, after

    def __call__(self, part: str, done: int, *_: object) -> None:
        """Die where it is time."""
        if (part, done) == (self.part, self.after):
            raise Killed(part)


@pytest.mark.parametrize(("part", "after"), [("fitting", 2), ("deciding", 1), ("deciding", 3), ("scoring", 2)])
def test_a_killed_replay_goes_on_where_it_was(whole, sandbox, part, after):
    """Killed in any of its parts and run again it says the same as one that was not, and fits nothing twice."""
    with pytest.raises(Killed):
        sandbox.replay(watch=Dying(part, after))
    assert sandbox.replay() == whole
    assert sandbox.fits == len(ALL.cutoffs)


def test_a_night_killed_within_is_ended_by_the_next_run(whole, sandbox):
    """A night that has promoted and died before it was noted is not taken for one that found its champion there."""
    put = FolderStore.put

    def dying(store, uri, data, content_type="application/json"):
        if uri.startswith("replay/nights/"):
            raise Killed(uri)
        put(store, uri, data, content_type)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "put", dying)
        with pytest.raises(Killed):
            sandbox.replay()
    assert sandbox.replay() == whole


def test_other_gates_give_another_history(landed, sandbox, whole):
    """Under gates that nobody passes there is no champion, and the replay says so instead of comparing."""
    strict = with_gates(landed.pipeline(), STRICT, "strict.yaml")
    found = sandbox.replay(pipeline=strict)
    assert {n.outcome for n in found.nights} == {"refused"}
    assert (found.total, found.months, found.turns) == (None, (), ())
    assert whole.total is not None


def test_policies_are_compared_on_the_same_days(whole):
    """The newest serves each day with the model of the night before; never retraining with the first champion."""
    assert whole.total
    assert [day.day for day in whole.days] == [NIGHT + timedelta(days=i) for i in range(1, 5)]
    assert whole.total.days == sum(month.days for month in whole.months) == 4
    assert whole.total.rows == 4 * ROWS
    assert whole.left_out == 0
    for day in whole.days:
        assert day.losses[BY_DAY] <= min(day.losses.values())
        assert day.losses[BY_NIGHT] == day.losses[BY_DAY], "every day has a night"
    assert whole.days[0].losses[NEWEST] == whole.days[0].losses[NEVER]
    assert whole.total.policies[THIS].metric is not None


def test_the_live_loss_is_what_the_league_measured(landed, whole):
    """What a version would have lost on a day is, to the last bit, what the real night recorded of it in shadow."""
    for cutoff in ALL.cutoffs:
        landed.night(cutoff)
    first = whole.nights[0].champion
    for day in whole.days:
        kept = DayScore.model_validate_json(landed.store.get(layout.scored("small", day.day, first)))
        assert (kept.rows, kept.losses[whole.loss]) == (day.rows, day.losses[NEVER])


def test_nights_that_lie_apart_serve_until_the_next(sandbox):
    """With a night every three days, days up to the last one asked for are scored, whoever of the nights serves them."""
    found = sandbox.replay(Range(first=NIGHT, last=LAST, every=3))
    assert [n.cutoff for n in found.nights] == [NIGHT, NIGHT + timedelta(days=3)]
    assert [day.day for day in found.days] == [NIGHT + timedelta(days=i) for i in range(1, 5)]


def test_late_labels_are_waited_for(landed, sandbox):
    """Where labels take a day, the newest day that is scored is the one before the last."""
    found = sandbox.replay(pipeline=landed.pipeline(window__label_delay_days=1))
    assert [day.day for day in found.days] == [NIGHT + timedelta(days=i) for i in range(1, 4)]


def test_a_night_without_enough_data_is_part_of_history(landed, sandbox):
    """A rejected night keeps the champion, and the days are scored by the nights that have data."""
    landed.land(NIGHT + timedelta(days=2), b"no parquet")
    found = sandbox.replay()
    assert "rejected" in {n.outcome for n in found.nights}
    assert found.nights[2].champion == found.nights[1].champion


def test_approval_is_taken_as_given(landed, sandbox, whole):
    """Nobody can be asked about the past, so a spec that asks for a person is replayed as if one had agreed."""
    asked = landed.pipeline(approval__when=["always"])
    assert [n.outcome for n in sandbox.replay(pipeline=asked).nights] == [n.outcome for n in whole.nights]


def test_an_empty_range_is_refused(sandbox):
    """The end before the beginning is a wrong command."""
    with pytest.raises(UsageError, match="there is no night"):
        sandbox.replay(Range(first=LAST, last=NIGHT, every=1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: []", r"gates\.yaml: rules: is not a field here"),
        ("gates: []", r"gates: the list needs at least 1"),
        ("gates: [{kind: bond, metric: auc}]", r"gates\[0\]\.kind: found 'bond'; did you mean 'bound'"),
        ("gates: [{kind: bound, metric: rmse, at_most: 1}]", r"gates\[0\]\.metric: rmse is no metric of a binary task"),
        ("", "the file is empty"),
    ],
)
def test_wrong_gates_are_refused_in_words(world, text, says):
    """A file of gates is checked as the spec is, and its own name stands in the message."""
    with pytest.raises(SpecInvalid, match=says):
        with_gates(world.pipeline(), text, "gates.yaml")


def test_the_page_escapes_what_it_shows_and_runs_nothing(landed, whole):
    """Text of the spec and of reasons is data; the page is one file without a script."""
    pipeline = landed.pipeline(description="<script>alert(1)</script> & more")
    said = whole.model_copy(update={"problems": ("version 1: <img src=x onerror=alert(2)>",)})
    html = page(said, pipeline).decode()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    assert "http://" not in html
    assert "https://" not in html
    for name in (THIS, NEVER, NEWEST, BY_NIGHT, BY_DAY):
        assert name in html
    assert html.count("<svg") == 3


def test_the_page_of_a_replay_without_champion_says_so(landed, sandbox):
    """There is nothing to draw, and the page tells why."""
    strict = with_gates(landed.pipeline(), STRICT, "strict.yaml")
    html = page(sandbox.replay(pipeline=strict), strict).decode()
    assert "no night made a champion" in html
    assert "<svg" not in html
