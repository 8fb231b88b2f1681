"""DuckDB: files that are whole and odd are read as they are, or refused in words that say what is odd."""

from __future__ import annotations

import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.duck import DuckEngine
from ratchet.errors import DataRejected
from ratchet.tables import FileFormat


@pytest.fixture
def load(tmp_path):
    """Load bytes as the source's file."""
    engine = DuckEngine(tmp_path / "cache", threads=1)

    def loaded(data, name="csv", **how):
        path = tmp_path / "object"
        path.write_bytes(data)
        sha = hashlib.sha256(data).hexdigest()
        table, profile = engine.load(path, sha, f"t/a.{name}", FileFormat(format=name, **how), None)
        return pq.read_table(table).to_pylist(), profile

    return loaded


def refused(load, data, name="csv", **how):
    """Load what must be refused, and return reason and words."""
    with pytest.raises(DataRejected) as caught:
        load(data, name, **how)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("column", ["file_index", "FILE_ROW_NUMBER"])
def test_a_column_that_would_hide_the_numbers_of_rows_is_refused(load, column):
    """DuckDB numbers files and rows under two names; a column called so would give rows another number, and with it another day."""
    out = io.BytesIO()
    pq.write_table(pa.table({"x": [1, 2], column: [0, 1]}), out)
    csv, json = f"x,{column}\n1,0\n2,1\n", f'{{"x": 1, "{column}": 0}}\n'
    for data, name in ((out.getvalue(), "parquet"), (csv.encode(), "csv"), (json.encode(), "jsonl")):
        reason, words = refused(load, data, name)
        assert reason == "schema"
        assert f"column {column} has a name by which rows are numbered" in words


@pytest.mark.parametrize("first", ['{"a": 1, "A": 2}', '{"a": 1}\n{"A": 2}'])
def test_json_names_that_differ_in_case_only_are_refused(load, first):
    """DuckDB would rename the second, and find none of its values under the new name."""
    reason, words = refused(load, f"{first}\n".encode(), "jsonl")
    assert reason == "schema"
    assert "occurs twice, and the names differ in case only" in words


def test_a_json_name_that_ends_in_a_number_is_read(load):
    """A column called like another with a number is one of its own."""
    rows, _ = load(b'{"a": 1, "a_1": 2, "A_2": 3}\n', "jsonl")
    assert rows == [{"a": 1, "a_1": 2, "A_2": 3}]


def test_line_ends_of_two_kinds_are_malformed(load):
    """They are told as what they are, and no fault of the file's wholeness."""
    reason, words = refused(load, b"a,b\r\n1,2\n3,4\r\n")
    assert reason == "malformed"
    assert "lines end in different ways" in words


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "\x1f"])
def test_where_no_text_means_null_any_delimiter_will_do(load, delimiter):
    """Without null texts an empty value is an empty text, whatever separates the fields."""
    rows, _ = load(f"a{delimiter}b\nx{delimiter}\n".encode(), delimiter=delimiter, null_values=())
    assert rows == [{"a": "x", "b": ""}]


@pytest.mark.parametrize("nulls", [("",), ("NA",), ("", "NA"), ()])
@pytest.mark.parametrize("line", ["1,2,", "1,2,,", '1,"2",', "1,2,NA", ",,"])
def test_a_delimiter_at_the_end_is_a_field_too_many(load, line, nulls):
    """A row with a field too many is told with its line, although that field is empty, or null."""
    reason, words = refused(load, f"a,b\n{line}\n3,4\n".encode(), null_values=nulls)
    assert reason == "malformed"
    assert "line 2: too many columns" in words


def test_texts_that_mean_null_do_so_quoted_or_not(load):
    """A value that is one of the null texts as a whole is null; one that holds it, or has it in other letters, is not."""
    rows, profile = load(b'a,b\nNA,"NA"\n,""\nNAX,na\n', null_values=("", "NA"))
    assert rows == [{"a": None, "b": None}, {"a": None, "b": None}, {"a": "NAX", "b": "na"}]
    assert profile.empty == ()
