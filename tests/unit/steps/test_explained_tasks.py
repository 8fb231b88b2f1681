"""Every task's nights are explained, row by row too, and leave a card."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
import yaml
from small_world import NIGHT, SPEC, World

from ratchet.adapters.report import HtmlReporter
from ratchet.domain import layout
from ratchet.domain.explanations import SCALES
from ratchet.domain.gates import METRICS
from ratchet.steps.card import card
from ratchet.steps.explain_row import explain_row, model, row_of_night
from ratchet.steps.versions import known

NEXT = NIGHT + timedelta(days=1)
TARGETS = {
    "binary": {"task": "binary", "sql": "y"},
    "multiclass": {"task": "multiclass", "sql": "CASE WHEN y THEN place ELSE 'none' END"},
    "regression": {"task": "regression", "sql": "x + y::INT"},
    "quantile": {"task": "quantile", "sql": "3 * abs(x) + hash(id) % 100 / 80", "quantiles": [0.1, 0.5, 0.8]},
    "ranking": {"task": "ranking", "sql": "(2 * abs(x) + hash(id) % 100 / 150 > 1.5)::INT", "group": "dt || '/' || id % 8"},
}  # fmt: skip


@pytest.fixture(scope="module", params=TARGETS)
def nights(request, tmp_path_factory):
    """A champion's night and the next, with the pages of both."""
    task = request.param
    bound = {"kind": "bound", "metric": METRICS[task][0], "at_least": -99.0, "min_rows": 10}
    spec = {**yaml.safe_load(SPEC), "target": TARGETS[task], "gates": [bound]}
    world = World(tmp_path_factory.mktemp(task), yaml.safe_dump(spec)).land_all(NEXT)
    services = replace(world.services, reporter=HtmlReporter())
    return task, world, world.night(NIGHT, services), world.night(NEXT, services)


def test_a_night_is_explained_against_the_champion(nights):
    """Shares of all features, in the task's unit, and how far they have moved."""
    task, world, first, second = nights
    for night in (first, second):
        found = night.evaluate.explanation
        assert found.problem == ""
        assert found.scale == SCALES[task]
        assert sum(f.share for f in found.features) == pytest.approx(1)
    assert first.evaluate.explanation.drift is None
    assert 0 <= second.evaluate.explanation.drift.distance <= 1
    assert b"What the predictions rest on" in world.store.get(second.report.page)


def test_its_rows_are_explained(nights):
    """The explained output is the very prediction that the night has kept; a ranking's rows, of their lists, likewise."""
    task, world, first, _ = nights
    found = known(world.services, "small", 1, "explanation")
    files = model(world.services, found)
    kept = pq.read_table(io.BytesIO(world.store.get(first.evaluate.predictions))).to_pylist()
    for row in kept[::40]:
        features, words = row_of_night(world.services, "small", found, files, row["row_id"])
        made = explain_row(world.services, "small", found, files, features, words)
        predicted = row["challenger"] if isinstance(row["challenger"], list) else [row["challenger"]]
        assert made.prediction in predicted
        assert list(made.predictions.values()) == (predicted if len(predicted) > 1 else [])
        assert made.base + sum(p.contribution for p in made.parts) == pytest.approx(made.margin, abs=1e-5)
        assert made.label is not None
        assert made.task == task


def test_it_leaves_a_card(nights):
    """With its metrics and, where these are numbers without a bound, that trees do not extrapolate."""
    task, world, _, second = nights
    found = card(world.services, "small", 2)
    told = {s.key: s for s in found.sections}
    assert {row[0] for row in told["metrics"].tables[0].rows} >= set(second.evaluate.challenger)
    assert ("Trees do not extrapolate" in " ".join(told["limits"].points)) is (task in {"regression", "quantile"})
    assert b"<svg" in world.store.get(layout.card("small", second.run_key))
