"""Lists of a ranking kept together from the query to the booster, and quantiles that neither cross nor lie."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.rankings import lists_of
from ratchet.domain.windows import windows
from ratchet.errors import SpecInvalid
from ratchet.ports import TrainingPlan
from ratchet.tables import GROUP, FeatureFrame, FeatureQuery, TableFile, TableFiles, lists_in

FIRST = date(2024, 5, 1)
LISTS = 6


def rows_of(day, rows=30):
    """Return rows of a day that lie in no order, with the list that each stands in."""
    random = np.random.default_rng(day.toordinal())
    x = random.normal(size=rows)
    return pa.table(
        {
            "x": x,
            "place": [("north", "south")[i % 2] for i in range(rows)],
            "session": [f"{day}/{n}" for n in random.integers(0, LISTS, rows)],
            "y": random.normal(x, 0.2 + 0.8 * (np.arange(rows) % 2)),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Days of rows, as Parquet."""
    found = tmp_path_factory.mktemp("rows")
    for i in range(12):
        pq.write_table(rows_of(FIRST + timedelta(days=i), 300), found / f"{i:02d}.parquet")
    return found


def query(folder, sql="SELECT row_id, x, place FROM rows", target="(y > 0)::INT", group="session"):
    """Return a features query over all days."""
    files = tuple(
        TableFile(path=folder / f"{i:02d}.parquet", day=FIRST + timedelta(days=i), key=f"{i:02d}.parquet")
        for i in range(12)
    )
    return FeatureQuery(tables={"rows": TableFiles(files=files)}, sql=sql, hidden=("y",), target=target, group=group)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """An engine."""
    return DuckEngine(tmp_path_factory.mktemp("cache"), threads=1)


@pytest.fixture(scope="module")
def ranked(engine, folder):
    """The frame of a ranking."""
    return engine.features(query(folder))


def test_frame_of_a_ranking_is_in_order_of_its_lists(ranked):
    """Rows are sorted by day, list and number, each with its own label and list."""
    place = list(zip(*(ranked.table[name].to_pylist() for name in ("dt", GROUP, "row_id")), strict=True))
    assert place == sorted(place)
    assert len(place) == 12 * 300
    raw = {day: rows_of(day, 300).to_pylist() for day in {day for day, *_ in place}}
    for (day, name, row), x in zip(place, ranked.table["x"].to_pylist(), strict=True):
        of_row = raw[day][row % 2**32]
        assert (of_row["session"], of_row["x"]) == (name, x)


def test_a_frame_without_lists_is_as_it_was(engine, folder):
    """Of other tasks the frame is sorted by row alone, and has no column of lists."""
    frame = engine.features(query(folder, group=None))
    assert GROUP not in frame.table.column_names
    assert lists_in(frame.table) is None
    assert frame.table["row_id"].to_pylist() == sorted(frame.table["row_id"].to_pylist())


@given(rows=st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_no_batch_tears_a_list(ranked, rows):
    """However small batches are, each list lies in one of them, and all rows come in order."""
    batches = list(ranked.batches(FIRST, FIRST + timedelta(days=2), rows))
    names = [set(batch[GROUP].to_pylist()) for batch in batches]
    assert all(not one & other for one, other in pairwise(names))
    assert pa.concat_tables(batches).equals(ranked.days(FIRST, FIRST + timedelta(days=2)))


def test_row_that_a_join_multiplies_is_refused(engine, folder):
    """That the frame is sorted by lists hides no row that comes back."""
    with pytest.raises(SpecInvalid, match="comes back 2 times"):
        engine.features(query(folder, "SELECT row_id, x FROM rows, range(2)"))


def test_feature_cannot_take_the_name_of_the_lists(engine, folder):
    """The column that tells lists apart is the engine's own; a feature called group is as good as any."""
    with pytest.raises(SpecInvalid, match=r"a feature cannot be called ratchet\.group"):
        engine.features(query(folder, f'SELECT row_id, x AS "{GROUP}" FROM rows'))
    frame = engine.features(query(folder, 'SELECT row_id, x AS "group" FROM rows'))
    assert "group" in frame.table.column_names


DAYS = windows(FIRST + timedelta(days=11), days=12, holdout_days=3, stop_days=2, label_delay_days=0)


def plan(task, **more):
    """Return how to fit."""
    given = {
        "task": task,
        "params": {"max_depth": 3, "eta": 0.2},
        "rounds": 60,
        "early_stopping_rounds": 10,
        "seed": 1,
        "threads": 1,
        "device": "cpu",
    }
    return TrainingPlan(**{**given, **more})


def held_out(frame: FeatureFrame):
    """Return the rows that no fit has met."""
    return frame.days(DAYS.holdout.first, DAYS.holdout.last)


def test_ranking_is_learnt(ranked, folder):
    """A ranking's booster orders lists that it never met far better than chance; the same bytes come out again."""
    fit, again = (XgbTrainer().fit(ranked, DAYS, plan("ranking"), query(folder)) for _ in range(2))
    assert fit.files.digest == again.files.digest
    assert fit.files.schema_.group == "session"
    assert list(fit.curves) == ["ndcg"]
    table = held_out(ranked)
    y, lists = XgbTrainer().labels(fit.files, table), lists_in(table)
    scores = XgbTrainer().predict(fit.files, table)
    found, chance = (lists_of(y, p, lists, 10).ndcg.mean() for p in (scores, np.zeros(len(y))))
    assert found > chance + 0.2


@pytest.mark.parametrize("quantiles", [(0.1, 0.5, 0.9), (0.25,)])
def test_quantiles_hold_as_many_labels_as_they_say(engine, folder, quantiles):
    """On days that the fit has not met about the said share of labels lies below each quantile, and none cross."""
    told = query(folder, target="y", group=None)
    frame = engine.features(told)
    fit = XgbTrainer().fit(frame, DAYS, plan("quantile", quantiles=quantiles), told)
    table = held_out(frame)
    y, p = XgbTrainer().labels(fit.files, table), XgbTrainer().predict(fit.files, table)
    assert p.shape == (table.num_rows, len(quantiles))
    assert (np.diff(p, axis=1) >= 0).all()
    assert (y[:, None] <= p).mean(axis=0) == pytest.approx(quantiles, abs=0.07)
    assert XgbTrainer().predict(fit.files, table.slice(0, 0)).shape == (0, len(quantiles))


def test_linear_baselines_of_both_tasks(engine, folder, ranked):
    """Quantiles of the linear baseline are those of its residuals around it; a ranking's are regressed values."""
    told = query(folder, target="y", group=None)
    frame = engine.features(told)
    trainer = XgbTrainer()
    files = trainer.fit(frame, DAYS, plan("quantile", quantiles=(0.1, 0.5, 0.9)), told).files
    before = frame.days(DAYS.fit.first, DAYS.stop.last)
    p = trainer.linear(files, before, held_out(frame))
    y = trainer.labels(files, held_out(frame))
    assert (y[:, None] <= p).mean(axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.07)
    assert np.ptp(p[:, 2] - p[:, 0]) == pytest.approx(0, abs=1e-9)
    files = trainer.fit(ranked, DAYS, plan("ranking"), query(folder)).files
    scores = trainer.linear(files, ranked.days(DAYS.fit.first, DAYS.stop.last), held_out(ranked))
    assert scores.shape == (held_out(ranked).num_rows,)
