"""Rows that break an expectation are named exactly, or the failure is not called one about rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.gx import GxValidator

FIRST = pa.table(
    {
        "id": [1, 2, 3, 4],
        "name": ["anna", "b3rt", None, "anna"],
        "speed": [1.0, None, 1048.0, 20.0],
        "day": [date(2024, 5, i) for i in (1, 2, 3, 4)],
        "price": [Decimal("1.50"), Decimal("-2.00"), None, Decimal("3.00")],
        'odd name\'s "x"': [1, None, 3, 4],
    }
)
SECOND = pa.table(
    {
        "id": [4, 6],
        "name": ["dora", "anna"],
        "speed": [-1.0, 2.0],
        "day": [date(2024, 5, 5), date(2031, 1, 1)],
        "price": [Decimal("9.99"), Decimal("1.50")],
        'odd name\'s "x"': [5, 9],
    }
)
MANY = {"row_condition": 'col("id") > 1', "condition_parser": "great_expectations"}


@pytest.fixture(scope="module")
def validator():
    """Return one validator for the module, as a task has one."""
    return GxValidator(limit_seconds=30)


@pytest.fixture
def broken(validator, tmp_path):
    """Return a function that gives the rows that break an expectation, or None where it did not fail for rows."""

    def broken(*expectations, tables=(FIRST, SECOND)):
        files = []
        for i, table in enumerate(tables):
            files.append(tmp_path / f"{i}.parquet")
            pq.write_table(table, files[-1], row_group_size=2)
        suite = {"name": "s", "expectations": list(expectations)}
        results = validator.validate(files, suite).results
        wanted = [i for i, result in enumerate(results) if result.rowwise]
        if not wanted:
            return None
        return [(row.file, row.row, row.expectations) for row in validator.broken_rows(files, suite, wanted)]

    return broken


def expect(kind, **kwargs):
    return {"type": kind, "kwargs": kwargs, "severity": "critical"}


def sql(query):
    return expect("unexpected_rows_expectation", unexpected_rows_query=query)


@pytest.mark.parametrize(
    ("expectation", "rows"),
    [
        (expect("expect_column_values_to_be_between", column="speed", min_value=0, max_value=250), [(0, 2), (1, 0)]),
        (expect("expect_column_values_to_not_be_null", column="name"), [(0, 2)]),
        (expect("expect_column_values_to_be_null", column="price"), [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)]),
        (expect("expect_column_values_to_be_unique", column="id"), [(0, 3), (1, 0)]),
        (expect("expect_column_values_to_be_in_set", column="name", value_set=["anna", "dora"]), [(0, 1)]),
        (expect("expect_column_values_to_not_be_in_set", column="id", value_set=[4, 6]), [(0, 3), (1, 0), (1, 1)]),
        (expect("expect_column_values_to_match_regex", column="name", regex="^[a-z]+$"), [(0, 1)]),
        (expect("expect_column_values_to_not_match_like_pattern", column="name", like_pattern="d%"), [(1, 0)]),
        (expect("expect_column_value_lengths_to_equal", column="name", value=5), [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)]),
        (expect("expect_column_values_to_be_between", column="day", max_value="2030-01-01"), [(1, 1)]),
        (expect("expect_column_values_to_be_between", column="price", min_value=0), [(0, 1)]),
        (expect("expect_column_values_to_not_be_null", column="odd name's \"x\""), [(0, 1)]),
        (expect("expect_column_values_to_not_be_null", column="name", **MANY), [(0, 2)]),
        (expect("expect_column_values_to_be_in_set", column="name", value_set=["dora"], **MANY), [(0, 1), (0, 3), (1, 1)]),
        (expect("expect_column_pair_values_a_to_be_greater_than_b", column_A="speed", column_B="id", ignore_row_if="either_value_is_missing"),
         [(0, 0), (1, 0), (1, 1)]),
        (expect("expect_column_pair_values_to_be_equal", column_A="id", column_B="odd name's \"x\"", ignore_row_if="either_value_is_missing"),
         [(1, 0), (1, 1)]),
        (expect("expect_compound_columns_to_be_unique", column_list=["name", "price"]), [(0, 0), (1, 1)]),
        (expect("expect_select_column_values_to_be_unique_within_record", column_list=["id", "speed"]), [(0, 0)]),
        (expect("expect_column_values_to_be_dateutil_parseable", column="name"), [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)]),
        (expect("expect_column_values_to_match_regex", column="name", regex="^(?=[a-c])"), [(1, 0)]),
        (expect("expect_column_values_to_match_regex", column="name", regex="^(?=[b-d])", **MANY), [(0, 3), (1, 1)]),
        (sql("SELECT * FROM {batch} WHERE speed > 250"), [(0, 2)]),
        (sql("SELECT b.* FROM {batch} AS b JOIN {batch} AS c ON b.id = c.id AND b.name > c.name"), [(1, 0)]),
        (sql("WITH x AS (SELECT * FROM {batch}) SELECT * FROM x WHERE day::VARCHAR >= '2031' ORDER BY id"), [(1, 1)]),
        (sql("SELECT * FROM {batch} QUALIFY count(*) OVER (PARTITION BY id) > 1"), [(0, 3), (1, 0)]),
    ],
)  # fmt: skip
def test_rows_are_named_exactly(broken, expectation, rows):
    """By file and row, over several files, whichever engine has found them."""
    assert broken(expectation) == [(file, row, (0,)) for file, row in rows]


@pytest.mark.parametrize(
    "expectation",
    [
        expect("expect_column_values_to_not_be_null", column="name", mostly=0.9),  # too many: about the batch
        expect("expect_column_max_to_be_between", column="speed", max_value=250),
        expect("expect_table_row_count_to_equal", value=7),
        expect("expect_column_distinct_values_to_be_in_set", column="name", value_set=["anna"]),
        expect("expect_column_values_to_be_of_type", column="name", type_="BIGINT"),
        expect("expect_column_values_to_be_increasing", column="speed"),  # without those rows others are not
        expect("expect_column_values_to_be_between", column="nowhere", min_value=1),
        sql("SELECT name, count(*) FROM {batch} GROUP BY name HAVING count(*) > 2"),
        sql("SELECT name FROM {batch} WHERE name = 'b3rt'"),
        sql("SELECT * FROM {batch} WHERE speed > 0 LIMIT 1"),  # there are more
        sql("SELECT DISTINCT * EXCLUDE (id, day, speed, \"odd name's \"\"x\"\"\") FROM {batch} WHERE name = 'anna'"),
        sql("SELECT 1 AS ratchet_row FROM {batch} WHERE id = 1"),
    ],
)  # fmt: skip
def test_failures_that_are_about_more_than_rows_are_not_named(broken, expectation):
    """Aggregates, orders, limits, and shares that may be broken."""
    assert broken(expectation) is None


def test_a_row_that_breaks_several_is_named_once(broken):
    """With each expectation that it breaks, by its position in the suite."""
    assert broken(
        expect("expect_table_row_count_to_equal", value=1),
        expect("expect_column_values_to_be_between", column="speed", max_value=250),
        expect("expect_column_to_exist", column="id"),
        expect("expect_column_values_to_not_be_null", column="name"),
        sql("SELECT * FROM {batch} WHERE id = 2"),
    ) == [(0, 1, (4,)), (0, 2, (1, 3))]


def test_columns_that_hide_duckdbs_own_numbers_do_not_mislead(broken):
    """A file may have columns called file_index, file_row_number and like ours."""
    table = pa.table({"file_row_number": [9, 9], "FILE_INDEX": [7, 7], "Ratchet_Row": [5, 5], "a": [1, None]})
    assert broken(expect("expect_column_values_to_not_be_null", column="a"), tables=(table, table)) == [
        (0, 1, (0,)),
        (1, 1, (0,)),
    ]


def test_the_same_file_twice_is_two_files(validator, tmp_path):
    """Objects of equal content are one file in the cache, but both are read."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, None]}), file)
    suite = {"name": "s", "expectations": [expect("expect_column_values_to_not_be_null", column="a")]}
    rows = validator.broken_rows([file, file], suite, [0])
    assert [(row.file, row.row) for row in rows] == [(0, 1), (1, 1)]


def test_asking_for_rows_of_what_did_not_fail_for_rows_is_refused(validator, tmp_path):
    """Nobody takes an empty answer for "no row is broken"."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, None]}), file)
    suite = {"name": "s", "expectations": [expect("expect_table_row_count_to_equal", value=1)]}
    with pytest.raises(ValueError, match=r"expectations \[0\] of suite s did not fail for single rows"):
        validator.broken_rows([file], suite, [0])


def test_the_version_is_a_digest_of_what_decides(validator):
    """It is the same in every process, and code and libraries are in it."""
    assert len(validator.version) == 64
    assert validator.version == GxValidator().version
