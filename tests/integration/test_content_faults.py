"""What the rows say may be wrong in ways that no file format tells: the night says so in numbers, and the champion stands."""

from __future__ import annotations

import json
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from integration.lakes import (
    CHAMPION,
    DAY,
    DAYS,
    FIRST,
    ROWS,
    TONIGHT,
    Lake,
    Lakes,
    columns,
    crowned,
    csv,
    jsonl,
    parquet,
    rejected,
    set_aside,
    table,
    unharmed,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from ratchet.stack import Embedded

EARLY = FIRST + DAY  # the first day of tonight's window
MIDDLE = FIRST + 9 * DAY
MIDNIGHT = datetime.combine(TONIGHT, time())


# Rows with too many or too few fields; wrong encoding; undeclared null tokens.


def spoiled(text: bytes, row: int, change: Callable[[bytes], bytes]) -> bytes:
    """Change one row, from 1, of a CSV."""
    lines = text.split(b"\n")
    lines[row] = change(lines[row])
    return b"\n".join(lines)


def field(line: bytes, at: int, value: bytes) -> bytes:
    """Put another value in a field's place."""
    fields = line.split(b",")
    fields[at] = value
    return b",".join(fields)


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "too many fields": lambda line: line + b",7",
    "too few fields": lambda line: line.rpartition(b",")[0],
    "Latin-1": lambda line: field(line, 4, "Zürich".encode("latin-1")),
    "undeclared null": lambda line: field(line, 2, b"NA"),
    "another undeclared null": lambda line: field(line, 2, b"-"),
    "text in a number": lambda line: field(line, 2, b"1,5"),
    "no date": lambda line: field(line, 1, b"24.03.2024"),
    "number too large for its type": lambda line: field(line, 0, b"99999999999999999999"),
    "NUL byte": lambda line: field(line, 3, b"0.\x001"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_row_rejects_the_night(broken: Lakes, what: str) -> None:
    """The file and the row are named."""
    lake = broken["csv"]
    lake.land(data=spoiled(lake.good[lake.key()], 17, MALFORMED[what]))
    ran = rejected(lake, "malformed", lake.key())
    assert "row 17" in ran.why or "line 18" in ran.why, ran.why


@pytest.mark.parametrize("what", ["too many fields", "Latin-1", "undeclared null"])
def test_malformed_row_sets_the_partition_aside(broken: Lakes, what: str) -> None:
    """Where the spec quarantines, the partition alone is left out, with the row named."""
    lake = broken["csv"]
    lake.land(MIDDLE, spoiled(lake.good[lake.key(MIDDLE)], 17, MALFORMED[what]))
    record = set_aside(lake, lake.key(MIDDLE), day=MIDDLE)
    said = str(record["validate_"]["quarantined"])
    assert "row 17" in said or "line 18" in said, said


def test_file_in_latin_1_is_malformed(broken: Lakes) -> None:
    """A whole file in another encoding is named as such, with a row."""
    lake = broken["csv"]
    lake.land(data=csv(table(TONIGHT, email=["José"] * ROWS)).decode().encode("latin-1"))
    ran = rejected(lake, "malformed", lake.key())
    assert "UTF-8" in ran.why or "unicode" in ran.why.lower(), ran.why


def test_header_in_latin_1_is_malformed(broken: Lakes) -> None:
    """So is its header."""
    lake = broken["csv"]
    lake.land(data=lake.good[lake.key()].replace(b"email", "émail".encode("latin-1"), 1))
    with unharmed(lake):
        ran = lake.night(TONIGHT)
    assert (ran.outcome, ran.status) == ("rejected", 3), ran.why
    assert lake.key() in ran.why
    assert "UTF-8" in ran.why


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_file_in_two_bytes_a_character_is_refused(broken: Lakes, encoding: str) -> None:
    """As spreadsheets export "Unicode text": named, not taken for one odd column."""
    lake = broken["csv"]
    lake.land(data=lake.good[lake.key()].decode().encode(encoding))
    with unharmed(lake):
        ran = lake.night(TONIGHT)
    assert (ran.outcome, ran.status) == ("rejected", 3), (ran.why, ran.err)
    assert lake.key() in ran.why
    assert "UTF-8" in ran.why, ran.why


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"person", b"pers\xc3\xb6n"),
        lambda text: (
            b"\n".join(
                b",".join(b'"' + f.strip(b'"') + b'"' for f in line.split(b","))
                for line in text.rstrip(b"\n").split(b"\n")
            )
            + b"\n"
        ),
    ],
    ids=["BOM", "CRLF", "BOM and CRLF", "no newline at the end", "UTF-8", "quoted"],
)
def test_ways_to_write_the_same_csv_give_the_same_model(broken: Lakes, change: Callable[[bytes], bytes]) -> None:
    """Byte order marks, line ends and quotes are no content."""
    lake = broken["csv"]
    expected = lake.dry().night["artifact_digest"]
    lake.land(data=change(lake.good[lake.key()]))
    with unharmed(lake):
        ran = lake.dry()
    assert ran.outcome == "promoted", ran.why
    assert ran.night["artifact_digest"] == expected


def test_json_lines_that_are_no_objects_are_malformed(broken: Lakes) -> None:
    """A line that is no JSON, or no object, is named with its number."""
    lake = broken["jsonl"]
    for line in (b"{'single': 'quotes'}", b"[1, 2]", b"17", b"NaN", b'{"x": 1', b'{"x": "\xe9"}'):
        lines = lake.good[lake.key()].split(b"\n")
        lines[16] = line
        lake.land(data=b"\n".join(lines))
        with unharmed(lake):
            ran = lake.night(TONIGHT)
        assert (ran.outcome, ran.status) == ("rejected", 3), (line, ran.why, ran.err)
        assert lake.key() in ran.why
        assert "17" in ran.why, (line, ran.why)


# Infinities, NaN labels, future timestamps, rows on both sides of the train/holdout cut.


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_feature_is_rejected(lake: Lake, value: float) -> None:
    """A feature that is infinite is named, with how many rows."""
    lake.land(MIDDLE, z=[value] * 3 + [0.0] * (ROWS - 3))
    ran = rejected(lake, "non_finite", "z", "3")
    assert "NULL" in ran.why


def test_infinite_feature_in_the_hold_out_is_rejected(lake: Lake) -> None:
    """Rows that no fit meets are looked at as well: they are scored."""
    lake.land(z=[float("inf")] * ROWS)
    rejected(lake, "non_finite", "z")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_label_that_is_no_number_is_rejected(lake: Lake, value: float) -> None:
    """A label that is NaN is not taken for one that is missing; file and row are named."""
    for i in range(DAYS):
        day = EARLY + i * DAY
        lake.land(day, y=np.where(columns(day)["y"], 1.0, 0.0))
    lake.land(MIDDLE, y=[0.0, 1.0, value] + [0.0] * (ROWS - 3))
    rejected(
        lake,
        "non_finite",
        lake.key(MIDDLE),
        "3",
        changes=("target.task=regression", "gates=[{kind: bound, metric: rmse, at_most: 9}]"),
    )


@pytest.mark.parametrize("hours", [24 * 3, 24 * 365])
def test_rows_from_the_future_are_rejected(lake: Lake, hours: int) -> None:
    """Where the spec names the column of the event's time, a row later than its partition is named."""
    late = [*columns(TONIGHT)["at"][:-2], *[MIDNIGHT + timedelta(hours=hours)] * 2]
    lake.land(at=late)
    rejected(lake, "time", lake.key(), "at", "2", changes=("validation.window.event_time=at",))


def test_hold_out_that_repeats_rows_of_the_training_is_rejected(lake: Lake) -> None:
    """Rows on both sides of the cut would let the model be asked what it was told."""
    lake.land(data=parquet(table(MIDDLE)))
    rejected(lake, "time", str(TONIGHT))


def test_hold_out_that_repeats_the_keys_of_the_training_is_rejected(lake: Lake) -> None:
    """Where the spec names the key, rows that agree in it are the same although a value differs."""
    lake.land(id=columns(MIDDLE)["id"])
    rejected(lake, "time", "id", changes=("validation.window.key=[id]",))


# Null rate, volume or label balance jumps while each row is valid.

JUMPS: dict[str, tuple[str, dict[str, Any], str]] = {
    "null rate": ("nulls", {"z": [None if i % 2 else 0.5 for i in range(ROWS)]}, "z"),
    "volume falls": ("volume", {"rows": 9}, "9 rows"),
    "volume rises": ("volume", {"rows": 8 * ROWS}, f"{8 * ROWS} rows"),
    "label balance": ("labels", {"y": [i % 20 != 0 for i in range(ROWS)]}, "%"),
}


@pytest.mark.parametrize("what", JUMPS)
def test_jump_that_no_row_shows_is_found(lake: Lake, what: str) -> None:
    """The night tells of it, in numbers."""
    kind, change, says = JUMPS[what]
    lake.put(lake.key(), parquet(table(TONIGHT, **change)))
    with unharmed(lake):
        ran = lake.dry()
    found = [f for f in findings(lake, ran) if f["kind"] == kind]
    assert found, (ran.why, ran.err)
    assert any(says in f["words"] and str(TONIGHT) in f["words"] for f in found), found


@pytest.mark.parametrize("what", JUMPS)
def test_jump_rejects_the_night_where_the_spec_says_so(lake: Lake, what: str) -> None:
    """With action reject the night ends before training, for a reason of that name."""
    kind, change, says = JUMPS[what]
    lake.put(lake.key(), parquet(table(TONIGHT, **change)))
    rejected(lake, kind, says, str(TONIGHT), changes=(f"validation.window.{kind}.action=reject",))


@pytest.mark.parametrize("what", JUMPS)
def test_jump_holds_the_night_where_the_spec_says_so(lake: Lake, what: str) -> None:
    """With action hold the challenger is made, and not promoted."""
    kind, change, says = JUMPS[what]
    lake.put(lake.key(), parquet(table(TONIGHT, **change)))
    held(lake, kind, says, changes=(f"validation.window.{kind}.action=hold",))


def test_good_night_has_no_findings(lake: Lake) -> None:
    """Days that are as they always were raise no alarm, so that each of the others is the fault's."""
    with unharmed(lake):
        ran = lake.dry()
    assert (ran.outcome, findings(lake, ran)) == ("promoted", [])


def findings(lake: Lake, ran: Any) -> list[dict[str, Any]]:
    """Return what the night's checks over the window have found."""
    record = lake.record(ran)
    return [f for step in ("validate_", "train") for f in (record[step] or {}).get("findings", ())]


def held(lake: Lake, kind: str, *names: str, changes: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> None:
    """Run tonight for good, and see that it is not promoted because of a finding, in words."""
    with unharmed(lake):
        ran = lake.night(TONIGHT, *words, changes=changes)
    assert ran.outcome == "undecided", (ran.outcome, ran.why, ran.err)
    assert any(kind in check["name"] and check["outcome"] == "UNDECIDED" for check in ran.night["checks"]), ran.night[
        "checks"
    ]
    for name in names:
        assert name in ran.why, (name, ran.why)


# A leak column: one feature nearly decides the label.

LEAKS: dict[str, Callable[[np.ndarray], Any]] = {
    "number": lambda y: y + 0.01 * np.arange(len(y)) / len(y),
    "number the other way": lambda y: 5.0 - y,
    "text": lambda y: np.where(y, "refunded", "kept"),
    "boolean": lambda y: y.astype(bool),
    "mostly null": lambda y: [1.5 if v else None for v in y],
}


@pytest.mark.parametrize("what", LEAKS)
def test_feature_that_nearly_decides_the_label_holds_the_night(lake: Lake, what: str) -> None:
    """Whatever its type, the feature is named, and nobody is promoted on it."""
    for i in range(DAYS):
        day = EARLY + i * DAY
        lake.land(
            day,
            parquet(table(day).append_column("outcome code", pa.array(LEAKS[what](columns(day)["y"].astype(float))))),
        )
    (lake.home / "features" / "leaky.sql").write_text('SELECT row_id, x, z, place, "outcome code" FROM rows')
    held(lake, "leak", "outcome code", changes=("features=leaky",))


# 30 % of labels flipped, every row ten times, one class only.

STRICT = (
    "gates=[{kind: bound, metric: auc, at_least: 0.9}, {kind: champion, loss: log_loss, margin: 0.01, confidence: 0.6, min_days: 2}]",
)


def never_promoted(lake: Lake, changes: tuple[str, ...] = ()) -> Any:
    """Run tonight for good, and see that nobody is promoted, with a reason."""
    with unharmed(lake):
        ran = lake.night(TONIGHT, changes=changes)
    assert ran.outcome in {"rejected", "refused", "undecided"}, (ran.outcome, ran.why, ran.err)
    assert ran.why
    assert "Traceback" not in ran.err
    return ran


@pytest.mark.parametrize("days", [range(DAYS - 4), range(DAYS)], ids=["of the training", "of all days"])
def test_flipped_labels_are_never_promoted(lake: Lake, days: range) -> None:
    """A model that learnt from 30 % wrong labels does not take the champion's place."""
    for i in days:
        day = EARLY + i * DAY
        wrong = np.random.default_rng(i).random(ROWS) < 0.3
        lake.land(day, y=columns(day)["y"] ^ wrong)
    never_promoted(lake, STRICT)


@pytest.mark.parametrize("days", [[TONIGHT], [EARLY + i * DAY for i in range(DAYS)]], ids=["of tonight", "of all days"])
def test_rows_that_come_ten_times_are_never_promoted(lake: Lake, days: list[date]) -> None:
    """A join that went wrong multiplies rows: they say ten times what they know once."""
    for day in days:
        lake.land(day, parquet(pa.concat_tables([table(day)] * 10)))
    ran = never_promoted(lake)
    assert "row" in ran.why


def test_window_of_one_class_is_rejected(lake: Lake) -> None:
    """There is nothing to learn."""
    for i in range(DAYS):
        lake.land(EARLY + i * DAY, y=[True] * ROWS)
    rejected(lake, "one_class", changes=("validation.window.labels.action=off",))


def test_hold_out_of_one_class_is_never_promoted(lake: Lake) -> None:
    """There is nothing to rank."""
    for i in range(4):
        lake.land(TONIGHT - i * DAY, y=[False] * ROWS)
    never_promoted(lake)


def test_day_of_one_class_is_never_promoted(lake: Lake) -> None:
    """One of the days alone is found."""
    lake.land(y=[True] * ROWS)
    never_promoted(lake)


def test_window_without_labels_is_never_promoted(lake: Lake) -> None:
    """Labels that have not come are not zeros."""
    for i in range(DAYS):
        lake.land(EARLY + i * DAY, y=pa.nulls(ROWS, pa.bool_()))
    with unharmed(lake):
        ran = lake.night(TONIGHT)
    assert ran.outcome in {"rejected", "skipped"}, (ran.outcome, ran.why, ran.err)
    assert "label" in ran.why


# Other people's data sets.


def test_class_that_the_champion_never_met_gets_a_decision(lake: Lake) -> None:
    """A category that nobody has learnt neither stops the night nor passes for another."""
    for i in range(4):
        lake.land(TONIGHT - i * DAY, place=["north", "east ✓", ""] * (ROWS // 3))
    changes = (lake.suite("open", {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "place"}}),)
    with unharmed(lake):
        ran = lake.dry(*changes)
    assert ran.outcome in {"promoted", "refused", "undecided"}, (ran.why, ran.err)


def test_label_class_that_was_never_learnt_gets_a_decision(lake: Lake) -> None:
    """A class that first comes in the hold-out is scored as a miss, or leaves the night undecided; it is no failure."""
    for i in range(DAYS):
        day = EARLY + i * DAY
        seen = np.where(columns(day)["y"], "yes", "no")
        lake.land(day, y=[*seen[:-3], *(["never seen"] * 3 if day >= TONIGHT - 3 * DAY else seen[-3:])])
    gates = "gates=[{kind: bound, metric: accuracy, at_least: 0.5}]"
    with unharmed(lake):
        ran = lake.dry("target.task=multiclass", gates)
    assert ran.outcome in {"promoted", "refused", "undecided"}, (ran.outcome, ran.why, ran.err)


ODD = {
    "with space": "a b",
    "double quote": 'sa"id',
    "single quote": "it's",
    "unicode": "größe_プロ",
    "keyword": "select",
    "another keyword": "order",
    "parentheses": "amount (€)",
    "comma": "a,b",
    "dot": "a.b",
    "semicolon": "a;b--",
    "brackets": "x[0]",
    "angle": "<x>",
    "percent": "100%",
    "braces": "{x}",
    "newline": "a\nb",
    "leading digit": "1st",
    "backslash": "a\\b",
    "long": "x" * 300,
    "emoji": "🎉",
    "prediction": "prediction",
    "our dt": "DT",
}


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_odd_column_names_are_only_names(stack: Embedded, tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    """Columns may be called anything: they are validated, learnt from, sliced and reported under their own names."""
    lake = Lake.fresh(stack, tmp_path_factory.mktemp("odd"), form, evaluation={"slices": ["it's"]})
    names = [name for name in ODD.values() if form != "csv" or "\n" not in name]
    write = {"parquet": parquet, "csv": csv, "jsonl": jsonl}[form]
    for i in range(DAYS + 1):
        day = FIRST + i * DAY
        rows = table(day)
        for n, name in enumerate(names):
            values = (
                ["ü'\"", "b,c", "d;e"] * (ROWS // 3)
                if name == "it's"
                else ((np.arange(ROWS) * 7 + n) % 11 * 0.5).tolist()
            )
            rows = rows.append_column(name, pa.array(values))
        lake.put(lake.key(day), write(rows))
    features = [name for name in names if name.lower() != "dt"]
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in features)
    (lake.home / "features" / "rows.sql").write_text(f"SELECT row_id, x, z, place, {quoted} FROM rows")
    lake.suite(
        "rows", *({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": name}} for name in features)
    )
    for cutoff in (CHAMPION, TONIGHT):
        ran = lake.night(cutoff)
        assert ran.outcome == "promoted", (ran.why, ran.err)
    assert set(features) <= set(lake.record(ran)["train"]["importance"])


TYPES: dict[str, Callable[[int], Any]] = {
    "decimal": lambda n: pa.array([Decimal(i) / 8 for i in range(n)], pa.decimal128(30, 10)),
    "unsigned": lambda n: pa.array(range(n), pa.uint64()),
    "half": lambda n: pa.array(np.arange(n, dtype=np.float16)),
    "date": lambda n: pa.array([TONIGHT - i * DAY for i in range(n)]),
    "zoned": lambda n: pa.array(
        [MIDNIGHT + i * timedelta(hours=1) for i in range(n)], pa.timestamp("us", "Europe/Berlin")
    ),
    "nanoseconds": lambda n: pa.array(range(n), pa.timestamp("ns")),
    "time of day": lambda n: pa.array(range(n), pa.time64("us")),
    "interval": lambda n: pa.array([i * 1000 for i in range(n)], pa.duration("us")),
    "category": lambda n: pa.array(["a", "b", None] * (n // 3)).dictionary_encode(),
    "category of numbers": lambda n: pa.array([1, 2, None] * (n // 3)).dictionary_encode(),
    "large text": lambda n: pa.array(["x" * 100_000, "y"] * (n // 2), pa.large_string()),
    "empty text": lambda n: pa.array(["", " ", None] * (n // 3)),
    "numbers as text": lambda n: pa.array([f"{i:04d}" for i in range(n)]),
    "dates as text": lambda n: pa.array(["24.03.2024", "31/12/2023", "n/a"] * (n // 3)),
    "bytes": lambda n: pa.array([b"\x00\xff", b""] * (n // 2)),
    "list": lambda n: pa.array([[1.5, 2], []] * (n // 2)),
    "struct": lambda n: pa.array([{"a": 1, "b": "x"}, None] * (n // 2)),
    "map": lambda n: pa.array([[("k", 1)], []] * (n // 2), pa.map_(pa.string(), pa.int64())),
    "all null": lambda n: pa.nulls(n, pa.float64()),
    "no type": pa.nulls,
    "constant": lambda n: pa.array([7] * n),
    "huge integers": lambda n: pa.array([2**63 - 1 - i for i in range(n)], pa.int64()),
    "tiny and huge": lambda n: pa.array([1e-308, 1e308] * (n // 2)),
    "NaN": lambda n: pa.array([float("nan"), 1.0] * (n // 2)),
}


@pytest.fixture(scope="module")
def zoo(stack: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a column of each odd type."""
    lake = Lake.fresh(stack, tmp_path_factory.mktemp("zoo"))
    for i in range(DAYS + 1):
        rows = table(FIRST + i * DAY)
        for what, values in TYPES.items():
            rows = rows.append_column(what, values(ROWS))
        lake.put(lake.key(FIRST + i * DAY), parquet(rows))
    return crowned(lake)


def test_columns_of_odd_types_are_carried_along(zoo: Lake) -> None:
    """Columns that no feature uses stop nothing, whatever they hold."""
    ran = zoo.dry()
    assert ran.outcome == "promoted", (ran.why, ran.err)
    assert findings(zoo, ran) == []


@pytest.mark.parametrize("what", TYPES)
def test_feature_of_an_odd_type_is_learnt_from_or_named(zoo: Lake, what: str) -> None:
    """A feature is of a type that a model can use, or the message names it, and says what to write instead."""
    (zoo.home / "features" / "odd.sql").write_text(f'SELECT row_id, x, z, place, "{what}" FROM rows')
    with unharmed(zoo):
        ran = zoo.dry("features=odd")
    assert "Traceback" not in ran.err, ran.err
    if ran.outcome not in {"promoted", "refused", "undecided"}:
        assert ran.status in {2, 3}, (ran.why, ran.err)
        assert what in ran.why, ran.why
        assert any(word in ran.why for word in ("cast", "CAST", "turn", "write", "use", "drop")), ran.why


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ("{day}", "promoted"),
        ("{day}T23:59:59Z", "promoted"),
        ("{day}T12:00:00+00:00", "promoted"),
        ("{day:%d.%m.%Y}", "rejected"),
        ("", "rejected"),
        ("0000-00-00", "rejected"),
        ("99999-01-01", "rejected"),
        ("yesterday", "rejected"),
    ],
)
def test_date_column_as_text(
    stack: Embedded, tmp_path_factory: pytest.TempPathFactory, values: str, outcome: str
) -> None:
    """Rows that carry their date are dated by what reads as ISO; any other text is named with its rows, and never guessed at."""
    lake = Lake.fresh(stack, tmp_path_factory.mktemp("dated"), "csv")
    spec = json.loads(json.dumps(lake.spec))
    spec["source"] |= {
        "partition": {"by": "column", "column": "day"},
        "columns": {**spec["source"]["columns"], "day": "VARCHAR"},
    }
    lake.declare(spec)
    for i in range(DAYS + 1):
        day = FIRST + i * DAY
        text = str(day) if day != TONIGHT else values.format(day=day)
        lake.put(lake.key(day), csv(table(day).append_column("day", pa.array([*[str(day)] * (ROWS - 1), text]))))
    ran = lake.night(TONIGHT)
    assert ran.outcome == outcome, (ran.why, ran.err)
    if outcome == "rejected":
        assert lake.key() in ran.why
        assert "day" in ran.why
        assert f"row {ROWS}" in ran.why or f"line {ROWS + 1}" in ran.why, ran.why
