"""Great Expectations: every expectation is checked, or it is said that and why it was not."""

from __future__ import annotations

import json
import re
import time
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.gx import GxValidator, check_suite
from ratchet.adapters.gx_child import in_child

TABLE = pa.table(
    {
        "id": [1, 2, 3, 4],
        "name": ["anna", "bert", "carl", None],
        "speed": [1.0, 2.0, 1048.0, None],
        "void": pa.array([None] * 4, pa.float64()),
        "day": [date(2024, 5, i) for i in (1, 2, 3, 4)],
    }
)


@pytest.fixture(scope="module")
def validator():
    """Return one validator for the module, as a task has one."""
    return GxValidator(limit_seconds=20)


@pytest.fixture
def run(validator, tmp_path):
    """Return a function that runs expectations on a table and gives their results."""

    def run(*expectations, table=TABLE, **options):
        return report(validator, tmp_path, *expectations, table=table, **options).results

    return run


def report(validator, folder, *expectations, table=TABLE, files=None):
    if files is None:
        files = [folder / "batch.parquet"]
        pq.write_table(table, files[0])
    return validator.validate(files, {"name": "s", "expectations": list(expectations)})


def expect(kind, severity="critical", meta=None, **kwargs):
    return {"type": kind, "kwargs": kwargs, "severity": severity, "meta": meta or {}}


def test_a_result_says_what_was_expected_and_found(run):
    """Counts, percent and severity are there, and success is GX's."""
    fast, named = run(
        expect("expect_column_values_to_be_between", column="speed", max_value=250),
        expect("expect_column_to_exist", "warning", column="name"),
    )
    assert (fast.success, fast.unexpected_count, fast.column, fast.severity) == (False, 1, "speed", "critical")
    assert fast.unexpected_percent == pytest.approx(100 / 3)
    assert (
        str(fast)
        == "expect_column_values_to_be_between(speed): expected max_value=250, found other values, 1 rows (33.33 %)"
    )
    assert (named.success, named.severity) == (True, "warning")


def test_one_bad_expectation_does_not_spoil_the_others(run):
    """GX bundles queries; what fails in a bundle is tried alone."""
    wrong, missing, sql, good, also = run(
        expect("expect_column_mean_to_be_between", column="name", min_value=1),
        expect("expect_column_values_to_not_be_null", column="nope"),
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE nope > 1"),
        expect("expect_column_mean_to_be_between", column="speed", min_value=1),
        expect("expect_table_row_count_to_equal", value=4),
    )
    for broken in (wrong, missing, sql):
        assert broken.error
        assert not broken.success
    assert '"nope"' in missing.error
    assert good.success
    assert not good.error
    assert also.success


@pytest.mark.parametrize(
    ("kind", "kwargs", "success"),
    [
        ("expect_column_values_to_match_regex", {"regex": "^[a-c]"}, True),
        ("expect_column_values_to_match_regex", {"regex": "rt$"}, False),
        ("expect_column_values_to_not_match_regex", {"regex": "z"}, True),
        ("expect_column_values_to_match_regex_list", {"regex_list": ["^a", "^b", "^c"], "match_on": "any"}, True),
        ("expect_column_values_to_match_regex_list", {"regex_list": ["^a", "a"], "match_on": "all"}, False),
        ("expect_column_values_to_not_match_regex_list", {"regex_list": ["x", "^b"]}, False),
        ("expect_column_values_to_match_like_pattern", {"like_pattern": "____"}, True),
        ("expect_column_values_to_not_match_like_pattern", {"like_pattern": "a%"}, False),
        (
            "expect_column_values_to_match_like_pattern_list",
            {"like_pattern_list": ["a%", "b%"], "match_on": "any"},
            False,
        ),
        ("expect_column_values_to_not_match_like_pattern_list", {"like_pattern_list": ["x%", "y%"]}, True),
    ],
)
def test_patterns_run_on_duckdb(run, kind, kwargs, success):
    """Regular expressions and LIKE, which GX does not write for DuckDB, are ours and find a match anywhere."""
    (found,) = run(expect(kind, column="name", **kwargs))
    assert (found.success, found.error) == (success, None)
    assert "pandas" not in found.observed


@pytest.mark.parametrize(
    ("column", "kind", "success"),
    [
        ("id", "BIGINT", True),
        ("id", "INTEGER", False),
        ("name", "VARCHAR", True),
        ("day", "DATE", True),
        ("speed", "DOUBLE", True),
    ],
)
def test_types_are_duckdbs(run, column, kind, success):
    """Types are compared by DuckDB's names."""
    for found in run(
        expect("expect_column_values_to_be_of_type", column=column, type_=kind),
        expect("expect_column_type_to_be", column=column, type_=kind),
    ):
        assert (found.success, found.error) == (success, None)


def test_what_duckdb_cannot_run_is_run_on_pandas_and_says_so(run):
    """The other engine answers, visibly; RE2 has no look-ahead."""
    parsed, ahead, rising = run(
        expect("expect_column_values_to_be_dateutil_parseable", column="name"),
        expect("expect_column_values_to_match_regex", column="name", regex="^(?=[a-c])"),
        expect("expect_column_values_to_be_increasing", column="id"),
    )
    assert [parsed.success, ahead.success, rising.success] == [False, True, True]
    assert all("by the pandas engine" in found.observed for found in (parsed, ahead, rising))


def test_a_catastrophic_expression_is_killed(tmp_path):
    """An expression that would take for ever is an error in time: else this test would take for ever too."""
    table = pa.table({"a": ["a" * 40 + "!"]})
    found = report(
        GxValidator(2),
        tmp_path,
        expect("expect_column_values_to_match_regex", column="a", regex="^(?=(a+)+$)"),
        table=table,
    ).results[0]
    assert "within 2 s" in found.error


def test_an_endless_query_is_interrupted(tmp_path):
    """A suite's own SQL has the same limit."""
    query = "SELECT * FROM {batch}, range(1000000) a, range(1000000) b, range(1000000) c WHERE a.range + b.range + c.range < 0"
    found = report(
        GxValidator(2), tmp_path, expect("unexpected_rows_expectation", unexpected_rows_query=query)
    ).results[0]
    assert found.error
    assert not found.success


def test_a_check_that_met_no_value_is_vacuous(run):
    """All-NULL columns and row conditions that match nothing pass in GX; here they say that they checked nothing."""
    never = {"row_condition": 'col("id") > 99', "condition_parser": "great_expectations"}
    results = run(
        expect("expect_column_values_to_be_between", column="void", min_value=0),
        expect("expect_column_mean_to_be_between", column="void", min_value=0),
        expect("expect_column_distinct_values_to_be_in_set", column="void", value_set=[1]),
        expect("expect_column_values_to_match_regex", column="name", regex="^z", **never),
        expect("expect_column_max_to_be_between", column="id", max_value=1, **never),
        expect("expect_column_distinct_values_to_be_in_set", column="name", value_set=["x"], **never),
        expect(
            "expect_compound_columns_to_be_unique", column_list=["name", "void"], ignore_row_if="any_value_is_missing"
        ),
    )
    assert [result.vacuous for result in results] == [True] * 7


def test_a_check_that_met_values_is_not_vacuous(run):
    """Looking at nulls, names, types or rows is a check also where there is no value."""
    results = run(
        expect("expect_column_values_to_not_be_null", column="void", mostly=0.5),
        expect("expect_column_values_to_be_null", column="void"),
        expect("expect_column_to_exist", column="void"),
        expect("expect_table_row_count_to_be_between", min_value=1),
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE id > 99"),
        expect(
            "expect_column_values_to_be_between",
            column="id",
            min_value=3,
            row_condition='col("id") > 2',
            condition_parser="great_expectations",
        ),
    )
    assert [result.vacuous for result in results] == [False] * 6
    assert [result.success for result in results] == [False, True, True, True, True, True]


def test_an_empty_batch_makes_every_check_vacuous(run):
    """Nothing can be said about no rows."""
    results = run(
        expect("expect_column_values_to_be_between", column="id", min_value=1),
        expect("expect_table_row_count_to_be_between", min_value=0),
        table=TABLE.slice(0, 0),
    )
    assert all(result.vacuous for result in results)


def test_values_of_the_data_are_not_shown(validator, tmp_path):
    """Neither results nor the kept document nor the page repeat what may be personal."""
    found = report(
        validator, tmp_path,
        expect("expect_column_values_to_be_in_set", column="name", value_set=["x"]),
        expect("expect_column_values_to_be_between", column="speed", max_value=250),
        expect("expect_column_distinct_values_to_be_in_set", column="name", value_set=["x"]),
        expect("expect_column_most_common_value_to_be_in_set", column="name", value_set=["x"]),
        expect("expect_column_min_to_be_between", column="name", min_value="x"),
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE CAST(name AS INTEGER) > 1"),
        expect("expect_column_values_to_be_dateutil_parseable", column="name"),
    )  # fmt: skip
    everything = found.model_dump_json() + validator.page(found, "t").decode()
    for value in ("anna", "bert", "carl", "1048"):
        assert value not in everything


def test_a_suite_may_allow_a_few_values(run):
    """With show_values an expectation shows at most three."""
    (found,) = run(expect("expect_column_values_to_be_in_set", meta={"show_values": True}, column="id", value_set=[9]))
    assert found.observed == "other values, such as 1, 2, 3"


def test_texts_are_bounded(run):
    """A long argument or result is cut."""
    (found,) = run(
        expect(
            "expect_column_values_to_be_in_set", meta={"show_values": True}, column="name", value_set=["y" * 50] * 50
        ),
        table=pa.table({"name": ["x" * 9999] * 9}),
    )
    assert len(found.expected) <= 200
    assert len(found.observed) <= 200


def test_several_files_are_one_batch(validator, tmp_path):
    """Files of one partition are looked at together."""
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file in files:
        pq.write_table(TABLE, file)
    found = report(validator, tmp_path, expect("expect_column_values_to_be_unique", column="id"), files=files)
    assert found.rows == 8
    assert found.results[0].unexpected_count == 8


def test_a_batch_that_cannot_be_read_is_a_critical_failure(validator, tmp_path):
    """It is a result, not an exception: the partition can be put in quarantine."""
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    found = report(validator, tmp_path, expect("expect_column_to_exist", column="id"), files=[broken])
    assert [(r.type, r.severity, r.success, r.error) for r in found.results] == [
        ("the partition can be read", "critical", False, None)
    ]
    assert validator.page(found, "t")


def test_an_expectation_that_gx_does_not_know_is_an_error(run):
    """A suite that `ratchet check` was not asked about still cannot pass by accident."""
    unknown, bad = run(
        expect("expect_miracles", column="id"), expect("expect_column_values_to_be_between", column="id")
    )
    assert "expect_miracles" in unknown.error
    assert bad.error
    assert not unknown.success


def test_the_page_shows_what_gx_cannot_put_in_words(validator, tmp_path):
    """An expectation that GX does not know is on the page too, with the reason."""
    page = validator.page(report(validator, tmp_path, expect("expect_<miracles>", column="id")), "t").decode()
    assert "expect_&lt;miracles&gt; not found" in page


def test_the_page_is_self_contained_and_inert(validator, tmp_path):
    """Nothing is loaded or run, whatever the data and the suite hold, and vacuous checks do not look passed."""
    evil = '<script>alert(1)</script><img src=x onerror="alert(2)">'
    table = pa.table({"a": [evil, "b"], evil: [1, 2]})
    found = report(
        validator, tmp_path,
        expect("expect_column_values_to_be_in_set", meta={"show_values": True, "notes": evil}, column="a", value_set=[evil + "x"]),
        expect("expect_column_values_to_be_between", column=evil, min_value=5),
        expect("expect_column_values_to_be_between", column="a", min_value=5),
        table=table,
    )  # fmt: skip
    page = validator.page(found, f"title {evil}").decode()
    assert "Must" in page or "must" in page
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"https?://|<link|<iframe|\sonerror=[^&]", page.replace("&quot;", "&"))
    assert "&lt;script&gt;" in page
    assert "default-src" in page


def test_the_page_counts_a_vacuous_check_as_not_passed(validator, tmp_path):
    """What checked nothing does not get a tick."""
    found = report(validator, tmp_path, expect("expect_column_values_to_be_between", column="void", min_value=0))
    assert found.results[0].success
    assert found.document["success"] is False
    assert "it checked nothing" in validator.page(found, "t").decode()


def test_a_report_survives_storage(validator, tmp_path):
    """What is kept as JSON comes back the same, and still makes the page."""
    found = report(
        validator,
        tmp_path,
        expect("expect_column_max_to_be_between", column="day", max_value="2025-01-01"),
        expect("expect_column_mean_to_be_between", column="speed", max_value=1),
    )
    again = type(found).model_validate_json(found.model_dump_json())
    assert again == found
    assert validator.page(again, "t") == validator.page(found, "t")
    json.dumps(found.document)


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        (
            expect("expect_column_values_to_be_betwen", column="a"),
            "expectations[0].type: 'expect_column_values_to_be_betwen' is no expectation; did you mean expect_column_values_to_be_between",
        ),
        (
            expect("expect_column_values_to_be_between", column="a", min=3),
            "expectations[0].kwargs.min: is not an argument; did you mean",
        ),
        (
            expect("expect_column_values_to_be_between", column="a", min_value="x"),
            "expectations[0].kwargs.min_value: value is not a valid float, found 'x'",
        ),
        (
            expect("expect_column_values_to_be_in_set", column="a"),
            "expectations[0].kwargs.value_set: is missing. Arguments: column",
        ),
        (
            expect("expect_column_values_to_be_between", column="a"),
            "expectations[0].kwargs: min_value and max_value cannot both be None",
        ),
        (
            expect("expect_column_values_to_not_be_null", column="a", mostly=2),
            "expectations[0].kwargs.mostly: ensure this value is less than or equal to 1.0, found 2",
        ),
        (
            expect("unexpected_rows_expectation", unexpected_rows_query="SELECT 1"),
            "expectations[0].kwargs.unexpected_rows_query: must read FROM {batch}",
        ),
        ({"type": "expect_column_to_exist", "kwargs": []}, "expectations[0].kwargs: expected a mapping, found list"),
        (
            {"type": "expect_column_to_exist", "kwargs": {"column": "a"}, "severty": "info"},
            "expectations[0].severty: is not a field",
        ),
    ],
)
def test_check_suite_names_place_value_and_choices(expectation, said):
    """Each mistake is told with file and key, in GX's own words where it has them."""
    problems = check_suite({"expectations": [expectation]}, "suites/s.json")
    assert f"suites/s.json: {said}" in str(problems[0])


def test_check_suite_passes_what_holds(capsys):
    """A good suite gives no problem, and GX prints nothing into our output."""
    good = [
        expect("expect_column_values_to_be_between", column="a", min_value=1),
        expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch}", description="d"),
    ]
    assert check_suite({"expectations": good}, "s.json") == []
    assert capsys.readouterr().out == ""


def test_a_child_returns_raises_or_is_killed():
    """A forked function gives its answer, its error, or nothing in time."""
    assert in_child(lambda: {"a": [1, 2.5, None]}, 600) == {"a": [1, 2.5, None]}
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        in_child(lambda: 1 / 0, 600)
    with pytest.raises(TimeoutError):
        in_child(lambda: time.sleep(60), 0.2)
