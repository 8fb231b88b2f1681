"""What DuckDB is told and what it answers: quoting, connections, one SELECT, and its errors in words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Whatever a run reads besides its snapshot would make two nights differ: the clock, dice, the session, and queries that are texts.
_UNREPEATABLE = {
    "current_connection_id", "current_date", "current_localtime", "current_localtimestamp", "current_query_id", "current_setting",
    "current_time", "current_timestamp", "current_transaction_id", "currval", "gen_random_uuid", "get_current_time",
    "get_current_timestamp", "getvariable", "localtime", "localtimestamp", "nextval", "now", "query", "query_table", "random",
    "reservoir_quantile", "setseed", "setval", "sleep_ms", "stats", "today", "transaction_timestamp", "txid_current", "uuid", "uuidv4",
    "uuidv7", "vector_type",
}  # fmt: skip
_ABOUT_ITSELF = ("duckdb_", "pragma_")  # how these functions begin that tell of the database
_KEYWORDS = ("current_", "localtime")
WHOLE = frozenset(
    {*(f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")), "INTEGER", "UINTEGER"}
)
_TYPE = re.compile(r"[A-Za-z]\w*( [A-Za-z]\w*)*(\(\d+(, ?\d+)?\))?(\[\])*")


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """Quote a text."""
    return "'" + str(text).replace("'", "''") + "'"


def literals(texts: Iterable[object]) -> str:
    """Write a list of texts."""
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def plain(column: str, kind: str, name: str) -> str:
    """Return a column as a type that learners know."""
    if kind.startswith(("HUGEINT", "UHUGEINT", "DECIMAL")):
        column = f"CAST({column} AS DOUBLE)"
    elif kind.startswith(("ENUM", "UUID")):
        column = f"CAST({column} AS VARCHAR)"
    return f"{column} AS {identifier(name)}"


def in_order(sql: str, described: Iterable[tuple[str, str]]) -> str:
    """Return the SELECT of a query's features in order of ``row_id``, which comes first, as types that learners know.

    Args:
        sql: the query.
        described: its columns and their types.
    """
    shown = [plain(identifier(name), kind, name) for name, kind in described if name.lower() not in {"row_id", "dt"}]
    return f"SELECT {', '.join(['row_id', *shown])} FROM ({sql}\n) ORDER BY row_id"


def without_nan(value: str, kind: str) -> str:
    """Return a column as the query sees it: NaN is no value. Pandas knows no other null, so raw rows that are served have none.

    Files that hold the column are read with ``can_have_nan``: else DuckDB trusts their statistics, which do not tell of NaNs.
    """
    return f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END" if kind in {"FLOAT", "DOUBLE"} else value


def connect(spill: Path | None = None, memory_limit: str | None = None, threads: int | None = None) -> Any:
    """Open an empty in-memory database: in UTC, and without downloads (Parquet, JSON and ICU are built in)."""
    import duckdb

    config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    if spill:
        config["temp_directory"] = str(spill)
    if memory_limit:
        config["memory_limit"] = memory_limit
    if threads:
        config["threads"] = threads
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")
    return con


_POINTED = re.compile(r"^(LINE \d+: )(.*)\n( *)(\^+)", re.MULTILINE)
_INTERNAL = re.compile(r'Did you mean "(pg_|duckdb_|sqlite_|pragma_|information_schema)')  # tables that no query means


class NotOneSelect(ValueError):
    """The text is not exactly one SELECT statement."""


def select(con: Any, sql: str) -> str:
    """Return ``sql`` as a sub-query can hold it: one SELECT, without the semicolon that ends it.

    Raises:
        NotOneSelect: there is none, more than one, or another statement.
        duckdb.Error: it does not parse.
    """
    import duckdb

    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise NotOneSelect(f"expected one SELECT, found {len(statements) or 'no'} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise NotOneSelect(f"expected one SELECT, found {statements[0].type.name}")
    tokens = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    raw = sql.encode()  # positions count bytes
    while tokens and raw[tokens[-1] : tokens[-1] + 1] == b";":
        raw = raw[: tokens.pop()]
    return raw.decode()


def expression(con: Any, sql: str) -> str:
    """Return ``sql`` in brackets, once it has proved to be one expression.

    Raises:
        NotOneSelect, duckdb.Error: it is none, or more than that.
    """
    bracketed = f"({sql}\n)"
    for text in (f"SELECT {sql}", f"SELECT {bracketed}"):  # "1), (2" passes the second only, "1 FROM x" the first only
        select(con, text)
    return bracketed


def unrepeatable(con: Any, sql: str) -> list[str]:
    """Name what in ``sql`` reads the clock, rolls dice or looks at the machine."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            columns = node.get("column_names", [])  # current_date without brackets parses as a column
            name = (
                columns[0]
                if len(columns) == 1 and str(columns[0]).lower().startswith(_KEYWORDS)
                else node.get("function_name")
            )
            if isinstance(name, str) and (name.lower() in _UNREPEATABLE or name.lower().startswith(_ABOUT_ITSELF)):
                found.add(name.lower())
            if name == "age" and len(node.get("arguments", ())) == 1:
                found.add("age of one moment")  # to today; age(a, b) is the same every day
            if isinstance(sample := node.get("sample"), dict) and not sample.get("repeatable"):
                found.add("a sample without REPEATABLE (seed)")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)

    walk(json.loads(con.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0]))
    return sorted(found)


def type_problem(con: Any, kind: str) -> str | None:
    """Say what is wrong with the name of a type."""
    import duckdb

    try:
        if _TYPE.fullmatch(kind):
            con.execute(f"SELECT CAST(NULL AS {kind})")
            return None
    except duckdb.Error:
        pass
    return f"{kind!r} is no DuckDB type; for example BIGINT, DOUBLE, VARCHAR, BOOLEAN, DATE, TIMESTAMP"


def first_line(exc: BaseException) -> str:
    """Return what DuckDB says in its first line, bounded, without the values that it met."""
    text = next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
    return without_values(text)[:300]


def said_of_sql(exc: BaseException) -> str:
    """Return what DuckDB says of a query, on one line: what is wrong, the names that it offers instead, and at what it points."""
    text = str(exc)
    pointed = _POINTED.search(text)
    told, *more = [
        line.strip() for line in text[: pointed.start() if pointed else None].splitlines() if line.strip()
    ] or [type(exc).__name__]
    if not any(_INTERNAL.search(line) for line in more):
        told = " ".join([told, *more])
    told = without_values(told)[:500]
    if pointed and text.isascii():  # else the marks may stand elsewhere
        here = f"{pointed[1]}{pointed[2]}"[len(pointed[3]) :][: len(pointed[4])].strip()
        told += f" (at `{here[:100]}`)" if here and here not in told else ""
    return told


def without_values(text: str) -> str:
    """Mask values that a conversion error quotes, because data may be personal."""
    return re.sub(r"(?i)\b(string|value|numerical|format): ?(['\"]).*\2|\b(string|value) (['\"]).*?\4", r"\1\3 …", text)


def lacks_room(exc: BaseException) -> bool:
    """Say whether memory or disk ran out."""
    import duckdb

    return isinstance(exc, duckdb.OutOfMemoryException | MemoryError) or "No space left" in str(exc)


def line_of(exc: BaseException) -> int | None:
    """Return the line of the SQL that DuckDB points at."""
    match = re.search(r"^LINE (\d+):", str(exc), re.MULTILINE)
    return int(match.group(1)) if match else None
