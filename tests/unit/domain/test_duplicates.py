"""Rows that come more than once, told from samples of their hashes."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.data_rules import WindowChecks
from ratchet.domain.duplicates import duplicates, overlap
from ratchet.domain.summaries import ALL, Part, PartSummary, Sketch
from ratchet.domain.windows import DAY, windows

FIRST = date(2024, 1, 1)
DAYS = windows(FIRST + 19 * DAY, days=20, holdout_days=5, stop_days=3, label_delay_days=0)
FRESH = frozenset({DAYS.whole.last})


def part(at, rows, sample=None):
    """Summarise rows, each named by a number; ``sample`` keeps about so many of them, by their hashes."""
    hashed = np.array([_mixed(int(row)) for row in rows], np.uint64)
    bound = ALL if sample is None or sample >= len(rows) else int(ALL * (sample / len(rows)))
    hashes, counts = np.unique(hashed[hashed.astype(object) < bound], return_counts=True)
    sketch = Sketch.of(bound, hashes, counts)
    return Part(f"lake/dt={at}/part.parquet", PartSummary(day=at, rows=len(rows), missing={}, sketch=sketch))


def _mixed(number):
    """Return a hash as even as a sample needs."""
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        number = ((number ^ (number >> 31)) * factor + 0x9E3779B97F4A7C15) % ALL
    return number ^ (number >> 31)


def own(at, rows=500):
    """Return rows that no other day has."""
    return np.arange(rows) + at.toordinal() * 1_000_000


def window(sample=None, **changed):
    """Return a window of days with rows of their own, apart from some by number."""
    days = DAYS.whole.days()
    rows = {i: changed.get(f"day{i}", own(at)) for i, at in enumerate(days)}
    return [part(days[i], rows[i], sample) for i in rows]


def found(parts, **given_):
    """Return what both checks find with the default limits."""
    checks = WindowChecks.model_validate(given_)
    return [*duplicates(parts, FRESH, checks), *overlap(parts, DAYS, checks)]


def test_rows_of_their_own_are_in_order():
    """Days without a common row show nothing."""
    assert found(window()) == []


@pytest.mark.parametrize("sample", [None, 200])
def test_a_partition_that_landed_twice_is_found(sample):
    """The same rows under another day are named with both partitions, although only a sample of them is kept."""
    days = DAYS.whole.days()
    (finding,) = found(window(sample, day3=own(days[9])))
    assert (finding.kind, finding.action, finding.value) == ("duplicates", "hold", 1.0)
    assert (
        "100.0% of the rows of lake/dt=2024-01-10/part.parquet come again in other partitions, in every column"
        in finding.words
    )
    assert "most of them in lake/dt=2024-01-04/part.parquet (1 more partition like it)" in finding.words
    assert "validation.window.key" in finding.words


@pytest.mark.parametrize(("again", "kinds"), [(3, []), (60, ["duplicates", "overlap"])])
def test_some_rows_of_training_in_the_holdout(again, kinds):
    """A tenth of a hold-out day that also stands in training is found; a handful of rows is not."""
    days = DAYS.whole.days()
    every = {f"day{i}": np.concatenate([own(days[i])[again:], own(days[1])[:again]]) for i in range(15, 20)}
    assert [f.kind for f in found(window(**every))] == kinds


def test_an_overlap_rejects():
    """What stands on both sides of the cut ends the night, and the message tells how to go on."""
    days = DAYS.whole.days()
    *_, finding = found(window(day19=own(days[2])))
    assert (finding.kind, finding.action, finding.value) == ("overlap", "reject", 0.2)
    assert (
        "20.0% of the rows of the hold-out (2024-01-16 … 2024-01-20) also stand in training, in every column"
        in finding.words
    )
    assert "most of them in lake/dt=2024-01-20/part.parquet" in finding.words


def test_exports_that_contain_all_before_them_are_found():
    """Cumulative exports repeat the past in every partition: it is no chance, since none repeats itself."""
    days = DAYS.whole.days()
    grown = {f"day{i}": np.concatenate([own(at) for at in days[: i + 1]]) for i in range(20)}
    assert [f.kind for f in found(window(300, **grown))] == ["duplicates", "overlap"]


def test_a_table_with_few_different_rows_agrees_by_chance():
    """Rows of three columns with a few values each are equal all the time, and nobody has landed them twice."""
    random = np.random.default_rng(3)
    few = {f"day{i}": random.integers(0, 40, 500) for i in range(20)}
    assert found(window(**few)) == []


@given(st.integers(0, 2**32 - 1), st.sampled_from([200, 2_000, 20_000, 500_000]))
def test_chance_holds_nobody_back(seed, different):
    """Rows drawn alike each day are in order, however many different ones there are."""
    random = np.random.default_rng(seed)
    drawn = {f"day{i}": (different * random.random(300) ** 2).astype(int) for i in range(20)}
    assert found(window(**drawn)) == []


def test_a_copy_is_found_among_rows_that_agree_by_chance():
    """Half of the rows agree with others anyway; a day whose rows all do is one that landed twice."""
    random = np.random.default_rng(4)
    drawn = {f"day{i}": random.integers(0, 10_000, 500) for i in range(20)}
    assert found(window(**drawn)) == []
    assert [f.kind for f in found(window(**{**drawn, "day7": drawn["day8"]}))] == ["duplicates"]


def test_with_a_key_nothing_is_chance():
    """Where columns name the rows, rows that agree in them are the same ones."""
    random = np.random.default_rng(3)
    few = {f"day{i}": random.integers(0, 40, 500) for i in range(20)}
    assert [f.kind for f in found(window(**few), key=["id"])] == ["duplicates", "duplicates", "overlap"]


def test_every_row_ten_times_is_found():
    """Rows that all come equally often have been multiplied, even where every day is like that."""
    days = DAYS.whole.days()
    (finding,) = found(window(**{f"day{i}": np.repeat(own(at, 50), 10) for i, at in enumerate(days)}))
    assert (finding.kind, finding.value) == ("duplicates", 0.9)
    assert "every row comes 10 times, in every column (19 more partitions like it)" in finding.words


def test_one_day_that_repeats_itself_is_found():
    """A day of which a fifth comes twice differs from all others, of which nothing does."""
    days = DAYS.whole.days()
    rows = np.concatenate([own(days[19], 400), own(days[19], 100)])
    (finding,) = found(window(day19=rows))
    assert finding.words.startswith("in lake/dt=2024-01-20/part.parquet 20.0% of the rows repeat another one")


def test_files_of_very_different_sizes_are_compared():
    """A small partition that stands in one a hundred times its size is found, as far as the samples can tell."""
    days = DAYS.whole.days()
    large = np.concatenate([own(days[5], 30_000), own(days[8])])
    kinds = {f.kind for f in found(window(2_000, day5=large))}
    assert kinds == {"duplicates"}


def test_a_warning_is_about_fresh_days_only():
    """Two old partitions that are alike have been told of when they came."""
    days = DAYS.whole.days()
    warn = {"duplicates": {"action": "warn"}}
    assert found(window(day3=own(days[9])), **warn) == []
    assert len(found(window(day3=own(days[9]), day19=own(days[18])), **warn)) == 1


def test_checks_that_are_off_find_nothing():
    """Both checks can be turned off."""
    days = DAYS.whole.days()
    off = {"duplicates": {"action": "off"}, "overlap": {"action": "off"}}
    assert found(window(day19=own(days[2])), **off) == []


def test_partitions_without_rows_to_compare_are_passed_over():
    """Where no file has the columns of the key there is nothing to compare."""
    bare = [Part("x", PartSummary(day=at, rows=9, missing={})) for at in DAYS.whole.days()]
    assert found(bare) == []
    empty = Sketch.of(ALL, [], [])
    assert found([Part("x", PartSummary(day=at, rows=9, missing={}, sketch=empty)) for at in DAYS.whole.days()]) == []
