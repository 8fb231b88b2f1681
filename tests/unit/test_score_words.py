"""The command that scores files says what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from ratchet.cli.score import tables_of
from ratchet.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rows(tmp_path) -> Path:
    """A file of two rows."""
    file = tmp_path / "rows.csv"
    file.write_text("dt,code,x\n2024-03-01,007,1.5\n2024-03-01,,\n")
    return file


def test_a_csv_keeps_its_texts_and_a_gap_is_no_value(rows, tmp_path):
    """What is text in the file is text for the query to read; side tables come by name, Parquet with the types that it has."""
    pd.DataFrame({"dt": ["2024-03-01"], "n": [2**60 + 1]}).to_parquet(tmp_path / "air.parquet")
    found = tables_of(rows, [f"air={tmp_path / 'air.parquet'}"])
    assert list(found) == ["rows", "air"]
    assert found["rows"]["code"].tolist()[0] == "007"
    assert found["rows"].isna().sum().to_dict() == {"dt": 0, "code": 1, "x": 1}
    assert found["air"]["n"].tolist() == [2**60 + 1]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("air", "--table air: expected NAME=FILE"),
        ("rows=other.csv", "--table rows=other.csv: expected NAME=FILE, where NAME is a side table's"),
        ("air=none.csv", "--table air=none.csv: there is no such file"),
        ("air=air.xlsx", r"--table air=air.xlsx: expected a file that ends in .parquet or .csv"),
        ("air={broken}", "--table air=.*broken.parquet: cannot be read: "),
        ("air={empty}", "--table air=.*empty.csv: cannot be read: No columns to parse from file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(rows, tmp_path, table, words):
    """The words name the option, the file and what is expected."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "empty.csv").touch()
    given = table.format(broken=tmp_path / "broken.parquet", empty=tmp_path / "empty.csv")
    with pytest.raises(UsageError, match=words):
        tables_of(rows, [given])


def test_a_table_that_comes_twice_is_refused(rows):
    """One of the two would be left out in silence."""
    with pytest.raises(UsageError, match="air was given before"):
        tables_of(rows, [f"air={rows}", f"air={rows}"])
