"""What the files of a table have in common, and which differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.schemas import FileColumns, agreement, widest

PLAIN = {"id": "BIGINT", "x": "DOUBLE"}


def files(*columns, empty=()):
    """Return one file a partition."""
    return [FileColumns(f"day {i}", f"k{i}", given, empty if i in empty else ()) for i, given in enumerate(columns)]


def deviations(found):
    """Return what deviates, in short."""
    return [(d.key, d.column, d.kind) for d in found.deviations]


def test_files_that_agree_have_everything_in_common():
    """No file deviates, and the columns are those of each."""
    found = agreement(files(PLAIN, PLAIN))
    assert (found.columns, found.deviations) == (PLAIN, ())


def test_a_column_that_one_partition_lacks_or_only_it_has_is_told():
    """A renamed column is missing under its old name and extra under the new, with what the others have."""
    found = agreement(files(PLAIN, PLAIN, {"id": "BIGINT", "xx": "DOUBLE"}, PLAIN))
    assert deviations(found) == [("k2", "x", "missing"), ("k2", "xx", "extra")]
    missing, extra = found.deviations
    assert missing.words == "k2 lacks column x (DOUBLE), which 3 of 4 partitions have, such as k0; it has id, xx"
    assert extra.words == "k2 has a column xx (DOUBLE), which only 1 of 4 partitions have: k0 has it not"
    assert found.columns == PLAIN


def test_most_partitions_decide_not_the_first():
    """One odd file does not make all others odd, wherever it stands; a partition of many files counts once."""
    odd = {**PLAIN, "x": "VARCHAR"}
    assert deviations(agreement(files(odd, PLAIN, PLAIN))) == [("k0", "x", "type")]
    parts = [FileColumns("day 0", f"p{i}", odd) for i in range(5)]
    found = agreement([*parts, *files({}, PLAIN, PLAIN)[1:]])
    assert {d.partition for d in found.deviations} == {"day 0"}
    assert found.deviations[0].words == "column x of p0: expected DOUBLE as in k1, found VARCHAR"


def test_a_column_without_any_value_is_of_every_type():
    """Nobody can tell the type of nothing; a file that has text where others have numbers is told."""
    null = {**PLAIN, "x": "VARCHAR"}
    columns = files(PLAIN, null, null, null)
    whole = [columns[0], *(file._replace(empty=("X",)) for file in columns[1:])]
    assert agreement(whole).columns == PLAIN
    assert agreement(whole).deviations == ()
    assert deviations(agreement(columns)) == [("k0", "x", "type")]


def test_a_type_that_holds_the_others_takes_them_in():
    """Whole numbers turn into fractions, and dates into timestamps, and nothing deviates."""
    found = agreement(files({"a": "INTEGER", "d": "DATE"}, {"a": "DECIMAL(9,2)", "d": "TIMESTAMP"}))
    assert (found.columns, found.deviations) == ({"a": "DOUBLE", "d": "TIMESTAMP"}, ())


def test_what_is_ignored_may_be_anything():
    """Ignored columns are neither expected nor extra."""
    found = agreement(files(PLAIN, {"id": "BIGINT", "y": "DATE"}), ignore=("X", "y"))
    assert (found.columns, found.deviations) == ({"id": "BIGINT"}, ())


KINDS = st.sampled_from(["BIGINT", "INTEGER", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP", "BOOLEAN"])


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), KINDS), min_size=1, max_size=6))
def test_what_is_left_without_the_deviating_files_agrees(columns):
    """Leaving out the partitions that deviate leaves files that can be read as one table, with the columns as expected."""
    given_files = files(*columns)
    found = agreement(given_files)
    odd = {d.partition for d in found.deviations}
    for file in given_files:
        if file.partition not in odd:
            assert set(file.columns) == set(found.columns)
            assert all(
                widest([kind, found.columns[name]]) == found.columns[name] for name, kind in file.columns.items()
            )
