"""Source files made readable: CSV, JSON Lines and Parquet, each read whole and strictly, by DuckDB.

Types of a CSV are those that the spec declares; others are told by *all* values of a column, by rules that a person can
predict: whole numbers, numbers, true/false, ISO dates and ISO timestamps are such, all else is text. ``01/02/2024`` stays
text, because nobody can tell which is the month. A column may still look whole in one file and fractional in the next:
the engine widens such columns when it puts the files of a table together. Declare what must not depend on the data.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import first_line, identifier, lacks_room, literal, type_problem
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.tables import FileProfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ratchet.tables import FileFormat

MAX_EXPANDED = 8 << 30  # bytes that one source file may expand to
_LINE = 4 << 20  # bytes of one row
_ROWS = 4_096  # that are verified at a time: each may hold a long text that the file has only once
_CHUNK = 1 << 20
_SHAPE = 30  # characters of a value's form that are told: enough for a date with time and zone
_SHOWN = 5  # rows that a message names
_TAKEN = {
    "file_index",
    "file_row_number",
}  # by these DuckDB tells rows apart; a column of such a name would hide its numbers

_INTEGER = r"[+-]?\d+"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:nan|[+-]?inf(inity)?)"
_DATE = r"\d{4}-\d{2}-\d{2}"
_TIMESTAMP = _DATE + r"[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_ZONED = _TIMESTAMP + r" ?(Z|[+-]\d{2}(:?\d{2})?)"
# Each value sets the bit of the first kind that it is of; a column is of the type that fits all its bits.
_KINDS: tuple[tuple[int, str, str], ...] = (
    (1, _INTEGER, "BIGINT"), (2, _NUMBER, "DOUBLE"), (4, "(?i:true|false)", "BOOLEAN"), (8, _DATE, "DATE"),
    (16, _TIMESTAMP, "TIMESTAMP"), (32, _ZONED, "TIMESTAMP WITH TIME ZONE"),
)  # fmt: skip
_TEXT = 64
_TYPES = {
    0: '"NULL"',
    1: "BIGINT",
    2: "DOUBLE",
    3: "DOUBLE",
    4: "BOOLEAN",
    8: "DATE",
    16: "TIMESTAMP",
    24: "TIMESTAMP",
    32: "TIMESTAMP WITH TIME ZONE",
}


def corrupt(key: str, why: str) -> DataRejected:
    """Say that a file cannot be trusted."""
    return DataRejected("corrupt", f"{key}: {why}. Mend the file and land it again")


def malformed(key: str, why: str) -> DataRejected:
    """Say that a file is whole, and that rows of it do not hold."""
    return DataRejected("malformed", f"{key}: {why}. Mend these rows and land the file again")


def no_room(key: str, exc: BaseException) -> DataRejected:
    """Say that memory or disk did not suffice."""
    return DataRejected(
        "resource",
        f"{key}: {first_line(exc)}. Raise RATCHET_MEMORY_GIB as far as the worker has memory, free disk, or land smaller files",
    )


def convert(con: Any, source: Path, key: str, how: FileFormat, out: Path) -> None:
    """Write a CSV or JSON Lines file as Parquet.

    Raises:
        DataRejected: ``corrupt``, ``malformed``, ``empty``, ``schema`` or ``too_large``.
        SpecInvalid: a declared type does not exist.
    """
    import duckdb

    _types_exist(con, how.columns)
    plain = out.with_name(out.name + ".plain")
    try:
        text = _plain(source, key, plain)
        _refuse_blank(text, key)
        if how.format == "jsonl":
            _refuse_long(text, key)
        select = _csv(con, text, key, how) if how.format == "csv" else _jsonl(con, text, key, how)
        con.execute(f"COPY ({select}) TO {literal(out)} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
    except (duckdb.Error, OSError) as exc:
        if lacks_room(exc):
            raise no_room(key, exc) from exc
        if isinstance(exc, OSError):
            raise
        if "aximum" in str(exc) and "size" in str(exc):
            raise DataRejected("too_large", f"{key}: a row is larger than {_LINE >> 20} MiB") from exc
        raise (_bad_json(text, key, exc) if how.format == "jsonl" else _bad_csv(key, exc)) from exc
    finally:
        plain.unlink(missing_ok=True)


def verify_parquet(path: Path, key: str) -> None:
    """Read a Parquet file whole: every page, its checksum where it carries one, and every text's encoding.

    Raises:
        DataRejected: ``corrupt``, ``empty`` or ``too_large``.
    """
    import pyarrow as pa  # noqa: PLC0415  0.3 s that --help need not spend
    import pyarrow.parquet as pq  # noqa: PLC0415

    if path.stat().st_size == 0:
        raise DataRejected("empty", f"{key} has 0 bytes")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=_CHUNK) as file:
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            encoded = sum(group.total_byte_size for group in groups)
            _bounded(max(encoded, file.metadata.num_rows * _width(file.schema_arrow)), key)
            _distinct(file.schema_arrow.names, key)
            expanded = 0
            for batch in file.iter_batches(_ROWS):  # some writers put millions of rows into one group
                expanded += batch.nbytes
                _bounded(expanded, key)
                batch.validate(full=True)
            if file.metadata.num_rows == 0:
                raise DataRejected("empty", f"{key} has no rows")
    except (pa.ArrowException, OSError, MemoryError) as exc:
        if lacks_room(exc):
            raise no_room(key, exc) from exc
        raise corrupt(key, f"not whole, or no Parquet file: {first_line(exc)}") from exc


def _width(schema: Any) -> int:
    """Return the bytes that a row takes at least: a file that repeats one value says little of them in what it takes itself."""
    widths = []
    for kind in schema.types:
        try:
            widths.append(max(kind.bit_width // 8, 1))
        except ValueError:  # of texts and lists no width is known
            widths.append(1)
    return sum(widths)


def profile(con: Any, path: Path, key: str, date_column: str | None) -> FileProfile:
    """Say what a Parquet file holds.

    Raises:
        DataRejected: ``schema`` when the date column is missing or no date; ``malformed`` when a value of it is none.
    """
    import duckdb

    table = f"read_parquet({literal(path)}, hive_partitioning = false, can_have_nan = true, file_row_number = true)"
    try:
        columns = {
            name: kind
            for name, kind, *_ in con.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {table}").fetchall()
        }
        filled = ", ".join(f"count({identifier(name)})" for name in columns)
        rows, *values = con.execute(f"SELECT count(*), {filled} FROM {table}").fetchall()[0]
        empty = tuple(name for name, count in zip(columns, values, strict=True) if not count)
        if date_column is None:
            return FileProfile(rows=rows, columns=columns, empty=empty)
        day = day_of(date_column, columns, key)
        counts = con.execute(f"SELECT {day} AS day, count(*) FROM {table} GROUP BY ALL ORDER BY ALL").fetchall()
        dated = sum(count for found, count in counts if found is not None)
        if dated < rows:
            bad = con.execute(
                f"SELECT file_row_number + 1, {_shape(date_column)} FROM {table} WHERE {day} IS NULL ORDER BY 1 LIMIT {_SHOWN}"
            ).fetchall()
            shape = bad[0][1]
            raise malformed(
                key,
                f"column {date_column} is no date in {rows - dated} of {rows} rows: {_rows([row for row, _ in bad], rows - dated)}; "
                f"expected text such as 2024-03-09, found {'no value' if shape is None else f'the form {shape!r} (9 for a digit, a for a letter)'}",
            )
    except duckdb.Error as exc:
        raise corrupt(key, first_line(exc)) from exc
    return FileProfile(rows=rows, columns=columns, empty=empty, days=tuple(found for found, _ in counts))


def day_of(column: str, columns: Mapping[str, str], key: str) -> str:
    """Return the SQL of a row's day, NULL where the column does not tell one.

    Raises:
        DataRejected: ``schema`` when the column is missing, or can hold no date.
    """
    kind = columns.get(column)
    if kind is None:
        raise DataRejected("schema", f"{key} lacks the date column {column}; it has {', '.join(columns)}")
    if kind not in {"DATE", "VARCHAR"} and not kind.startswith("TIMESTAMP"):
        raise DataRejected(
            "schema", f"column {column} of {key}: expected DATE, TIMESTAMP or text that reads as one, found {kind}"
        )
    instant = f"TRY_CAST({identifier(column)} AS TIMESTAMPTZ)"
    return f"CASE WHEN year({instant}) BETWEEN 1 AND 9999 THEN CAST({instant} AS DATE) END"


def _shape(column: str) -> str:
    """Return the SQL of how a value is written, which tells no value."""
    text = f"left(CAST({identifier(column)} AS VARCHAR), {_SHAPE})"
    return f"regexp_replace(regexp_replace({text}, '[0-9]', '9', 'g'), '\\pL', 'a', 'g')"


def _types_exist(con: Any, columns: Mapping[str, str]) -> None:
    problems = [(name, type_problem(con, kind)) for name, kind in columns.items()]
    if any(problem for _, problem in problems):
        raise SpecInvalid([Problem("spec", f"columns.{name}", problem) for name, problem in problems if problem])


def _bounded(size: int, key: str) -> None:
    if size > MAX_EXPANDED:
        raise DataRejected("too_large", f"{key} expands to more than {MAX_EXPANDED >> 20} MiB; land smaller files")


def _plain(source: Path, key: str, plain: Path) -> Path:
    """Return the file without gzip, its checksum and length verified."""
    if source.stat().st_size == 0:
        raise DataRejected("empty", f"{key} has 0 bytes")
    if not key.lower().endswith(".gz"):
        _bounded(source.stat().st_size, key)
        return source
    size = 0
    try:
        with gzip.open(source) as packed, plain.open("wb") as out:
            while chunk := packed.read(_CHUNK):
                size += len(chunk)
                _bounded(size, key)
                out.write(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise corrupt(key, f"truncated or broken gzip: {first_line(exc)}") from exc
    if size == 0:
        raise DataRejected("empty", f"{key} has 0 bytes inside")
    return plain


def _refuse_blank(text: Path, key: str) -> None:
    with text.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        if not any(chunk.strip() for chunk in iter(lambda: file.read(_CHUNK), b"")):
            raise DataRejected("empty", f"{key} has nothing but blank lines")


def _refuse_long(text: Path, key: str) -> None:
    """Refuse a file with a line that is larger than any row may be: DuckDB's own limit is one for its buffers."""
    line, size = 1, 0
    with text.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for i, part in enumerate(chunk.split(b"\n")):
                line, size = (line + 1, len(part)) if i else (line, size + len(part))
                if size > _LINE:
                    raise DataRejected("too_large", f"{key}: line {line} larger than {_LINE >> 20} MiB")


def _distinct(names: Sequence[str], key: str) -> None:
    """Refuse columns that SQL cannot tell apart."""
    seen: dict[str, str] = {}
    for i, name in enumerate(names, start=1):
        if not name.strip():
            raise _schema(key, f"column {i} of {len(names)} has no name")
        if name.lower() in seen:
            first = seen[name.lower()]
            same = "" if first == name else f", first as {first}: SQL does not tell upper from lower case"
            raise _schema(key, f"column {name} occurs twice{same}")
        if name.lower() in _TAKEN:
            raise _schema(key, f"column {name} has a name by which rows are numbered while they are read")
        seen[name.lower()] = name


def _schema(key: str, why: str) -> DataRejected:
    return DataRejected("schema", f"{key}: {why}. Give each column a name of its own and land the file again")


def _csv(con: Any, text: Path, key: str, how: FileFormat) -> str:
    """Read a CSV strictly into ``raw`` as text, and return the SELECT that gives its columns their types."""
    names = _header(text, key, how.delimiter)
    columns = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"
    nobody = "\x1f" if how.delimiter != "\x1f" else "\x1e"
    # Which texts mean null is not DuckDB's to know: of a line that ends in an empty null it drops a field too many.
    values = ", ".join(_null(name, how.null_values) for name in names)
    con.execute(
        f"CREATE TEMP TABLE raw AS SELECT {values} FROM read_csv({literal(text)}, auto_detect = false, columns = {columns}, header = true, "
        f"delim = {literal(how.delimiter)}, quote = '\"', escape = '\"', nullstr = [{literal(f'{nobody} no text means null {nobody}')}], "
        f"strict_mode = true, null_padding = false, compression = 'none', max_line_size = {_LINE}, store_rejects = true)"
    )
    _refuse_rejects(con, text, key)
    rows = con.execute("SELECT count(*) FROM raw").fetchall()[0][0]
    if rows == 0:
        raise DataRejected("empty", f"{key} has a header and no rows")
    missing = [name for name in how.columns if name not in names]
    if missing:
        raise DataRejected(
            "schema", f"{key} lacks column {missing[0]}, declared {how.columns[missing[0]]}; it has {', '.join(names)}"
        )
    types = {**_sniff(con, [name for name in names if name not in how.columns]), **how.columns}
    for name, kind in how.columns.items():
        _refuse_values(con, key, name, kind)
    return "SELECT " + ", ".join(_cast(name, types[name]) for name in names) + " FROM raw"


def _null(name: str, nulls: Sequence[str]) -> str:
    column = identifier(name)
    return (
        f"CASE WHEN {column} NOT IN ({', '.join(map(literal, nulls))}) THEN {column} END AS {column}"
        if nulls
        else column
    )


def _header(text: Path, key: str, delimiter: str) -> list[str]:
    with text.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        try:
            names = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
        except csv.Error as exc:
            raise malformed(key, f"the header cannot be read: {exc}") from exc
    if not names:
        raise malformed(key, "line 1 is blank; a header is required")
    if any("\udc80" <= char <= "\udcff" for name in names for char in name):
        raise malformed(key, "the header (line 1) is not UTF-8; save the file as UTF-8")
    _distinct(names, key)
    return names


def _refuse_rejects(con: Any, text: Path, key: str) -> None:
    """Refuse a CSV of which a line was not read, naming lines and reasons.

    A quoted value that spans lines counts as part of one.
    """
    found = con.execute(
        "SELECT line, error_type, min(error_message), max(line_byte_position) FROM reject_errors GROUP BY ALL ORDER BY line"
    ).fetchall()
    if not found:
        return
    lines = sorted({line for line, *_ in found})
    _, kind, why, _ = found[0]
    if kind == "LINE SIZE OVER MAXIMUM":
        raise DataRejected("too_large", f"{key}: {_rows(lines, len(lines), 'line')} larger than {_LINE >> 20} MiB")
    last, kinds = lines[-1], {kind for line, kind, *_ in found if line == lines[-1]}
    if _cut_off(text, max(start for *_, start in found), quoted="UNQUOTED VALUE" in kinds):
        raise corrupt(key, f"it ends in the middle of line {last}, so it was not landed whole")
    said = "; ".join(dict.fromkeys(kind.lower() for _, kind, *_ in found))
    raise malformed(key, f"{_rows(lines, len(lines), 'line')}: {said}; {first_line(ValueError(why)).rstrip('.')}")


def _cut_off(text: Path, start: int, *, quoted: bool) -> bool:
    """Say whether the line that begins at a byte (from 1) is the last, and has no end: a file that was cut looks so."""
    with text.open("rb") as file:
        file.seek(max(start - 1, 0))
        rest = file.read(_LINE + 1).lstrip(b"\r\n")
        if quoted:
            file.seek(-1, 2)
            return file.read(1) not in b"\r\n"
    return b"\n" not in rest and b"\r" not in rest


def _bad_csv(key: str, exc: BaseException) -> DataRejected:
    """Say why DuckDB could not read a CSV at all."""
    if "invalid state" in str(exc):  # its strict mode knows one kind of line end in a file
        return malformed(
            key, "its lines end in different ways, some in \\r\\n and some in \\n or \\r; write all of them alike"
        )
    return corrupt(key, first_line(exc))


def _bad_json(text: Path, key: str, exc: BaseException) -> DataRejected:
    """Say which lines of a JSON Lines file DuckDB could not read; it names one only, and counts from elsewhere."""
    bad: list[int] = []
    count, number, line = 0, 0, b""
    with text.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and not _is_object(line):
                count += 1
                bad += [number] if len(bad) < _SHOWN else []
    if bad[-1:] == [number] and count <= _SHOWN and not line.endswith(b"\n"):
        return corrupt(key, f"it ends in the middle of line {number}, so it was not landed whole")
    if bad:
        return malformed(key, f"{_rows(bad, count, 'line')}: no JSON object, or not UTF-8")
    told = re.search(r'"[^"]*", (?:at [^,]*?)?in line (\d+): (.*)', first_line(exc))
    return malformed(key, f"line {told[1]}: {told[2]}" if told else first_line(exc))


def _is_object(line: bytes) -> bool:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        return isinstance(json.loads(line, object_pairs_hook=distinct), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_values(con: Any, key: str, name: str, kind: str) -> None:
    """Refuse a declared column with values that are not of its type."""
    column = identifier(name)
    bad = f"FROM raw WHERE {column} IS NOT NULL AND TRY_CAST({column} AS {kind}) IS NULL"
    count = con.execute(f"SELECT count(*) {bad}").fetchall()[0][0]
    if count:
        rows = [row for (row,) in con.execute(f"SELECT rowid + 1 {bad} ORDER BY 1 LIMIT {_SHOWN}").fetchall()]
        raise malformed(
            key,
            f"column {name}: expected {kind}, found other text in {count} rows: {_rows(rows, count)}; a text that means no value "
            "belongs into source.null_values",
        )


def _sniff(con: Any, names: Sequence[str]) -> dict[str, str]:
    """Tell each column's type by all its values."""
    if not names:
        return {}

    def kinds(column: str) -> str:
        whens = "".join(
            f" WHEN regexp_full_match({column}, {literal(pattern)}) AND TRY_CAST({column} AS {kind}) IS NOT NULL THEN {bit}"
            for bit, pattern, kind in _KINDS
        )
        return f"bit_or(CASE WHEN {column} IS NULL THEN 0{whens} ELSE {_TEXT} END)"

    masks = con.execute("SELECT " + ", ".join(kinds(identifier(name)) for name in names) + " FROM raw").fetchall()[0]
    return {name: _TYPES.get(mask or 0, "VARCHAR") for name, mask in zip(names, masks, strict=True)}


def _cast(name: str, kind: str) -> str:
    column = identifier(name)
    return column if kind in {"VARCHAR", '"NULL"'} else f"CAST({column} AS {kind}) AS {column}"


def _jsonl(con: Any, text: Path, key: str, how: FileFormat) -> str:
    """Return the SELECT that reads a JSON Lines file strictly."""
    reader = (
        f"read_json({literal(text)}, format = 'newline_delimited', records = true, compression = 'none', sample_size = -1, "
        f"maximum_depth = -1, convert_strings_to_integers = false, ignore_errors = false, maximum_object_size = {_LINE}"
    )
    found = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {reader})").fetchall()}
    _distinct(list(found), key)
    _refuse_renamed(text, list(found), key)
    types = {**{name: "VARCHAR" if kind in {"JSON", '"NULL"'} else kind for name, kind in found.items()}, **how.columns}
    columns = "{" + ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items()) + "}"
    con.execute(f"CREATE TEMP TABLE raw AS SELECT * FROM {reader}, columns = {columns})")
    if con.execute("SELECT count(*) FROM raw").fetchall()[0][0] == 0:
        raise DataRejected("empty", f"{key} has no rows")
    return "SELECT * FROM raw"


def _refuse_renamed(text: Path, names: Sequence[str], key: str) -> None:
    """Refuse names that differ in case only: DuckDB gives the second a number, under which no line has a value."""
    known = {name.lower(): name for name in names}
    for name in names:
        first = known.get(re.sub(r"_\d+$", "", name.lower()), name)
        if first != name and not _holds(text, json.dumps(name).encode(), json.dumps(name, ensure_ascii=False).encode()):
            raise _schema(key, f"column {first} occurs twice, and the names differ in case only")


def _holds(text: Path, *wanted: bytes) -> bool:
    with text.open("rb") as file:
        return any(word in line for line in file for word in wanted)


def _rows(rows: Sequence[int], count: int, word: str = "row") -> str:
    """Name a few rows."""
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return f"{word} {', '.join(str(row) for row in rows[:_SHOWN])}{more}"
