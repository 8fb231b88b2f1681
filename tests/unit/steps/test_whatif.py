"""Recorded nights are judged by other gates from what they left behind: nothing is trained, nothing is written."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from small_world import NIGHT, QuickTrainer, World

from ratchet.domain import layout
from ratchet.domain.checks import Outcome
from ratchet.errors import SpecInvalid
from ratchet.home import with_gates
from ratchet.steps.whatif import whatif

if TYPE_CHECKING:
    from ratchet.steps.whatif import WhatIf

LAST = NIGHT + timedelta(days=4)
BOUND = {"kind": "bound", "metric": "auc", "at_least": 0.6, "min_rows": 50}
EVIDENCE = {"kind": "evidence", "loss": "log_loss", "min_days": 2, "shadow_nights": 1}


class Untrainable(QuickTrainer):
    """A machine on which nothing may be fitted."""

    def fit(self, *_):
        """Refuse."""
        raise AssertionError("what-if fits nothing")


@pytest.fixture(scope="module")
def _recorded(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("recorded")).land_all(LAST)
    made.gated(BOUND, EVIDENCE)
    for i in range((LAST - NIGHT).days + 1):
        made.night(NIGHT + timedelta(days=i))
    made.night(LAST, dry_run=True)
    return made


@pytest.fixture
def recorded(_recorded: World, tmp_path) -> World:
    """A world in which some nights have run."""
    return _recorded.copy(tmp_path)


def judged(world: World, *gates: str, **asked) -> WhatIf:
    """Judge a world's nights by other gates, where nothing can be fitted."""
    pipeline = world.pipeline()
    if gates:
        pipeline = with_gates(pipeline, f"gates: [{', '.join(gates)}]", "gates.yaml")
    return whatif(pipeline, world.machine("cache", Untrainable()), **asked)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"- {json.dumps(BOUND)}",
            "gates.yaml: expected keys and values, such as `gates: [{kind: champion, loss: brier}]`, found a list",
        ),
        ("gate: []", "gates.yaml: gate: is not a field here; the file holds a list `gates`"),
        ("gates: []", "gates.yaml: gates: the list needs at least 1, found none"),
    ],
)
def test_a_file_that_holds_no_gates(recorded, text, words):
    """What is expected is told by an example of such a file, not of a pipeline's."""
    with pytest.raises(SpecInvalid, match=re.escape(words)):
        with_gates(recorded.pipeline(), text, "gates.yaml")


def test_the_same_gates_give_the_same_verdicts(recorded):
    """Under the gates of then no night flips, and every reason is the one of then; dry runs are no nights."""
    found = judged(recorded)
    assert len(found.nights) == 5
    assert found.flips == ()
    assert all(night.would_reasons == night.reasons for night in found.nights)
    assert [night.champion for night in found.nights] == [None, 1, 1, 1, 1]


def test_nothing_is_written(recorded):
    """Objects, versions, aliases and runs are what they were."""
    before = (recorded.store.contents(), recorded.state(), len(recorded.registry.runs))
    judged(recorded, "{kind: bound, metric: auc, at_least: 0.99}", "{kind: evidence, loss: brier}")
    assert before == (recorded.store.contents(), recorded.state(), len(recorded.registry.runs))


def test_stricter_gates_refuse_and_looser_ones_promote(recorded):
    """A bound that nobody reaches flips the bootstrap; bounds alone let every night pass that had waited for proof."""
    strict = judged(recorded, "{kind: bound, metric: auc, at_least: 0.9999, min_rows: 50}")
    assert {(n.was, n.would) for n in strict.flips} == {
        (Outcome.PASS, Outcome.FAIL),
        (Outcome.UNDECIDED, Outcome.FAIL),
    }
    loose = judged(recorded, "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}")
    assert {(n.cutoff, n.was, n.would) for n in loose.flips} == {
        (NIGHT + timedelta(days=i), Outcome.UNDECIDED, Outcome.PASS) for i in range(1, 5)
    }


def test_evidence_on_another_loss_is_put_together_from_the_stored_days(recorded, tmp_path):
    """Every verdict and reason is that of a world whose nights had weighed that loss from the start."""
    other = World(tmp_path / "other").land_all(LAST)
    other.gated(BOUND, {**EVIDENCE, "loss": "brier"})
    nights = [other.night(NIGHT + timedelta(days=i)) for i in range(5)]
    found = judged(recorded, "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}", _written(loss="brier"))
    assert [n.would_reasons for n in found.nights] == [night.gate.verdict.reasons for night in nights]
    assert any("E = " in why for why in found.nights[-1].would_reasons)


def test_baselines_that_are_not_known_by_another_loss_are_judged_as_then(recorded):
    """What a regression would have lost by another measure no predictions tell: the check stays by the loss of then, and says so."""
    asked = with_gates(
        recorded.pipeline(evaluation__baselines=["average", "linear"]),
        f"gates: [{json.dumps(BOUND)}, {_written(loss='brier')}]",
        "gates.yaml",
    )
    for night in whatif(asked, recorded.machine("cache", Untrainable())).nights:
        assert night.checks[-1].name == "log_loss better than that of average, linear"
        assert "baselines by log_loss, as then: by brier that night has not recorded linear" in night.would_reasons


def test_a_fleet_that_was_not_recorded_is_undecided(recorded):
    """How the other pipelines stood on a past night cannot be had, so the proof is not taken for made."""
    found = judged(recorded, "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}", _written(fleet="all"))
    assert {n.would for n in found.nights[1:]} == {Outcome.UNDECIDED}
    assert all("where fleet all stood that night was not recorded" in n.would_reasons for n in found.nights[1:])


def test_flips_of_decisions_are_counted_from_the_stored_predictions(recorded):
    """The share at any threshold is known, although no gate had asked for it."""
    found = judged(
        recorded,
        "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}",
        "{kind: stability, threshold: 0.31, min_rows: 5}",
    )
    for night in found.nights[1:]:
        key = layout.step("small", night.run_key, "predictions.parquet", dry_run=False)
        both = pq.read_table(io.BytesIO(recorded.store.get(key))).to_pandas().dropna()
        flipped = ((both["challenger"] >= 0.31) != (both["champion"] >= 0.31)).mean()
        assert night.checks[1].value == pytest.approx(flipped)


def test_what_cannot_be_had_is_undecided_and_named(recorded):
    """Where the predictions are gone, or never told this, the check is UNDECIDED and says so."""
    for key in recorded.store.keys("runs/"):
        if key.endswith("predictions.parquet"):
            recorded.store.lose(f"s3://ratchet/{key}")
    found = judged(
        recorded,
        "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}",
        "{kind: stability, threshold: 0.31, min_rows: 5}",
    )
    assert {n.would for n in found.nights[1:]} == {Outcome.UNDECIDED}
    assert all(any("nor can its predictions tell" in why for why in n.would_reasons) for n in found.nights[1:])


def test_a_range_and_strange_records_are_respected(recorded):
    """Only nights of the range are judged; a record of another version is counted, and stands in nobody's way."""
    recorded.store.put("nights/small/2024-03-05/odd.json", b'{"mood": "blue"}')
    found = judged(recorded, first=NIGHT + timedelta(days=1), last=NIGHT + timedelta(days=2))
    assert [n.cutoff for n in found.nights] == [NIGHT + timedelta(days=1), NIGHT + timedelta(days=2)]
    assert found.unreadable == 1


def test_a_night_that_was_never_judged_is_counted(recorded):
    """A rejected night has no verdict that could flip."""
    day = LAST + timedelta(days=1)
    recorded.land(day, b"no parquet")
    assert recorded.night(day).outcome == "rejected"
    found = judged(recorded)
    assert (len(found.nights), found.without_verdict) == (5, 1)


def _written(**changed) -> str:
    gate = {**EVIDENCE, **changed}
    return "{" + ", ".join(f"{key}: {value}" for key, value in gate.items()) + "}"


@pytest.mark.parametrize(
    "gate",
    [
        {"kind": "slices", "column": "place", "loss": "brier", "min_rows": 5, "min_days": 2},
        {"kind": "slice_gap", "column": "place", "metric": "auc", "at_most": 0.2, "margin": 0.1, "min_rows": 5},
        {"kind": "baseline", "loss": "brier", "baselines": "[average]", "min_days": 2},
        {"kind": "calibration", "min_rows": 5, "min_events": 1},
        {"kind": "age", "min_days": 3},
        {"kind": "champion", "loss": "brier", "min_days": 2},
    ],
    ids=lambda gate: gate["kind"],
)
def test_a_gate_says_what_it_would_have_said_that_night(recorded, tmp_path, gate):
    """What a kind of gate needs is had from what was left behind: its checks are those of a world that had it from the start."""
    text = "{" + ", ".join(f"{key}: {value}" for key, value in gate.items()) + "}"
    proof = "{kind: evidence, loss: log_loss, min_days: 2, shadow_nights: 1}"
    found = judged(recorded, "{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}", proof, text)
    other = World(tmp_path / "other").land_all(LAST)
    other.gated(BOUND, EVIDENCE, yaml.safe_load(text))
    nights = [other.night(NIGHT + timedelta(days=i)) for i in range(5)]
    told = [(n.checks[2].outcome, n.checks[2].reason) for n in found.nights]
    assert told == [(night.gate.verdict.checks[2].outcome, night.gate.verdict.checks[2].reason) for night in nights]


def test_a_later_question_is_answered_from_the_predictions(recorded):
    """Another operating point, a slice, or a metric that nobody had thought of then: the stored predictions tell, and nothing is fitted."""
    night = recorded.night(LAST)
    kept = pq.read_table(io.BytesIO(recorded.store.get(night.evaluate.predictions)))
    y, p, north = (np.array(kept[name].to_pylist()) for name in ("label", "challenger", "slice:place"))
    chosen = p >= 0.3
    business = {"missed": "sum(label) FILTER (WHERE prediction < 0.3 AND place = 'north')", "far": "avg(abs(x))"}
    pipeline = recorded.pipeline(evaluation__threshold=0.3, evaluation__business=business)
    gates = [
        "{kind: bound, metric: precision, at_least: 0.1, min_rows: 5}",
        "{kind: bound, metric: recall, at_least: 0.1, slice: place=north, min_rows: 5}",
        "{kind: bound, metric: business.missed, at_most: 99.0, min_rows: 5}",
        "{kind: bound, metric: business.far, at_most: 99.0, min_rows: 5}",
    ]
    pipeline = with_gates(pipeline, f"gates: [{', '.join(gates)}]", "gates.yaml")
    found = whatif(pipeline, recorded.machine("cache", Untrainable())).nights[-1]
    precision, recall, missed, far = found.checks[:4]
    assert precision.value == pytest.approx(y[chosen].mean())
    assert recall.value == pytest.approx(chosen[(y == 1) & (north == "north")].mean())
    assert missed.value == y[~chosen & (north == "north")].sum()
    assert far.outcome is Outcome.UNDECIDED
    assert any("the night has not recorded what this needs" in reason for reason in found.would_reasons)
