"""What a person reads of a snapshot: every object, and what has changed, whatever their keys hold."""

from __future__ import annotations

from datetime import date

from ratchet.cli.snapshot import _list, _moment, _tell_changes
from ratchet.domain.snapshots import Pin, SnapshotDiff


def pin(number: int, **changed) -> Pin:
    """Return a pin of one object."""
    facts = {
        "uri": f"s3://lake/t/[bold]{number}.parquet",
        "size": 1_234_567,
        "etag": "e",
        "version": f"v{number}",
        "sha256": f"{number:064x}",
        "day": date(2024, 1, 2),
        "rows": 1000,
        "modified": "2024-01-03T02:10:00+00:00",
    }
    return Pin(**{**facts, **changed})


def test_objects_are_listed_with_what_identifies_them(capsys):
    """Key, version, digest and when it landed; one that cannot be read says why; markup in a key is shown, not obeyed."""
    _list("rows", (pin(1), pin(2, rows=0, problem="line 7 has 3 fields, expected 4")), every=False)
    shown = capsys.readouterr().out
    assert "rows: 2 objects, 1,000 rows, 2.5 MB" in shown
    for words in ("v1", "000000000000", "2024-01-03", "[bold]1", "line 7 has 3 fields, expected 4"):
        assert words in shown


def test_many_objects_are_cut_short(capsys):
    """The newest are shown and the rest counted, unless all are asked for."""
    pins = tuple(pin(n) for n in range(50))
    _list("rows", pins, every=False)
    assert "and 10 before them" in capsys.readouterr().out
    _list("rows", pins, every=True)
    shown = capsys.readouterr().out
    assert "before them" not in shown
    assert all(f"v{n}" in shown for n in range(50))


def test_changes_are_told_with_their_lag(capsys):
    """How late something came stands beside it."""
    late = {"a": 1, "b": 12}
    _tell_changes(
        SnapshotDiff(
            previous="p", added=("a", "c"), corrected=("b",), removed=("x",), released=("2024-01-02",), late=late
        )
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "2 added",
        "  a late by 1 day",
        "  c",
        "1 corrected",
        "  b late by 12 days",
        "1 removed",
        "  x",
        "rows of 2024-01-02 were given back",
    ]


def test_a_day_and_a_digest_are_told_apart():
    """What reads as a date is one."""
    assert _moment("2024-01-02") == date(2024, 1, 2)
    assert _moment("20240102abcd") == "20240102abcd"
    assert _moment("20240102") == "20240102"
