"""DuckDB: files are read whole or refused, and the features query sees the snapshot and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters import duck_files
from ratchet.adapters.duck import DuckEngine, check
from ratchet.domain.windows import Span
from ratchet.errors import DataRejected, SpecInvalid
from ratchet.home import parse_spec
from ratchet.spec import Pipeline
from ratchet.tables import FeatureQuery, FileFormat, TableFile, TableFiles

if TYPE_CHECKING:
    from pathlib import Path

CSV, JSONL, PARQUET = (FileFormat(format=name) for name in ("csv", "jsonl", "parquet"))
DAY = date(2024, 5, 1)


@pytest.fixture
def engine(tmp_path):
    """Return an engine with a cache of its own."""
    return DuckEngine(tmp_path / "cache")


class Lake:
    """Source objects as the store's cache holds them: named by content, without an ending."""

    def __init__(self, folder: Path, engine: DuckEngine) -> None:
        self.folder, self.engine = folder, engine

    def load(self, data: bytes, key: str = "t/a.csv", how: FileFormat = CSV, date_column: str | None = None):
        """Store bytes and load them."""
        sha = hashlib.sha256(data).hexdigest()
        path = self.folder / sha
        path.write_bytes(data)
        return self.engine.load(path, sha, key, how, date_column)

    def refused(
        self, reason: str, data: bytes, key: str = "t/a.csv", how: FileFormat = CSV, date_column: str | None = None
    ) -> str:
        """Load what must be refused, and return why it was."""
        with pytest.raises(DataRejected) as caught:
            self.load(data, key, how, date_column)
        assert caught.value.reason == reason
        assert key in caught.value.detail
        return caught.value.detail

    def file(self, table: pa.Table, day: date | None = DAY, key: str = "rows/a.parquet") -> TableFile:
        """Load a Parquet file."""
        return TableFile(path=self.load(parquet(table), key, PARQUET)[0], day=day, key=key)

    def features(
        self, sql: str, target: str = "y > 0", rows=None, hidden: tuple[str, ...] = ("y",), **tables: TableFiles
    ):
        """Run a query over rows ``id, x, y`` of two days."""
        rows = rows or TableFiles(files=(self.file(ROWS), self.file(ROWS, date(2024, 5, 2), "rows/b.parquet")))
        return self.engine.features(
            FeatureQuery(tables={"rows": rows, **tables}, sql=sql, hidden=hidden, target=target)
        )

    def invalid(self, sql: str, target: str = "y > 0", **kwargs) -> str:
        """Run what must be refused as the spec's fault, and return why it was."""
        with pytest.raises(SpecInvalid) as caught:
            self.features(sql, target, **kwargs)
        return str(caught.value)


ROWS = pa.table({"id": ["a", "b", "c"], "x": [1.5, 2.5, None], "y": [1, 0, None]})


def parquet(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def lake(tmp_path, engine):
    """Return a lake on that engine."""
    return Lake(tmp_path, engine)


# Files


def test_csv_types_are_told_by_all_values(lake):
    """Whole numbers, numbers, booleans, ISO dates and timestamps are recognised; what is ambiguous stays text."""
    text = b"i,f,b,d,t,z,s,n\n1,1.5,true,2024-05-01,2024-05-01 10:00,2024-05-01T10:00:00Z,01/02/2024,\n-2,3,FALSE,2024-05-02,2024-05-02,2024-05-01T10:00:00+02:00,x,\n"
    _, profile = lake.load(text)
    assert dict(profile.columns) == {
        "i": "BIGINT", "f": "DOUBLE", "b": "BOOLEAN", "d": "DATE", "t": "TIMESTAMP", "z": "TIMESTAMP WITH TIME ZONE", "s": "VARCHAR", "n": "VARCHAR",
    }  # fmt: skip
    assert profile.rows == 2


def test_one_value_that_is_no_number_makes_a_column_text(lake):
    """Sniffing looks at the last row too."""
    _, profile = lake.load(b"a\n" + b"1\n" * 50_000 + b"x\n")
    assert profile.columns["a"] == "VARCHAR"


def test_declared_types_and_null_texts_are_respected(lake):
    """A declared column has that type, and the declared texts mean null."""
    how = FileFormat(format="csv", columns={"zip": "VARCHAR", "n": "DOUBLE"}, null_values=("NA", ""), delimiter=";")
    path, profile = lake.load(b"zip;n;m\n01234;1;NA\n00001;NA;7\n", how=how)
    assert dict(profile.columns) == {"zip": "VARCHAR", "n": "DOUBLE", "m": "BIGINT"}
    assert pq.read_table(path).to_pylist() == [
        {"zip": "01234", "n": 1.0, "m": None},
        {"zip": "00001", "n": None, "m": 7},
    ]


def test_a_second_load_reads_the_sidecar(lake, engine):
    """What was loaded once is not read again, not even by another engine on the same cache."""
    path, profile = lake.load(b"a\n1\n")
    content = path.read_bytes()
    path.write_bytes(b"not read")
    assert lake.load(b"a\n1\n") == (path, profile)
    path.unlink()
    assert lake.load(b"a\n1\n")[0].read_bytes() == content


def test_gzip_csv_and_json_lines_read_like_plain_ones(lake):
    """Compression is told by the key and changes nothing."""
    line = b'{"a": 1, "d": "2024-05-01"}\n{"a": null, "d": "2024-05-03"}\n'
    plain, packed = lake.load(line, "t/a.jsonl", JSONL, "d"), lake.load(gzip.compress(line), "t/a.jsonl.gz", JSONL, "d")
    assert plain[1] == packed[1]
    assert (plain[1].rows, plain[1].days) == (2, (date(2024, 5, 1), date(2024, 5, 3)))
    assert lake.load(b"a\n1\n")[1] == lake.load(gzip.compress(b"a\n1\n"), "t/a.csv.gz")[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b\n1,2\n3\n5,6\n7\n", "line 3, 5"),
        (b"a,b\n1,2\n3\n5,6\n7,8", "line 3"),
        (b"a,b\n1,2\n3,4,5\n", "line 3"),
        ("a,b\n1,2\n3,é\n".encode("latin1"), "line 3"),
        (b'a,b\n1,"x\n2,3\n', "quote"),
        ("a,é\n1,2\n".encode("latin1"), "not UTF-8"),
        (b"\na,b\n1,2\n", "line 1 is blank"),
    ],
)
def test_a_csv_with_lines_that_do_not_hold_is_malformed_and_names_them(lake, text, said):
    """Too few or many fields, wrong encoding and open quotes are refused, with the place."""
    assert said in lake.refused("malformed", text)


@pytest.mark.parametrize("text", [b"a,b\n1,2\n3", b'a,b\n1,2\n3,"x', b"a,b\n1\n2,3\n4", b"a,b\r\n1,2\r\n3"])
def test_a_csv_that_ends_in_the_middle_of_a_line_is_corrupt(lake, text):
    """What was not landed whole is told apart from rows that were written wrongly."""
    assert "ends in the middle of line" in lake.refused("corrupt", text)


@pytest.mark.parametrize(("text", "said"), [(b"a,b,A\n1,2,3\n", "A occurs twice"), (b"a,,c\n1,2,3\n", "column 2 of 3")])
def test_columns_without_names_of_their_own_are_refused(lake, text, said):
    """Doubled and nameless columns cannot be told apart by a query."""
    assert said in lake.refused("schema", text)


def test_a_value_of_another_type_than_declared_is_malformed_and_not_repeated(lake):
    """The message names column, type and rows, but not the value, which may be personal."""
    how = FileFormat(format="csv", columns={"a": "INTEGER"})
    said = lake.refused("malformed", b"a,b\n1,2\nalice,3\n4,5\nbob,1\n", how=how)
    assert "column a: expected INTEGER, found other text in 2 rows: row 2, 4" in said
    assert "alice" not in said


def test_a_declared_column_that_is_missing_is_named(lake):
    """A declared column has to be there."""
    how = FileFormat(format="csv", columns={"c": "INTEGER"})
    assert "lacks column c" in lake.refused("schema", b"a,b\n1,2\n", how=how)


@pytest.mark.parametrize(
    ("data", "how"),
    [
        (b"", CSV),
        (b"a,b\n", CSV),
        (b"\xef\xbb\xbf", CSV),
        (b"\xef\xbb\xbf\n", JSONL),
        (b"", JSONL),
        (b"\n\n", JSONL),
        (b"", PARQUET),
        (parquet(ROWS.slice(0, 0)), PARQUET),
    ],
)
def test_nothing_in_a_file_is_empty(lake, data, how):
    """0 bytes, header only and 0 rows are all empty."""
    lake.refused("empty", data, how=how)


def test_truncated_and_damaged_gzip_is_corrupt(lake):
    """The whole stream and its checksum are verified before a row is used."""
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(2000)))
    flipped = bytearray(packed)
    flipped[-6] ^= 1  # in the checksum
    for data in (packed[:-100], bytes(flipped), b"a,b\n1,2\n"):
        assert "gzip" in lake.refused("corrupt", data, "t/a.csv.gz")


@pytest.mark.parametrize("line", [b'{"a": 1', b"[1, 2]", b"5", b'{"a": "\xe9"}', b'{"a": 1, "a": 2}', b"nonsense"])
def test_a_line_that_is_no_json_object_is_malformed_and_named(lake, line):
    """Broken and doubled JSON is refused, with its line."""
    for after in (b"\n", b'\n{"a": 3}\n'):
        assert "line 2: " in lake.refused("malformed", b'{"a": 1}\n' + line + after, "t/a.jsonl", JSONL)


def test_json_lines_that_end_in_the_middle_of_one_are_corrupt(lake):
    """What was not landed whole is told apart from lines that were written wrongly."""
    assert "in the middle of line 2" in lake.refused("corrupt", b'{"a": 1}\n{"a": 1', "t/a.jsonl", JSONL)


def test_json_columns_can_be_declared(lake):
    """A declared type holds for JSON Lines, and a value that does not fit it is told with its line and not repeated."""
    how = FileFormat(format="jsonl", columns={"a": "DOUBLE", "never": "BIGINT"})
    assert dict(lake.load(b'{"a": 1, "b": "x"}\n', "t/a.jsonl", how)[1].columns) == {
        "a": "DOUBLE",
        "b": "VARCHAR",
        "never": "BIGINT",
    }
    said = lake.refused("malformed", b'{"a": 1}\n{"a": "secret"}\n', "t/b.jsonl", how)
    assert "line 2" in said
    assert "secret" not in said


def test_parquet_is_used_where_it_lies(lake):
    """A Parquet source is verified, not copied."""
    path, profile = lake.load(parquet(ROWS), "t/a.parquet", PARQUET)
    assert path.parent == lake.folder
    assert (profile.rows, profile.columns["x"]) == (3, "DOUBLE")


def test_truncated_and_damaged_parquet_is_corrupt(lake):
    """Cut files, and flipped bits in files that carry checksums, are refused."""
    rng = random.Random(0)
    table = pa.table({"a": [rng.random() for _ in range(5000)]})
    whole = parquet(table, write_page_checksum=True)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for data in (whole[: len(whole) // 2], whole[len(whole) // 2 :], bytes(flipped), b"PAR1 but no more"):
        lake.refused("corrupt", data, "t/a.parquet", PARQUET)


def test_parquet_text_that_is_not_utf8_is_corrupt(lake):
    """Text is checked while the file is verified, not when the query trips over it."""
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    lake.refused("corrupt", parquet(pa.table({"a": text})), "t/a.parquet", PARQUET)


def test_decompression_bombs_and_huge_rows_are_too_large(lake, monkeypatch):
    """What expands beyond the cap is refused before it fills the disk."""
    lake.refused("too_large", b"a,b\n1," + b"x" * (5 << 20) + b"\n")
    long = b'{"a": 1}\n{"a": "' + b"x" * (4 << 20) + b'"}\n'
    assert "line 2 larger than 4 MiB" in lake.refused("too_large", long, "t/a.jsonl", JSONL)
    monkeypatch.setattr(duck_files, "MAX_EXPANDED", 1 << 20)
    lake.refused("too_large", gzip.compress(b"a\n" + b"1\n" * (1 << 20)), "t/a.csv.gz")
    lake.refused("too_large", parquet(pa.table({"a": pa.array(range(500_000), pa.int64())})), "t/a.parquet", PARQUET)


def test_few_bytes_that_stand_for_many_rows_are_too_large(lake, monkeypatch):
    """A Parquet file that repeats one value takes next to nothing, whatever it expands to: its rows count."""
    monkeypatch.setattr(duck_files, "MAX_EXPANDED", 1 << 20)
    data = parquet(pa.table({"a": pa.array([1.0] * 300_000), "b": pa.array(["x"] * 300_000)}))
    assert len(data) < 1 << 16
    lake.refused("too_large", data, "t/a.parquet", PARQUET)


def test_the_date_column_dates_the_file(lake):
    """The days of the rows come from dates, timestamps (in UTC) or text that reads as one."""
    text = b"at,n\n2024-05-01T23:30:00-02:00,1\n2024-05-03,2\n"
    assert lake.load(text, date_column="at")[1].days == (date(2024, 5, 2), date(2024, 5, 3))
    table = pa.table({"at": [datetime(2024, 5, 7, 1), datetime(2024, 5, 5)]})  # noqa: DTZ001  naive on purpose
    assert lake.load(parquet(table), "t/a.parquet", PARQUET, "at")[1].days == (date(2024, 5, 5), date(2024, 5, 7))


def test_a_date_that_is_none_is_malformed_with_its_row(lake):
    """Each row has to have a day."""
    assert "2 of 4 rows: row 2, 4" in lake.refused(
        "malformed", b"at,n\n2024-05-01,1\n2024-13-01,2\n2024-05-02,3\n,4\n", date_column="at"
    )
    said = lake.refused("malformed", b"at,n\n9/30/1990 0:00:00,1\n", date_column="at")
    assert "expected text such as 2024-03-09, found the form '9/99/9999 9:99:99'" in said
    assert "found the form '99 aaaa 9999'" in lake.refused("malformed", "at\n03 août 2024\n".encode(), date_column="at")
    assert "found no value" in lake.refused("malformed", b"at,n\n,1\n2024-05-01,2\n", date_column="at")
    assert "lacks the date column when" in lake.refused("schema", b"at\n2024-05-01\n", date_column="when")
    assert "found BIGINT" in lake.refused("schema", b"at\n20240501\n", date_column="at")


def test_a_declared_type_that_does_not_exist_is_the_specs_fault(lake):
    """An unknown type is told before any row is read."""
    with pytest.raises(SpecInvalid, match=r"columns\.a: 'INTT' is no DuckDB type"):
        lake.load(b"a\n1\n", how=FileFormat(format="csv", columns={"a": "INTT"}))


def test_no_temporary_file_stays(lake):
    """Neither a load that went well nor one that failed leaves anything aside."""
    lake.load(gzip.compress(b"a\n1\n"), "t/a.csv.gz")
    lake.refused("malformed", b"a,b\n1\n")
    assert sorted(p.suffix for p in (lake.folder / "cache" / "tables").iterdir()) == [".json", ".parquet"]


# Features


def test_features_are_joined_to_labels_in_order(lake):
    """The result has row_id, dt, target and the query's features in its order, and counts what is missing."""
    frame = lake.features(
        "SELECT x * 2 AS twice, id, row_id, dt FROM rows WHERE id <> 'b' ORDER BY row_id DESC; -- the end"
    )
    assert frame.table.column_names == ["row_id", "dt", "target", "twice", "id"]
    assert frame.table.to_pylist() == [
        {"row_id": 0, "dt": DAY, "target": True, "twice": 3.0, "id": "a"},
        {"row_id": 1 << 32, "dt": date(2024, 5, 2), "target": True, "twice": 3.0, "id": "a"},
    ]
    assert (frame.landed, frame.unlabelled, frame.dropped) == (6, 2, 2)
    assert frame.columns == {"rows": {"row_id": "BIGINT", "dt": "DATE", "id": "VARCHAR", "x": "DOUBLE"}}


def test_the_query_cannot_see_what_is_unknown_at_prediction_time(lake):
    """A hidden column is named as such, wherever it is used, and in no star."""
    assert "line 2: column y is unknown at prediction time" in lake.invalid("SELECT row_id,\n rows.y FROM rows")
    assert "unknown at prediction time" in lake.invalid("SELECT row_id, x FROM rows WHERE Y > 1", hidden=("Y",))
    assert "y" not in lake.features("SELECT * FROM rows").table.column_names


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT x FROM rows", "must return row_id"),
        ("SELECT row_id, x, row_id FROM rows", "column row_id is returned twice"),
        ("SELECT row_id, x AS target FROM rows", "cannot be called target"),
        ("SELECT a.row_id, b.x FROM rows a, rows b", "row_id 0 comes back 6 times"),
        ("SELECT row_id + 1 AS row_id, x FROM rows", "that `rows` does not have"),
        ("SELECT row_id, nope FROM rows", 'line 1: Binder Error: Referenced column "nope"'),
        ("SELECT row_id\nFROM nowhere", "line 2: Catalog Error: Table with name nowhere"),
        ("SELECT row_id, ix FROM rows", 'Candidate bindings: "id"'),
        (
            "SELECT row_id,\n date_of(x) AS d FROM rows",
            "line 2: Catalog Error: Scalar Function with name date_of does not exist!",
        ),
        ("SELECT row_id,\n date_of(x) AS d FROM rows", "(at `date_of(x)`)"),
        ("SELECT row_id, strptime(x, 3) AS d FROM rows", "Candidate functions: strptime("),
        ("SELECT row_id, CAST(id AS DATE) AS d FROM rows", "(at `CAST(id AS DATE)`)"),
        ("SELECT row_id FRM\n rows x y", "Parser Error"),
        ("SELECT row_id FROM rows; SELECT 1", "expected one SELECT, found 2"),
        ("DROP TABLE rows", "expected one SELECT, found DROP"),
        ("-- nothing", "found no statements"),
        ("SELECT row_id, * EXCLUDE row_id FROM rows, read_csv('/etc/passwd')", "no other file"),
        ("SELECT row_id, CAST(id AS INTEGER) AS n FROM rows", "fails on these rows"),
    ],
)
def test_a_query_that_does_not_hold_is_the_specs_fault(lake, sql, said):
    """Each mistake is told in words, with the line where DuckDB knows it."""
    assert said in lake.invalid(sql)


def test_what_duckdb_offers_instead_is_left_out_where_it_is_no_table_of_a_query(lake):
    """The catalogue's own tables are not what anybody meant; nor is a value of the data told with the place."""
    assert "pg_" not in lake.invalid("SELECT row_id FROM nowhere")
    said = lake.invalid("SELECT row_id, CAST(id AS INTEGER) AS n FROM rows")
    assert "string … to INT32" in said, said
    assert "\n" not in said, said


@pytest.mark.parametrize("target", ["nope", "y >", "1) AS t, (2", "y FROM rows", "avg(y)"])
def test_a_target_is_one_expression_over_the_columns(lake, target):
    """What is no expression, or names no column, is the spec's fault."""
    assert "target.sql" in lake.invalid("SELECT row_id, x FROM rows", target)


def test_a_target_that_is_no_finite_number_is_refused(lake):
    """NaN and infinite labels are neither learnt nor silently dropped."""
    rows = TableFiles(files=(lake.file(pa.table({"x": [1, 2], "y": [1.0, float("nan")]})),))
    with pytest.raises(
        DataRejected, match=r"non_finite: the target is NaN or infinite in 1 rows, the first is row 2 of rows/a.parquet"
    ):
        lake.features("SELECT row_id, x FROM rows", "y", rows)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_nan_is_no_value_to_the_query(lake, kind):
    """As it is none to whoever serves raw rows from pandas; file statistics, which do not tell of NaNs, hide none."""
    x = pa.array([1.0, float("nan"), 3.0, None], kind)
    rows = TableFiles(files=(lake.file(pa.table({"x": x, "y": [1, 0, 1, 0]})),))
    sql = "SELECT row_id, CASE WHEN x > 2 THEN 'high' WHEN x IS NULL THEN 'none' ELSE 'low' END AS level, isnan(x) AS odd FROM rows"
    frame = lake.features(sql, rows=rows).table
    assert frame["level"].to_pylist() == ["low", "none", "high", "none"]
    assert frame["odd"].to_pylist() == [False, None, False, None]
    kept = lake.features("SELECT row_id, x FROM rows WHERE x > 2", rows=rows).table
    assert kept["x"].to_pylist() == [3.0]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e39, -1e308])
def test_a_feature_beyond_what_models_count_with_is_refused(lake, value):
    """Whatever turns infinite in 32 bits is named with its rows, in whichever batch it comes; NaN is a missing value."""
    n = 150_000
    x = pa.array([*[float("nan"), None, 3.4e38], *[0.5] * (n - 5), value, value])
    rows = TableFiles(files=(lake.file(pa.table({"x": x, "z": pa.array([1.0] * n), "y": pa.array([1.0] * n)})),))
    said = rf"non_finite: feature twice x is infinite in 2 rows, the first is row {n - 1} of rows/a.parquet"
    with pytest.raises(DataRejected, match=said):
        lake.features('SELECT row_id, z, x AS "twice x" FROM rows', "y", rows)


def test_side_tables_are_dated_and_limited_to_their_days(lake):
    """The query sees a side table's dt, and only the days that the night may read."""
    side = [lake.file(pa.table({"w": [i]}), date(2024, 5, i), f"side/{i}.parquet") for i in (1, 2, 3)]
    tables = {"side": TableFiles(files=tuple(side), days=Span(first=date(2024, 5, 1), last=date(2024, 5, 2)))}
    frame = lake.features(
        "SELECT row_id, side.w, (SELECT max(w) FROM side) AS top FROM rows JOIN side USING (dt)", **tables
    )
    assert frame.table["w"].to_pylist() == [1, 1, 2, 2]
    assert set(frame.table["top"].to_pylist()) == {2}
    assert frame.columns["side"] == {"dt": "DATE", "w": "BIGINT"}


def test_rows_dated_by_a_column_are_limited_to_their_days(lake):
    """Files without a day of their own give the rows of the window only; row_id stays the place in the file."""
    path, _ = lake.load(b"at,x,y\n2024-04-30,1,1\n2024-05-01,2,1\n2024-05-02,3,1\n", date_column="at")
    rows = TableFiles(
        files=(TableFile(path=path, day=None, key="a.csv"),), date_column="at", days=Span(first=DAY, last=DAY)
    )
    frame = lake.features("SELECT row_id, x FROM rows", rows=rows)
    assert frame.table.to_pylist() == [{"row_id": 1, "dt": DAY, "target": True, "x": 2}]
    assert frame.landed == 1


def two(lake, first: pa.Table, second: pa.Table) -> TableFiles:
    return TableFiles(files=(lake.file(first), lake.file(second, date(2024, 5, 2), "rows/b.parquet")))


def test_a_column_that_changes_its_type_is_refused(lake):
    """The message names column, file, expected and found."""
    rows = two(lake, ROWS, ROWS.set_column(1, "x", pa.array(["1", "2", "3"])))
    with pytest.raises(
        DataRejected,
        match=r"table rows: column x of rows/b.parquet: expected DOUBLE as in rows/a.parquet, found VARCHAR. Land the file again",
    ):
        lake.features("SELECT row_id, x FROM rows", rows=rows)


@pytest.mark.parametrize(
    ("name", "declared"),
    [("code", "source.columns: {code: VARCHAR}"), ("a code", 'source.columns: {"a code": VARCHAR}')],
)
def test_a_column_whose_text_reads_otherwise_in_another_file_is_refused_with_the_remedy(lake, name, declared):
    """A CSV's column that changes its type is told with the declaration that settles it, and that declaration does settle it."""

    def rows(how):
        keys = ("rows/a.csv", "rows/b.csv")
        data = (f"{name}\n007\n".encode(), f"{name}\nA7\n".encode())
        loaded = [lake.load(text, key, how)[0] for text, key in zip(data, keys, strict=True)]
        return TableFiles(
            files=[TableFile(path=path, day=DAY, key=key) for path, key in zip(loaded, keys, strict=True)]
        )

    query = f'SELECT row_id, "{name}" FROM rows'
    with pytest.raises(DataRejected, match=r"column .* of rows/b.csv: expected BIGINT") as caught:
        lake.features(query, target="1", rows=rows(CSV), hidden=())
    assert f"`{declared}`" in caught.value.detail
    frame = lake.features(query, target="1", rows=rows(FileFormat(format="csv", columns={name: "VARCHAR"})), hidden=())
    assert frame.table[name].to_pylist() == ["007", "A7"]


def test_rows_in_quarantine_are_not_read_and_leave_the_others_their_numbers(lake):
    """A row that is left out is no row of the query or of the labels; each other one keeps its row_id, and all are counted."""
    first, second = two(lake, ROWS, ROWS).files
    rows = TableFiles(files=(first, second.model_copy(update={"without": (0, 2)})))
    whole = lake.features("SELECT row_id, count(*) OVER () AS seen FROM rows", "coalesce(y, 0)", two(lake, ROWS, ROWS))
    frame = lake.features("SELECT row_id, count(*) OVER () AS seen FROM rows", "coalesce(y, 0)", rows)
    assert whole.table["row_id"].to_pylist() == [0, 1, 2, 1 << 32, (1 << 32) + 1, (1 << 32) + 2]
    assert frame.table["row_id"].to_pylist() == [0, 1, 2, (1 << 32) + 1]
    assert frame.table["seen"].to_pylist() == [4] * 4
    assert (frame.landed, frame.quarantined, frame.outside) == (4, 2, 0)
    assert (whole.landed, whole.quarantined) == (6, 0)


def test_rows_of_other_days_are_counted_apart(lake):
    """Where rows carry their dates, those outside of the window are counted, apart from those in quarantine."""
    table = pa.table({"at": [date(2024, 5, day) for day in (1, 2, 3, 9)], "x": [1, 2, 3, 4]})
    path, _ = lake.load(parquet(table), "rows/a.parquet", PARQUET, "at")
    file = TableFile(path=path, day=None, key="rows/a.parquet", without=(1, 3))
    rows = TableFiles(files=(file,), date_column="at", days=Span(first=date(2024, 5, 1), last=date(2024, 5, 2)))
    frame = lake.features("SELECT row_id, x FROM rows", "x", rows, hidden=())
    assert (frame.landed, frame.quarantined, frame.outside) == (1, 2, 1)


def test_columns_that_are_ignored_may_differ(lake):
    """A column that the spec has nobody read is not seen, whatever it is in which file."""
    rows = two(lake, ROWS, ROWS.set_column(1, "x", pa.array(["1", "2", "3"])))
    rows = rows.model_copy(update={"ignore": ("X",)})
    assert lake.features("SELECT * FROM rows", rows=rows).table.column_names == ["row_id", "dt", "target", "id"]


def test_values_of_another_type_are_counted_and_their_rows_named(lake):
    """Of text among numbers the engine says in which rows it stands; a missing value is of every type."""
    path, profile = lake.load(b"a,b\n1,\nNA,\n,\n-,\n")
    assert profile.empty == ("b",)
    assert lake.engine.misfits(path, "a", "BIGINT") == (2, (2, 4))


def test_a_column_that_is_missing_in_one_file_is_refused(lake):
    """A file that lacks a column is named."""
    with pytest.raises(
        DataRejected,
        match=r"rows/b.parquet lacks column x \(DOUBLE\), which 1 of 2 partitions have, such as rows/a.parquet",
    ):
        lake.features("SELECT row_id, id FROM rows", rows=two(lake, ROWS, ROWS.drop_columns("x")))


def test_whole_numbers_may_turn_into_fractions_and_a_column_be_empty_for_a_day(lake):
    """Widening loses nothing, and a column of nulls has no type that could differ; a later column is not seen."""
    second = pa.table({"id": pa.nulls(1), "x": pa.array([7], pa.int32()), "y": [1.0], "later": [1]})
    frame = lake.features("SELECT row_id, * EXCLUDE (row_id) FROM rows", rows=two(lake, ROWS, second))
    assert frame.table.to_pylist()[-1] == {
        "row_id": 1 << 32,
        "dt": date(2024, 5, 2),
        "target": True,
        "id": None,
        "x": 7.0,
    }


def test_no_file_in_the_window_is_empty(lake):
    """A table without files cannot be queried, and that is said."""
    with pytest.raises(DataRejected, match="empty: table side has no file"):
        lake.features("SELECT row_id, x FROM rows", side=TableFiles(files=()))


def test_types_that_learners_do_not_know_become_numbers_and_text(lake):
    """Sums are no decimals of 38 digits."""
    frame = lake.features(
        "SELECT row_id, sum(row_id) OVER () AS s, 0.5 * x AS h, CAST(1.25 AS DECIMAL(5, 2)) AS d, id::ENUM('a','b','c') AS e FROM rows",
        "0.5 * y",
    )
    assert [str(frame.table.schema.field(name).type) for name in ("target", "s", "h", "d", "e")] == [
        "double",
        "double",
        "double",
        "double",
        "string",
    ]


def test_features_do_not_depend_on_threads(tmp_path):
    """Sums of floats come out bit for bit the same on any machine."""
    rng = random.Random(1)
    tables = [
        pa.table({"g": [rng.randrange(5) for _ in range(40_000)], "x": [rng.gauss(0, 1e6) for _ in range(40_000)]})
        for _ in range(4)
    ]
    sql = "SELECT row_id, sum(x) OVER (PARTITION BY g) AS s, a FROM rows JOIN (SELECT g, avg(x) AS a FROM rows GROUP BY g) USING (g)"
    found = []
    for threads in (1, 4):
        lake = Lake(tmp_path, DuckEngine(tmp_path / str(threads), threads=threads))
        files = tuple(lake.file(table, date(2024, 5, 1 + i), f"{i}.parquet") for i, table in enumerate(tables))
        found.append(lake.features(sql, "x", TableFiles(files=files), hidden=()).table)
    assert found[0].equals(found[1])


# ratchet check


def pipeline(sql: str, target: str = "y > 0", **source) -> Pipeline:
    spec = {
        "name": "p", "description": "d", "owner": {"name": "o"}, "source": {"uri": "s3://b/p/", "format": "csv", **source}, "window": {"days": 20},
        "validation": {"suite": "s"}, "features": "f", "target": {"task": "binary", "sql": target}, "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.5}],
    }  # fmt: skip
    return Pipeline(spec=parse_spec(json.dumps(spec), "p.yaml"), suite={}, sql=sql)


def test_check_passes_what_holds():
    """A good query gives no problem."""
    assert (
        check(pipeline("WITH a AS (SELECT * FROM rows) SELECT row_id, x, random FROM a -- random is a column here"))
        == []
    )


UNSTEADY = {
    "SELECT row_id, epoch(now()) AS t FROM rows": "now",
    "SELECT row_id, random() AS r FROM rows": "random",
    "SELECT row_id, epoch(age(dt::TIMESTAMP)) AS old FROM rows": "age of one moment",
    "SELECT row_id, x FROM rows USING SAMPLE 1": "a sample without REPEATABLE (seed)",
    "SELECT row_id, x FROM rows TABLESAMPLE 50%": "a sample without REPEATABLE (seed)",
    "SELECT * FROM query('SELECT row_id, random() AS r FROM rows')": "query",
    "SELECT row_id, current_query_id() AS q FROM rows": "current_query_id",
    "SELECT row_id, (SELECT sum(memory_usage_bytes) FROM duckdb_memory()) AS m FROM rows": "duckdb_memory",
}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT row_id\nFRM rows x y", "features/f.sql: line 2: Parser Error"),
        ("SELECT x FROM rows", "must return row_id"),
        ("SELECT row_id FROM rows; SELECT 2", "expected one SELECT, found 2 statements"),
        ("DELETE FROM rows", "found DELETE"),
        ("SELECT row_id, now() - dt AS age FROM rows", "now differs from run to run"),
        ("SELECT row_id, current_date - dt AS age FROM rows", "current_date differs from run to run"),
        *((sql, f"{what} differs from run to run") for sql, what in UNSTEADY.items()),
    ],
)
def test_check_names_file_line_and_reason(sql, said):
    """What DuckDB's parser says comes with its place; what would make nights differ is refused."""
    assert said in str(check(pipeline(sql))[0])


@pytest.mark.parametrize(("sql", "what"), UNSTEADY.items())
def test_a_night_refuses_a_query_that_reads_more_than_its_snapshot(lake, sql, what):
    """Nobody has to have asked `check` before: what differs from run to run could be neither judged nor built again."""
    assert f"features: {what} differs from run to run" in lake.invalid(sql)


def test_a_night_refuses_a_label_that_differs_from_run_to_run(lake):
    """Of two nights over the same rows neither would know what the other has learnt."""
    said = lake.invalid("SELECT row_id, x FROM rows", "y > random()")
    assert "target.sql: random would give another value each time" in said


def test_a_sample_with_a_seed_and_an_age_between_two_moments_are_steady(lake):
    """What gives the same answer every time is left in peace."""
    sql = "SELECT row_id, epoch(age(dt::TIMESTAMP, TIMESTAMP '2020-01-01')) AS age FROM rows USING SAMPLE 100% (bernoulli, 7)"
    assert check(pipeline(sql)) == []


def test_check_looks_at_metrics_of_ones_own():
    """What shows of them without data is said before a night has pinned and validated for nothing."""
    made = pipeline("SELECT row_id FROM rows", "y > 0")
    own = {"open": "sum(label", "dice": "sum(random())", "good": "avg(label)"}
    evaluation = made.spec.evaluation.model_copy(update={"business": own})
    problems = check(made.model_copy(update={"spec": made.spec.model_copy(update={"evaluation": evaluation})}))
    assert [p.key for p in problems] == ["evaluation.business.open", "evaluation.business.dice"]
    assert "random would give another value each time" in str(problems[1])


def test_check_looks_at_target_and_declared_types():
    """The spec's own SQL is checked too, by its key."""
    problems = [
        str(p)
        for p in check(
            pipeline("SELECT row_id FROM rows", "y >", columns={"a": "INTT", "b": "DECIMAL(5, 2)", "c": "BIGINT); --"})
        )
    ]
    assert [p.split(": ")[1] for p in problems] == ["target.sql", "source.columns.a", "source.columns.c"]


def test_a_query_that_needs_more_memory_than_there_is_is_a_matter_of_resources(lake, tmp_path):
    """Neither the data nor the spec is blamed, and nothing is killed."""
    small = DuckEngine(tmp_path / "small", memory_limit="20MB")
    files = tuple(
        lake.file(pa.table({"x": list(range(100_000)), "y": [1] * 100_000}), date(2024, 5, d), f"{d}.parquet")
        for d in (1, 2)
    )
    sql = "SELECT row_id, (SELECT list(a.x || '-' || b.range) FROM rows a, range(500) b)[1] AS s FROM rows"
    with pytest.raises(DataRejected, match="resource"):
        small.features(FeatureQuery(tables={"rows": TableFiles(files=files)}, sql=sql, hidden=(), target="y"))


def test_features_in_a_file_are_those_in_memory(lake, tmp_path):
    """The same rows and counts, whether they are returned or written aside and mapped."""
    sql = "SELECT row_id, x, id || '!' AS name FROM rows WHERE id <> 'b' ORDER BY x DESC"
    rows = TableFiles(files=two(lake, ROWS, ROWS).files)
    query = FeatureQuery(tables={"rows": rows}, sql=sql, hidden=("y",), target="y > 0")
    frame, kept = lake.engine.features(query), lake.engine.features(query, tmp_path / "frame.arrow")
    assert kept.table.equals(frame.table)
    assert kept.model_dump(exclude={"table"}) == frame.model_dump(exclude={"table"})
    assert kept.mapped is not None


@pytest.mark.parametrize(("rows", "repeated", "times"), [(10, 7, 3), (100_002, 99_999, 2), (100_003, 99_999, 5)])
def test_a_row_that_comes_back_is_counted_wherever_it_falls(lake, rows, repeated, times):
    """Features are handed over by 100 000 rows: a row may come back at the end of one part and the beginning of the next."""
    table = pa.table({"x": list(range(rows)), "y": [1] * rows})
    sql = f"SELECT row_id, x FROM rows, range({times}) WHERE x = {repeated} OR range = 0"
    said = lake.invalid(sql, "y", rows=TableFiles(files=(lake.file(table),)), hidden=())
    assert f"row_id {repeated} comes back {times} times" in said


def test_a_row_id_must_be_one_of_rows(lake):
    """One below all of them, one between two files, one above all, and none."""
    for other in (-5, 77, 1 << 40):
        assert "`rows` does not have" in lake.invalid(f"SELECT row_id + {other} AS row_id FROM rows")
    assert "a row_id is NULL" in lake.invalid("SELECT CASE WHEN x > 2 THEN row_id END AS row_id FROM rows WHERE x > 1")
