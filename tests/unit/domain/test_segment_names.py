"""Names of segments: safe in every address, never the same for two values, and readable; and the account of a night's segments."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain import layout
from ratchet.domain.segments import (
    NAME,
    SLUG,
    Segment,
    SegmentNight,
    SegmentsResult,
    chunked,
    name_of,
    parent_of,
    slug_of,
    split,
    standing,
    visible,
)

DAY = date(2024, 3, 1)


@given(st.text(max_size=200))
def test_every_value_has_a_safe_name(value: str) -> None:
    """Whatever a value holds, its model's name is one that stores, MLflow and pages take, and tells its pipeline and slug again."""
    slug = slug_of(value)
    name = name_of("flights", slug)
    assert re.fullmatch(SLUG, slug)
    assert re.fullmatch(NAME, name)
    assert split(name) == ("flights", slug)


@given(st.lists(st.text(max_size=60), unique=True, max_size=30))
def test_two_values_never_share_a_name(values: list[str]) -> None:
    """Values that read alike are told apart by their hash."""
    assert len({slug_of(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("value", "slug"),
    [
        ("ewr", "ewr"),
        ("EWR", r"ewr-[0-9a-f]{10}"),
        ("Île-de-France", r"ile_de_france-[0-9a-f]{10}"),
        ("東京", r"x-[0-9a-f]{10}"),
        ("", r"x-[0-9a-f]{10}"),
        ("../../etc", r"etc-[0-9a-f]{10}"),
    ],
)
def test_a_slug_can_be_read(value: str, slug: str) -> None:
    """A plain word is its own slug, any other value is told by what can be read of it."""
    assert re.fullmatch(slug, slug_of(value))


def test_data_is_the_pipelines_and_models_are_the_segments() -> None:
    """What was pinned and validated lies once; ledger, nights and scores lie under the segment's own name."""
    own = name_of("flights", "ewr")
    assert layout.snapshot(own, "d") == layout.snapshot("flights", "d")
    assert layout.validations(own, "s" * 64) == layout.validations("flights", "s" * 64)
    assert layout.quarantines(own, "s" * 64) == layout.quarantines("flights", "s" * 64)
    assert layout.ledger(own) != layout.ledger("flights")
    assert not layout.nights(own).startswith(layout.nights("flights"))
    assert parent_of(own) == parent_of("flights") == "flights"


@given(st.integers(0, 3000), st.integers(1, 1024), st.integers(1, 50))
def test_tasks_share_all_segments_out(count: int, most: int, each: int) -> None:
    """Every segment is in one task, in order, and there are no more tasks than Airflow takes."""
    tasks = chunked(count, most, each)
    assert len(tasks) <= most
    assert [place for begin, end in tasks for place in range(begin, end)] == list(range(count))


@pytest.mark.parametrize(
    ("value", "shown"),
    [("EWR", "EWR"), ("", "''"), (" ", "' '"), ("プロ", "プロ"), ("a\nb", "a\\nb"), ("x" * 61, "x" * 60 + "…")],
)
def test_odd_values_are_shown_in_a_line(value: str, shown: str) -> None:
    """A value without a visible character is quoted, a line break is no line break, and one that fills a page is cut."""
    assert visible(value) == shown


def test_a_night_without_a_word_has_failed() -> None:
    """A segment whose process was killed counts as failed, its champion stays, and the line names it."""
    segment = Segment(value="EWR", slug="ewr", rows=10)
    lost = standing(segment, None, 3)
    assert (lost.outcome, lost.serves, lost.champion) == ("failed", "own", 3)
    made = SegmentsResult(pipeline="p", cutoff=DAY, run_key="k", by="origin", rows=10, of_none=0, segments=(lost,))
    assert made.words.startswith(
        "1 segments by origin: 1 served by a champion of their own; tonight 1 failed. Went wrong: EWR"
    )


def test_a_sparse_segment_keeps_the_champion_that_it_has() -> None:
    """With too few rows tonight it falls back only where it has none of its own."""
    segment = Segment(value="EWR", slug="ewr", rows=10, without="10 rows to fit on, segments.min_rows is 1000")
    assert standing(segment, None, None).serves == "global"
    kept = standing(segment, None, 2)
    assert (kept.serves, kept.outcome) == ("own", None)
    assert kept.why.endswith("its champion of an earlier night stays")


def test_a_refused_model_leaves_the_segment_to_the_global_champion() -> None:
    """The reason says that no model of its own has passed yet."""
    night = SegmentNight(value="EWR", slug="ewr", outcome="refused", version=1)
    found = standing(Segment(value="EWR", slug="ewr", rows=10), night, None)
    assert (found.serves, found.why) == ("global", "no model of its own has passed its gates yet: refused tonight")
