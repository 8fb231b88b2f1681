"""Snapshots: the digest says which bytes, and only that; the difference says what has changed."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.snapshots import Pin, Snapshot, difference
from ratchet.domain.windows import Span

DAY = date(2024, 1, 10)
WINDOW = Span(first=DAY - timedelta(days=5), last=DAY)


def pin(day: date | None = DAY, content: str = "a", **changed) -> Pin:
    """Return a pin of one day's object."""
    whole = {
        "uri": f"s3://lake/t/dt={day}/a.parquet",
        "size": 1,
        "etag": '"e"',
        "version": "v1",
        "sha256": content * 64,
        "day": day,
        "rows": 3,
    }
    return Pin(**{**whole, **changed})


def snapshot(*rows: Pin, **changed) -> Snapshot:
    """Return a snapshot of these pins."""
    return Snapshot(**{"pipeline": "p", "cutoff": DAY, "window": WINDOW, "tables": {"rows": rows}, **changed})


pins = st.lists(
    st.builds(pin, st.dates(WINDOW.first, WINDOW.last), st.sampled_from("abc")),
    unique_by=lambda p: p.uri,
    min_size=1,
    max_size=6,
)


@given(found=pins, order=st.randoms(use_true_random=False))
def test_the_order_of_listing_does_not_matter(found, order):
    """The same objects listed in any order have one digest."""
    mixed = list(found)
    order.shuffle(mixed)
    assert snapshot(*mixed).digest == snapshot(*found).digest


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"other"'},
        {"version": "v2"},
        {"version": None},
        {"uri": f"s3://elsewhere/t/dt={DAY}/a.parquet"},
        {"rows": 4},
    ],
)
def test_the_digest_ignores_what_differs_between_stores(change):
    """ETag, version id and bucket may differ between two stores with the same bytes; the digest does not."""
    assert snapshot(pin(**change)).digest == snapshot(pin()).digest


@pytest.mark.parametrize(
    "change",
    [{"sha256": "b" * 64}, {"size": 2}, {"day": DAY - timedelta(days=1)}, {"uri": "s3://lake/t/other.parquet"}],
)
def test_the_digest_sees_content(change):
    """Other bytes, another size, day or key make another snapshot."""
    assert snapshot(pin(**change)).digest != snapshot(pin()).digest


def test_the_digest_sees_tables_and_window():
    """One object more, the same object as another table, or other days make another snapshot; the cutoff alone does not."""
    one = snapshot(pin())
    assert snapshot(pin(), pin(DAY - timedelta(days=1))).digest != one.digest
    assert snapshot(tables={"rows": (), "side": (pin(),)}).digest != one.digest
    assert snapshot(pin(), window=Span(first=DAY, last=DAY)).digest != one.digest
    assert snapshot(pin(), cutoff=DAY + timedelta(days=3)).digest == one.digest


def test_the_digest_survives_being_stored():
    """A manifest that is read back has the digest that it was stored under."""
    made = snapshot(pin(), pin(None, uri="s3://lake/t/x.csv", days=(DAY,)))
    assert Snapshot.model_validate_json(made.model_dump_json()).digest == made.digest


def test_the_difference_names_what_came_changed_and_went():
    """Added, corrected and removed objects are told by key; a day that has left the window is no removal."""
    old, kept, gone = WINDOW.first - timedelta(days=1), WINDOW.first, WINDOW.first + timedelta(days=1)
    before = snapshot(pin(old), pin(kept), pin(gone))
    after = snapshot(pin(kept, "b"), pin(DAY))
    found = difference(before, after)
    assert found.previous == before.digest
    assert found.added == (f"t/dt={DAY}/a.parquet",)
    assert found.corrected == (f"t/dt={kept}/a.parquet",)
    assert found.removed == (f"t/dt={gone}/a.parquet",)


@given(found=pins)
def test_nothing_differs_from_itself(found):
    """A snapshot compared with itself, or with nothing, has no corrections and no removals."""
    same, first = difference(snapshot(*found), snapshot(*found)), difference(None, snapshot(*found))
    assert (same.added, same.corrected, same.removed) == ((), (), ())
    assert len(first.added) == len(found)
    assert first.previous is None


def test_the_days_of_a_snapshot():
    """The days that have a partition are told once each and in order."""
    assert snapshot(
        pin(DAY), pin(WINDOW.first), pin(DAY, uri="s3://lake/t/b.parquet"), pin(None, uri="s3://lake/x")
    ).days == (WINDOW.first, DAY)


LATE = WINDOW.last - timedelta(days=2)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ({"day": LATE}, 3),
        ({"day": WINDOW.last}, 1),
        ({"day": WINDOW.last + timedelta(days=1)}, None),
        ({"day": WINDOW.first - timedelta(days=1)}, None),
        ({"day": None, "days": (LATE, WINDOW.last)}, 1),
        ({"day": None, "days": (LATE, WINDOW.last + timedelta(days=1))}, None),
        ({"day": None, "days": ()}, None),
    ],
)
def test_what_comes_late_is_told_by_how_much(days, expected):
    """Late is what an earlier night would have read, in days after the first that would have; a few old rows make no file late."""
    whole = Span(first=WINDOW.first - timedelta(days=2), last=WINDOW.last + timedelta(days=1))
    came = pin(days.get("day"), "c", uri="s3://lake/t/x.parquet", days=days.get("days"))
    found = difference(snapshot(pin()), snapshot(pin(), came, window=whole, cutoff=whole.last))
    assert found.added == ("t/x.parquet",)
    assert found.late == ({"t/x.parquet": expected} if expected else {})


def test_a_correction_is_late_too():
    """Other bytes of an old day come after the night that has read the first ones."""
    window = Span(first=WINDOW.first, last=DAY + timedelta(days=1))
    found = difference(snapshot(pin()), snapshot(pin(content="b"), window=window))
    assert found.late == {f"t/dt={DAY}/a.parquet": 1}


def test_tables_of_two_buckets_do_not_hide_each_other():
    """Two tables may have objects of the same key; a change of either is told."""
    side = pin(uri=f"s3://other/t/dt={DAY}/a.parquet", content="c")
    changed = pin(uri=side.uri, content="d")
    before, after = snapshot(tables={"rows": (pin(),), "side": (side,)}), {"rows": (pin(),), "side": (changed,)}
    assert difference(before, snapshot(tables=after)).corrected == (f"t/dt={DAY}/a.parquet",)


def test_rows_given_back_are_told_by_their_partition():
    """A release that the snapshot before did not know is named by its partition; one that it knew is not told again."""
    before, after = snapshot(pin(), releases=("a",)), snapshot(pin(), releases=("a", "b"))
    assert before.digest != snapshot(pin()).digest
    assert difference(before, after, {"a": "x", "b": str(DAY)}).released == (str(DAY),)
