"""The baseline `recent` where days have no rows: a season that is over, a shop that is closed."""

from __future__ import annotations

import io
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_world import FIRST, World, partition

DAY = timedelta(days=1)
LAST = FIRST + 29 * DAY
GAP = (FIRST + 16 * DAY, FIRST + 26 * DAY)  # the days up to the hold-out that have no rows


def rate(day):
    """Return the share of a day's rows that are hot."""
    return float(np.mean(pq.read_table(io.BytesIO(partition(day)))["y"].to_numpy(zero_copy_only=False)))


@pytest.mark.parametrize("gap", [GAP, None])
def test_recent_looks_back_over_days_that_have_rows(tmp_path, gap):
    """It is learnt from the newest seven days with rows, however long ago, so that a gap before the hold-out stops no promotion."""
    world = World(tmp_path)
    there = [FIRST + i * DAY for i in range(30)]
    there = [day for day in there if not (gap and gap[0] <= day <= gap[1])]
    for day in there:
        world.land(day)
    night = world.night(LAST, pipeline=world.pipeline(window__days=30, window__stop_days=16))
    before = [day for day in there if day < LAST - 2 * DAY][-7:]
    p = np.mean([rate(day) for day in before])
    days = night.evaluate.case.baselines["recent 7"][night.evaluate.case.must_beat.loss]
    assert len(days) == 3
    for told in days:
        y = rate(date.fromisoformat(told.day))
        assert told.baseline == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)))
    assert not [reason for reason in night.reasons if "recent 7" in reason and "not known" in reason]
