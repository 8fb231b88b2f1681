"""A check that checked nothing, or could not be made, has not passed; and nothing that a check says shows a person."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from integration.lakes import (
    CANARY,
    DAY,
    DAYS,
    FIRST,
    ROWS,
    SUITE,
    TONIGHT,
    Lake,
    Lakes,
    csv,
    rejected,
    table,
    unharmed,
)
from ratchet.adapters.gx import GxValidator
from ratchet.domain.night import NightRequest
from ratchet.home import load_pipeline
from ratchet.settings import settings
from ratchet.steps.night import run_night
from ratchet.wiring import services

QUARANTINE = "validation.on_critical=quarantine"


# Empty suite, no rows, all-NULL column, a row condition that matches nothing.


def test_empty_suite_checks_nothing(lake: Lake) -> None:
    """A suite without expectations is refused before anything runs, or rejects the night as vacuous; it never passes."""
    with unharmed(lake):
        ran = lake.night(TONIGHT, changes=(lake.suite("nothing"),))
    assert ran.status in {2, 3}, (ran.status, ran.why, ran.err)
    assert "Traceback" not in ran.err
    said = ran.err if ran.status == 2 else ran.why
    assert "nothing" in said
    assert "expectation" in said


VACUOUS: dict[str, dict[str, Any]] = {
    "all-NULL column": {"type": "expect_column_values_to_be_between", "kwargs": {"column": "z", "min_value": -9}},
    "all-NULL column, set": {
        "type": "expect_column_values_to_not_be_in_set",
        "kwargs": {"column": "z", "value_set": [99]},
    },
    "all-NULL column, mostly": {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "z", "min_value": -9, "mostly": 0.5},
    },
    "row condition that matches nothing": {
        "type": "expect_column_values_to_be_between",
        "kwargs": {
            "column": "x",
            "min_value": -9,
            "row_condition": 'col("place")=="nowhere"',
            "condition_parser": "great_expectations",
        },
    },
}


@pytest.mark.parametrize("what", VACUOUS)
def test_check_that_met_no_value_is_vacuous(lake: Lake, what: str) -> None:
    """The partition, the expectation and its column are named."""
    lake.land(z=pa.nulls(ROWS, pa.float64()))
    suite = lake.suite("vacuous", VACUOUS[what])
    rejected(lake, "vacuous", VACUOUS[what]["type"], VACUOUS[what]["kwargs"]["column"], changes=(suite,))


def test_check_that_met_no_value_sets_the_partition_aside(lake: Lake) -> None:
    """Where the spec quarantines, the partition that could not be checked is left out."""
    lake.land(z=pa.nulls(ROWS, pa.float64()))
    changes = (lake.suite("vacuous", VACUOUS["all-NULL column"]), QUARANTINE)
    with unharmed(lake):
        ran = lake.dry(*changes)
    (partition,) = lake.record(ran)["validate_"]["quarantined"]
    assert partition["partition"] == str(TONIGHT)
    assert "z" in partition["reasons"][0]


def test_check_that_meets_no_value_on_any_day_is_vacuous(lake: Lake) -> None:
    """With quarantine too: what no partition could be asked rejects the night as vacuous, not as too much that broke."""
    suite = lake.suite("vacuous", *SUITE, VACUOUS["row condition that matches nothing"])
    rejected(lake, "vacuous", "expect_column_values_to_be_between", changes=(suite, QUARANTINE))


# An expectation raises: told apart from one that failed.

RAISES: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": (
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "velocity", "min_value": 0}},
        "velocity",
    ),
    "no such function": (
        {
            "type": "unexpected_rows_expectation",
            "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE nonsuch(x) > 0"},
        },
        "nonsuch",
    ),
    "no SQL": (
        {"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "SELEC * FROM {batch}"}},
        "unexpected_rows_expectation",
    ),
    "values of another type": (
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "place", "min_value": 3, "max_value": 4}},
        "place",
    ),
    "cast that fails": (
        {
            "type": "unexpected_rows_expectation",
            "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE CAST(email AS INTEGER) > 3"},
        },
        "unexpected_rows_expectation",
    ),
    "no regular expression": (
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "place", "regex": "(["}},
        "place",
    ),
}


@pytest.mark.parametrize("change", ["reject", "quarantine"])
@pytest.mark.parametrize("what", RAISES)
def test_expectation_that_raises_is_an_error(lake: Lake, what: str, change: str) -> None:
    """Whatever the spec does with what broke, a check that could not be made ends the night, and says which file to mend."""
    expectation, name = RAISES[what]
    suite = lake.suite("raises", *SUITE, expectation)
    rejected(lake, "error", name, "suites/raises.json", changes=(suite, f"validation.on_critical={change}"))


def test_expectation_that_fails_is_no_error(lake: Lake) -> None:
    """It is told with what was expected and found."""
    lake.land(x=[99.0] * ROWS)
    rejected(lake, "validation", "expect_column_values_to_be_between", "x", "9", f"{ROWS} of {ROWS}", str(TONIGHT))


# A catastrophic regular expression.


def test_catastrophic_regular_expression_is_cut_short(lake: Lake) -> None:
    """One that only the pandas engine can run, and that would run for ages, ends with the night rejected as an error."""
    lake.land(place=["a" * 40 + "!"] * ROWS)
    expectation = {
        "type": "expect_column_values_to_match_regex",
        "kwargs": {"column": "place", "regex": r"^(?=(a+)+$)\1"},
    }
    lake.suite("slow", expectation)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lake.environment.items():
            patch.setenv(name, value)
        made = replace(services(settings()), validator=GxValidator(limit_seconds=2))
        pipeline = load_pipeline(lake.name, lake.home, {"validation.suite": "slow", "window.min_partitions": 1})
        with unharmed(lake):
            for i in range(DAYS):
                if FIRST + (i + 1) * DAY != TONIGHT:
                    lake.remove(lake.key(FIRST + (i + 1) * DAY))
            night, error = run_night(NightRequest(pipeline=lake.name, cutoff=TONIGHT, actor="tests"), pipeline, made)
    assert error is None, error
    assert night.ended
    assert (night.ended.outcome, night.ended.reason) == ("rejected", "error"), night.ended
    assert "2 s" in night.ended.detail
    assert "suites/slow.json" in night.ended.detail


# Personal data in failing values: not in logs or pages.


def shown(lake: Lake, ran: Any) -> str:
    """Return everything that a night has said or written for people to read."""
    stored = [found.uri for found in lake.store.list("") if not found.uri.endswith((".parquet", ".ubj", ".npy"))]
    texts = [ran.said, ran.err, *(lake.store.get(uri).decode(errors="replace") for uri in stored)]
    return "\n".join(texts)


PERSONAL: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "email", "regex": "^person"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "email", "value_set": ["nobody"]}},
    {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "email", "value_set": ["nobody"]}},
    {"type": "expect_column_distinct_values_to_equal_set", "kwargs": {"column": "email", "value_set": ["nobody"]}},
    {"type": "expect_column_most_common_value_to_be_in_set", "kwargs": {"column": "email", "value_set": ["nobody"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "email"}},
    {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "email", "max_value": 3}},
    {"type": "expect_column_max_to_be_between", "kwargs": {"column": "email", "min_value": "zz"}},
    {"type": "expect_column_min_to_be_between", "kwargs": {"column": "email", "max_value": "0"}},
    {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "email", "column_B": "place"}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["email", "place"]}},
    {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE email LIKE '%canary%'"},
    },
    {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE CAST(email AS INTEGER) > 3"},
    },
    {"type": "expect_column_values_to_match_strftime_format", "kwargs": {"column": "email", "strftime_format": "%Y"}},
    {"type": "expect_column_values_to_be_dateutil_parseable", "kwargs": {"column": "email"}},
    {"type": "expect_column_values_to_be_json_parseable", "kwargs": {"column": "email"}},
]


@pytest.mark.parametrize("expectation", PERSONAL, ids=lambda e: f"{e['type']}-{str(e['kwargs'])[-20:]}")
def test_person_in_a_failing_value_is_shown_nowhere(lake: Lake, expectation: dict[str, Any]) -> None:
    """Neither on the page, nor in the record, nor in Data Docs, nor on the terminal."""
    lake.land(email=[CANARY] * ROWS)
    with unharmed(lake):
        ran = lake.night(TONIGHT, changes=(lake.suite("personal", *SUITE, expectation),))
    assert ran.night, ran.err
    assert "agnes" not in shown(lake, ran)


def test_person_in_a_row_that_is_set_aside_is_shown_nowhere(lake: Lake) -> None:
    """Nor where rows and partitions are quarantined and listed."""
    lake.land(email=[CANARY, *["person@example.org"] * (ROWS - 1)])
    suite = lake.suite("personal", *SUITE, PERSONAL[0], PERSONAL[11])
    with unharmed(lake):
        ran = lake.dry(suite, QUARANTINE)
    assert lake.record(ran)["validate_"]["quarantined_rows"], ran.why
    assert "agnes" not in shown(lake, ran)


CASTS = {
    "features": ("features=person", "SELECT row_id, x, CAST(email AS DOUBLE) AS z, place FROM rows"),
    "target": ("target.sql=CAST(email AS INTEGER) > 0", None),
}


@pytest.mark.parametrize("what", CASTS)
def test_person_in_a_value_that_a_query_trips_over_is_shown_nowhere(lake: Lake, what: str) -> None:
    """An error of the database holds the value that it could not convert; ours does not."""
    for i in range(DAYS):
        lake.land(FIRST + (i + 1) * DAY, email=[CANARY] * ROWS)
    change, sql = CASTS[what]
    if sql:
        (lake.home / "features" / "person.sql").write_text(sql)
    with unharmed(lake):
        ran = lake.night(TONIGHT, changes=(change,))
    assert ran.status in {1, 2, 3}, ran.why
    assert "Traceback" not in ran.err
    assert "agnes" not in shown(lake, ran)


@pytest.mark.parametrize("column", ["x", "at", "y", "id"])
def test_person_in_a_field_of_another_type_is_shown_nowhere(broken: Lakes, column: str) -> None:
    """A shifted column puts a name where a number belongs: the row is named, and not the person."""
    lake = broken["csv"]
    rows = table(TONIGHT)
    text = [CANARY, *(str(v) for v in rows[column].to_pylist()[1:])]
    lake.land(data=csv(rows.set_column(rows.schema.get_field_index(column), column, pa.array(text))))
    with unharmed(lake):
        ran = lake.night(TONIGHT)
    assert (ran.outcome, ran.status) == ("rejected", 3), ran.why
    assert "agnes" not in shown(lake, ran)


def test_person_in_a_broken_line_is_shown_nowhere(broken: Lakes) -> None:
    """A line that cannot be read is named by its number."""
    for form, line in (("csv", f'1,2,"{CANARY}"x,,'.encode()), ("jsonl", f'{{"email": "{CANARY}", '.encode())):
        lake = broken[form]
        lines = lake.good[lake.key()].split(b"\n")
        lines[16] = line
        lake.land(data=b"\n".join(lines))
        with unharmed(lake):
            ran = lake.night(TONIGHT)
        assert (ran.outcome, ran.status) == ("rejected", 3), ran.why
        assert "agnes" not in shown(lake, ran), form


def test_value_is_shown_where_the_suite_allows_it(lake: Lake) -> None:
    """`show_values` in an expectation's meta is how a spec allows it, so that the silence of the others is a choice."""
    lake.land(place=["atlantis"] * ROWS)
    expectation = {**SUITE[2], "meta": {"show_values": True}}
    with unharmed(lake):
        ran = lake.dry(lake.suite("open", expectation))
    assert "atlantis" in shown(lake, ran)


# Quarantine of rows.


def test_broken_rows_are_set_aside_and_the_rest_is_used(lake: Lake) -> None:
    """Rows that break an expectation about single rows go one by one, with where they stand; every row is accounted for."""
    x = [0.1 * (i % 7) for i in range(ROWS)]
    lake.land(x=[99.0, *x[1:-1], -99.0], email=[CANARY] * ROWS)
    with unharmed(lake):
        ran = lake.dry(QUARANTINE)
    record = lake.record(ran)
    (rows,) = record["validate_"]["quarantined_rows"]
    assert (rows["partition"], rows["rows"], record["validate_"]["quarantined"]) == (str(TONIGHT), 2, [])
    account = record["train"]["account"]
    assert account["quarantined_rows"] == 2
    assert account["landed"] == DAYS * ROWS == sum(count for part, count in account.items() if part != "landed")
    assert CANARY not in shown(lake, ran)
    listed = json.loads(lake.ratchet("quarantine", "list", lake.name).said)
    assert str(TONIGHT) in json.dumps(listed)


def test_too_many_broken_rows_reject_the_night(lake: Lake) -> None:
    """A little in many partitions adds up: beyond the limit the night is rejected, with the numbers and the limit."""
    for i in range(DAYS):
        day = FIRST + (i + 1) * DAY
        rows = table(day)["x"].to_pylist()
        lake.land(day, x=[99.0, 99.0, 99.0, *rows[3:]])
    rejected(lake, "quarantined", str(3 * DAYS), "max_quarantined_rows", changes=(QUARANTINE,))


def test_too_many_broken_partitions_reject_the_night(lake: Lake) -> None:
    """Three of twenty is more than a tenth."""
    for i in range(3):
        lake.land(TONIGHT - i * DAY, x=[99.0] * ROWS)
    rejected(lake, "quarantined", "3 of 20", "max_quarantined", changes=(QUARANTINE,))
