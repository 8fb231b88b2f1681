"""Every expectation of Great Expectations works here, and finds on DuckDB what GX's own pandas engine finds."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.gx import GxValidator
from ratchet.adapters.gx_duck import backend
from ratchet.adapters.gx_run import configuration, error_of, validate

ODD = 'odd name\'s "x" %'
DAYS = [date(2024, 1, 1) + timedelta(days=k) if k != 4 else None for k in range(12)]
TABLE = pa.table(
    {
        "i": range(1, 13),
        "half": [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6],
        "gaps": [1, 2, None, 4, 4, 6, None, 8, 9, 10, 11, 1],
        "f": [0.5, 1.5, None, 2.5, -3.0, 1e9, 0.1, 0.2, 0.30000000000000004, 7.0, 8.0, 9.5],
        "nan": [1.0, float("nan"), 2.0, None, 9.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        "s": ["a", "b", "b", None, "", "Ab", "a b", "ä", "abc", "b", "z", "a"],
        "json": ["{}", '{"a": 1}', '{"a": 2}', None, *["{}"] * 8],
        "iso": [str(day) if day else None for day in DAYS],
        "day": DAYS,
        "at": pa.array([datetime(2024, 1, 1, k, tzinfo=UTC) if k != 5 else None for k in range(12)], pa.timestamp("us", "UTC")),
        "price": [Decimal(f"{k}.25") if k != 2 else None for k in range(12)],
        "b": [True, False, None, *[True] * 9],
        "cat": pa.array(["u", "v", "u", "v", None, "u", "u", "u", "v", "w", "u", "u"]).dictionary_encode(),
        ODD: [1, 2, None, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    }
)  # fmt: skip
LATE = {"row_condition": 'col("i") > 5', "condition_parser": "great_expectations"}
PAIR = {"column_A": "i", "column_B": "gaps"}
QUANTILES = {"quantiles": [0.1, 0.5, 0.9], "value_ranges": [[0, 1], [2, 8], [5, None]]}


def expect(kind, severity="warning", **kwargs):
    return {"type": kind, "kwargs": kwargs, "severity": severity}


BOTH = [  # the engines agree
    *[expect(f"expect_column_{what}_to_be_between", column=c, min_value=0, max_value=7)
      for what in ("max", "min", "mean", "median", "stdev", "sum") for c in ("i", "f", "nan", ODD)],
    *[expect("expect_column_values_to_be_between", column=c, min_value=1, max_value=8) for c in ("i", "f", "nan", "price", ODD)],
    *[expect("expect_column_quantile_values_to_be_between", column=c, quantile_ranges=QUANTILES) for c in ("i", "half", "f", "nan")],
    *[expect("expect_column_value_z_scores_to_be_less_than", column=c, threshold=2, double_sided=True) for c in ("f", "half")],
    *[expect("expect_column_values_to_not_be_outliers", column=c, method=m) for c in ("f", "i") for m in ("iqr", "std")],
    *[expect(f"expect_column_{what}", column=c)
      for what in ("values_to_not_be_null", "values_to_be_null", "values_to_be_unique", "to_exist") for c in TABLE.column_names],
    *[expect("expect_column_proportion_of_non_null_values_to_be_between", column=c, min_value=0.95) for c in ("i", "nan")],
    *[expect("expect_column_proportion_of_unique_values_to_be_between", column=c, min_value=0.9) for c in ("i", "nan", "s")],
    *[expect("expect_column_unique_value_count_to_be_between", column=c, max_value=10) for c in ("i", "nan", "day", "cat")],
    *[expect(f"expect_column_{what}", column="cat", value_set=["u", "v"])
      for what in ("values_to_be_in_set", "values_to_not_be_in_set", "distinct_values_to_be_in_set", "distinct_values_to_contain_set",
                   "distinct_values_to_equal_set", "most_common_value_to_be_in_set")],
    expect("expect_column_values_to_be_in_set", column="price", value_set=[0.25, 1.25]),
    expect("expect_column_kl_divergence_to_be_less_than", column="cat", threshold=0.1,
           partition_object={"values": ["u", "v", "w"], "weights": [0.2, 0.7, 0.1]}),
    expect("expect_column_value_lengths_to_equal", column="s", value=1),
    expect("expect_column_value_lengths_to_be_between", column="s", min_value=1, max_value=2),
    expect("expect_column_values_to_match_regex", column="s", regex="^[a-z]"),
    expect("expect_column_values_to_not_match_regex", column="s", regex="b"),
    expect("expect_column_values_to_match_regex_list", column="s", regex_list=["a", "b"]),
    expect("expect_column_values_to_not_match_regex_list", column="s", regex_list=["z", "c"]),
    expect("expect_column_values_to_be_between", column="day", min_value="2024-01-02", max_value="2024-01-09"),
    expect("expect_column_max_to_be_between", column="day", max_value="2024-01-05"),
    expect("expect_column_values_to_be_between", column="at", min_value="2024-01-01T02:00:00+00:00"),
    *[expect(kind, **columns, ignore_row_if=ignored)
      for kind in ("expect_column_pair_values_a_to_be_greater_than_b", "expect_column_pair_values_to_be_equal")
      for columns in (PAIR, {"column_A": "f", "column_B": "nan"})
      for ignored in ("both_values_are_missing", "either_value_is_missing", "neither")],
    expect("expect_column_pair_values_a_to_be_greater_than_b", **PAIR, or_equal=True),
    expect("expect_column_pair_values_to_be_in_set", column_A="s", column_B="cat", value_pairs_set=[["a", "u"], ["b", "v"]]),
    *[expect(kind, **given, ignore_row_if=ignored)
      for kind, given in (
          ("expect_compound_columns_to_be_unique", {"column_list": ["gaps", "cat"]}),
          ("expect_compound_columns_to_be_unique", {"column_list": ["half", "b"]}),
          ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["i", "gaps", "half"]}),
          ("expect_multicolumn_sum_to_equal", {"column_list": ["i", "gaps"], "sum_total": 4}),
          ("expect_multicolumn_values_to_be_equal", {"column_list": ["i", "gaps"]}),
      )
      for ignored in ("all_values_are_missing", "any_value_is_missing", "never")],
    expect("expect_table_column_count_to_be_between", min_value=3),
    expect("expect_table_column_count_to_equal", value=3),
    expect("expect_table_columns_to_match_ordered_list", column_list=TABLE.column_names),
    expect("expect_table_columns_to_match_set", column_set=["i", "s", "gone"], exact_match=False),
    expect("expect_table_row_count_to_be_between", min_value=1, max_value=12),
    expect("expect_table_row_count_to_equal", value=11),
    *[expect(kind, **given, **LATE)
      for kind, given in (
          ("expect_column_values_to_not_be_null", {"column": "gaps"}),
          ("expect_column_mean_to_be_between", {"column": "nan", "max_value": 2}),
          ("expect_column_median_to_be_between", {"column": "f", "max_value": 2}),
          ("expect_column_quantile_values_to_be_between", {"column": "i", "quantile_ranges": QUANTILES}),
          ("expect_column_values_to_be_unique", {"column": "half"}),
          ("expect_compound_columns_to_be_unique", {"column_list": ["half", "b"]}),
          ("expect_column_distinct_values_to_be_in_set", {"column": "s", "value_set": ["b"]}),
          ("expect_column_unique_value_count_to_be_between", {"column": "s", "max_value": 3}),
          ("expect_table_row_count_to_be_between", {"min_value": 7}),
          ("expect_column_pair_values_a_to_be_greater_than_b", PAIR),
      )],
]  # fmt: skip
BY_PANDAS = [  # there is no such thing in SQL
    expect("expect_column_values_to_be_dateutil_parseable", column="iso"),
    expect("expect_column_values_to_match_strftime_format", column="iso", strftime_format="%Y-%m-%d"),
    expect("expect_column_values_to_be_json_parseable", column="json"),
    expect("expect_column_values_to_match_json_schema", column="json", json_schema={"type": "object"}),
    expect("expect_column_values_to_be_increasing", column="i"),
    expect("expect_column_values_to_be_decreasing", column="i"),
    expect("expect_column_value_lengths_to_equal", column="i", value=1),  # numbers have no length in SQL
]
BY_DUCKDB = [  # pandas has no such thing, or names types otherwise
    (expect("expect_column_values_to_match_like_pattern", column="cat", like_pattern="_"), True),
    (expect("expect_column_values_to_not_match_like_pattern", column="cat", like_pattern="u"), False),
    (expect("expect_column_values_to_match_like_pattern_list", column="cat", like_pattern_list=["u", "v", "w"]), True),
    (expect("expect_column_values_to_not_match_like_pattern_list", column="cat", like_pattern_list=["x"]), True),
    (expect("expect_column_values_to_be_of_type", column="price", type_="DECIMAL"), True),
    (expect("expect_column_values_to_be_in_type_list", column="i", type_list=["INTEGER", "BIGINT"]), True),
    (expect("expect_column_type_to_be", column="day", type_="DATE"), True),
    (expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE isnan(nan)"), False),
    (
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE i > 11 -- late\n ; "),
        False,
    ),
]
# These compare the batch with another table or query of a data source, which a file in a lake has not: an error, not a pass.
OF_A_DATA_SOURCE = {"expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return a function that gives our results of expectations on the table."""
    file = tmp_path_factory.mktemp("batch") / "batch.parquet"
    pq.write_table(TABLE, file)
    validator = GxValidator(limit_seconds=300)
    return lambda expectations: validator.validate([file], {"name": "s", "expectations": expectations}).results


def test_the_engines_agree(found):
    """On success and on how many rows are unexpected, over nulls, NaNs, dates, decimals, categories and odd names."""
    gx, frame = backend(), TABLE.to_pandas()
    made = {i: configuration(gx, expectation, str(i)) for i, expectation in enumerate(BOTH)}
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = validate(gx.on_pandas(frame), made)
    different = []
    for i, ours in enumerate(found(BOTH)):
        assert not error_of(theirs[i]), (BOTH[i], error_of(theirs[i]))
        count = (theirs[i].result or {}).get("unexpected_count")
        if (
            ours.error
            or "pandas engine" in ours.observed
            or ours.success != bool(theirs[i].success)
            or ours.unexpected_count != count
        ):
            different.append((BOTH[i], str(ours), bool(theirs[i].success), count))
    assert not different


def test_what_sql_cannot_say_is_checked_by_pandas_and_says_so(found):
    """Nothing that a user writes is passed over."""
    for expectation, result in zip(BY_PANDAS, found(BY_PANDAS), strict=True):
        assert result.error is None, expectation
        assert "by the pandas engine" in result.observed, expectation


def test_what_pandas_has_not_is_checked_by_duckdb(found):
    """Patterns of LIKE, DuckDB's types, and somebody's own SQL, which sees NaNs and may end in a comment."""
    results = found([expectation for expectation, _ in BY_DUCKDB])
    assert [(r.success, r.error) for r in results] == [(success, None) for _, success in BY_DUCKDB]


def test_every_expectation_of_gx_is_tried_here():
    """A new version of GX with more of them has to be looked at."""
    tried = {e["type"] for e in [*BOTH, *BY_PANDAS, *[e for e, _ in BY_DUCKDB]]} | OF_A_DATA_SOURCE
    core = {
        name
        for name in backend().names()
        if backend().implementation(name).__module__.startswith("great_expectations.")
    }
    assert core - tried == set()


def test_a_custom_expectation_works(found):
    """One that a user's own class registers, in GX's way."""
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    class ExpectSmallCount(ExpectColumnValuesToBeBetween):
        column: str = "i"
        min_value: float = 1
        max_value: float = 10

    (result,) = found([expect("expect_small_count", "critical")])
    assert (result.success, result.error, result.unexpected_count, result.rowwise) == (False, None, 2, True)
