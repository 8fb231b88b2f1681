"""What a registered model makes of raw rows: each line of the table in docs/scoring.md."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.pyfunc import RawRowsModel, _load_pyfunc
from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.windows import Span, Windows
from ratchet.errors import DataRejected
from ratchet.ports import TrainingPlan
from ratchet.tables import FeatureQuery, TableFile, TableFiles

FIRST = date(2024, 5, 1)
DAYS, ROWS = 6, 60
SQL = """
SELECT row_id, x, n, place, ok, rows.dt - seen::DATE AS away, price, air.warm, upper(place) AS loud
FROM rows LEFT JOIN air USING (place)
"""


def raw(day: date, rows: int = ROWS) -> pd.DataFrame:
    """Return a day's rows as a client has them."""
    random = np.random.default_rng(day.toordinal())
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
    return pd.DataFrame({
        "x": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
        "n": random.integers(0, 9, rows),
        "place": random.choice(["north", "south", "1"], rows),
        "ok": random.random(rows) < 0.5,
        "seen": [midnight - timedelta(days=int(d)) for d in random.integers(0, 30, rows)],
        "price": [Decimal(int(cents)) / 100 for cents in random.integers(0, 999, rows)],
        "dt": [day] * rows,
    })  # fmt: skip


AIR = pd.DataFrame({"place": ["north", "south"], "warm": [1.5, -2.0], "dt": [FIRST] * 2})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> RawRowsModel:
    """Return a model of numbers, whole numbers, texts, booleans, times and decimals, with a side table."""
    folder = tmp_path_factory.mktemp("raw")
    engine, files = DuckEngine(folder / "cache", threads=1), {}
    for name, tables in {"rows": [raw(FIRST + timedelta(days=i)) for i in range(DAYS)], "air": [AIR]}.items():
        found = []
        for table in tables:
            whole = pa.Table.from_pandas(table.drop(columns="dt"), preserve_index=False)
            if name == "rows":
                x = pa.array(np.random.default_rng(len(found)).normal(size=ROWS) + table["n"].to_numpy() - 4 > 0)
                prices = pa.array(table["price"], pa.decimal128(7, 2))
                whole = whole.set_column(5, "price", prices).set_column(1, "n", whole["n"].cast(pa.int32()))
                whole = whole.append_column("y", x)
            path = folder / f"{name}-{len(found)}.parquet"
            pq.write_table(whole, path)
            found.append(TableFile(path=path, day=table["dt"][0], key=path.name))
        files[name] = TableFiles(files=tuple(found))
    query = FeatureQuery(tables=files, sql=SQL, hidden=("y",), target="y")
    frame = engine.features(query)
    assert frame.columns["rows"]["price"] == "DECIMAL(7,2)"
    assert frame.columns["rows"]["n"] == "INTEGER"
    cut = [FIRST + timedelta(days=i) for i in (0, 3, 4, 5)]
    days = Windows(
        whole=Span(first=cut[0], last=cut[3]),
        fit=Span(first=cut[0], last=cut[1]),
        stop=Span(first=cut[2], last=cut[2]),
        holdout=Span(first=cut[3], last=cut[3]),
    )
    plan = TrainingPlan(
        task="binary", params={"max_depth": 4}, rounds=30, early_stopping_rounds=30, seed=0, threads=1, device="cpu"
    )
    for name, data in XgbTrainer().fit(frame, days, plan, query).files.files.items():
        (folder / name).write_bytes(data)
    return _load_pyfunc(str(folder))


@pytest.fixture
def rows() -> pd.DataFrame:
    """Return raw rows of a day."""
    return raw(FIRST + timedelta(days=5))


def scores(model, rows, air=AIR):
    """Return the predictions of raw rows."""
    return model.predict({"rows": rows, "air": air})


def refused(model, rows, air=AIR):
    """Return why raw rows are refused."""
    with pytest.raises(DataRejected) as caught:
        scores(model, rows, air)
    return str(caught.value)


def as_objects(column):
    """Return a column as Python objects, None for none."""
    return column.astype(object).where(column.notna(), None)


SAME = {
    "columns in another order": lambda rows: rows[list(rows.columns[::-1])],
    "columns that the query does not know": lambda rows: rows.assign(colour="red", y=1, row_id=-5),
    "rows under another index": lambda rows: rows.set_index(pd.Index(range(900, 900 + len(rows)))),
    "numbers as text": lambda rows: rows.assign(x=rows["x"].map(lambda v: None if np.isnan(v) else repr(v)), n=rows["n"].map(str)),
    "whole numbers as floats": lambda rows: rows.assign(n=rows["n"].astype(float)),
    "whole numbers in 8 bits": lambda rows: rows.assign(n=rows["n"].astype("uint8")),
    "whole numbers that may be none": lambda rows: rows.assign(n=rows["n"].astype("Int64")),
    "numbers as objects": lambda rows: rows.assign(x=as_objects(rows["x"])),
    "numbers in Arrow": lambda rows: rows.assign(x=rows["x"].astype("double[pyarrow]")),
    "texts as categories": lambda rows: rows.assign(place=rows["place"].astype("category")),
    "texts in Arrow": lambda rows: rows.assign(place=rows["place"].astype("string[pyarrow]")),
    "booleans as 0 and 1": lambda rows: rows.assign(ok=rows["ok"].astype(int)),
    "booleans as text": lambda rows: rows.assign(ok=rows["ok"].map(str)),
    "decimals as floats": lambda rows: rows.assign(price=rows["price"].astype(float)),
    "decimals as text": lambda rows: rows.assign(price=rows["price"].map(str)),
    "times as text": lambda rows: rows.assign(seen=rows["seen"].map(str)),
    "times with a zone": lambda rows: rows.assign(seen=rows["seen"].dt.tz_localize("UTC").dt.tz_convert(ZoneInfo("Asia/Tokyo"))),
    "days as text": lambda rows: rows.assign(dt=rows["dt"].map(str)),
    "days as times": lambda rows: rows.assign(dt=pd.to_datetime(rows["dt"])),
}  # fmt: skip


@pytest.mark.parametrize("given", SAME.values(), ids=SAME)
def test_the_same_rows_in_another_shape_get_the_same_scores(model, rows, given):
    """To the last bit, in the order of the input."""
    assert scores(model, given(rows)).tolist() == scores(model, rows).tolist()


NONE = {
    "x": [np.nan, None, pd.NA],
    "n": [None, np.nan, pd.NA],
    "place": [None, np.nan, pd.NA, "a place that training never met"],
    "ok": [None, pd.NA],
    "seen": [pd.NaT, None, np.nan],
    "price": [None, Decimal("NaN"), np.nan],
}


@pytest.mark.parametrize("column", NONE)
def test_whatever_says_none_is_missing_and_so_is_a_category_that_training_never_met(model, rows, column):
    """All of them give the scores of rows without a value, and other scores than the rows with theirs."""
    found = {}
    for value in NONE[column]:
        given = rows.assign(**{column: pd.Series([value] * len(rows), dtype=object)})
        found[str(value)] = scores(model, given).tolist()
    first = next(iter(found.values()))
    assert all(given == first for given in found.values())
    assert np.isfinite(first).all()
    assert first != scores(model, rows).tolist()


def test_no_rows_give_no_scores(model, rows):
    """An empty frame is scored, whatever the types of its columns."""
    for empty in (rows.iloc[:0], pd.DataFrame(columns=rows.columns)):
        found = scores(model, empty)
        assert (len(found), found.name) == (0, "prediction")


def test_an_empty_side_table_gives_rows_without_its_values(model, rows):
    """The join finds nothing, and the features are missing."""
    found = scores(model, rows, AIR.iloc[:0])
    other = AIR.assign(warm=[None, None])
    assert found.tolist() == scores(model, rows, other).tolist()


def test_rows_are_scored_alone_as_among_others(model, rows):
    """One by one, in another order, and twice."""
    whole = scores(model, rows)
    assert [scores(model, rows.iloc[[i]]).iloc[0] for i in range(5)] == whole.iloc[:5].tolist()
    assert scores(model, rows.iloc[::-1]).tolist() == whole.iloc[::-1].tolist()
    assert scores(model, pd.concat([rows, rows])).tolist() == whole.tolist() * 2


WRONG = {
    "a missing column": (lambda rows: rows.drop(columns=["n", "ok"]), r"table 'rows' lacks n, ok; it has x, place, seen, price, dt$"),
    "a column in another case": (lambda rows: rows.rename(columns={"x": "X"}), "table 'rows' lacks x; it has X, n"),
    "no day": (lambda rows: rows.drop(columns="dt"), "lacks dt"),
    "a text for a number": (lambda rows: rows.assign(x=["?", *["1.5"] * (ROWS - 1)]), r"column x: 1 of 60 values \((large_)?string\) are no DOUBLE.* in row 0"),
    "a fraction for a whole number": (lambda rows: rows.assign(n=[1.0, 2.5, *[3.0] * (ROWS - 2)]), r"column n: 1 of 60 values \(double\) are no INTEGER, .* row 1"),
    "a number beyond the type": (lambda rows: rows.assign(n=2**40), "column n: 60 of 60 values .* are no INTEGER"),
    "a number for a text": (lambda rows: rows.assign(place=1.0), r"column place: 60 of 60 values \(double\) are no VARCHAR"),
    "a time for a text": (lambda rows: rows.assign(place=rows["seen"]), "column place: .* are no VARCHAR"),
    "a number for a boolean": (lambda rows: rows.assign(ok=7), "column ok: .* are no BOOLEAN"),
    "a text for a time": (lambda rows: rows.assign(seen="soon"), "column seen: .* are no TIMESTAMP"),
    "values of several types": (lambda rows: rows.assign(n=[1, "two", *[3] * (ROWS - 2)]), "several types.* column n"),
    "a column twice": (lambda rows: pd.concat([rows, rows[["x"]]], axis=1), "comes twice"),
    "no frame": (lambda rows: rows.to_numpy(), "table 'rows' is a ndarray; predict takes pandas DataFrames"),
    "an infinite number": (lambda rows: rows.assign(x=[*[0.5] * (ROWS - 1), np.inf]), "non_finite: feature x is infinite in 1 rows, the first is row 59"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_refused_by_name(model, rows, given, words):
    """Table, column, how many and which row; and no value of any row."""
    found = refused(model, given(rows))
    assert re.search(words, found), found
    assert "?" not in found
    assert "soon" not in found


def test_a_missing_side_table_is_named(model, rows):
    """With how the tables are handed over."""
    with pytest.raises(DataRejected, match=r"table 'air' is missing; predict takes \{'rows': …, 'air': …\}"):
        model.predict(rows)


def test_a_side_table_is_read_by_the_same_rules(model, rows):
    """Its columns are named as those of the rows are."""
    assert "table 'air' lacks warm" in refused(model, rows, AIR.drop(columns="warm"))
    assert "table 'air', column warm: 1 of 2 values" in refused(model, rows, AIR.assign(warm=["1", "mild"]))
