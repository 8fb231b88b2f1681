"""DuckDB: source files made readable, and the features query run over a snapshot.

The query sees views: ``rows`` (with ``row_id`` and ``dt``, without the columns that are unknown at prediction time) and the
side tables (with ``dt``). It runs in a database of its own that can read nothing but the snapshot's files, and on one
thread: with several, sums of floats depend on which thread met which rows, and the same night would not give the same
model twice.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ratchet.adapters import duck_business, duck_files, duck_summary
from ratchet.adapters.duck_sql import (
    NotOneSelect,
    connect,
    expression,
    first_line,
    identifier,
    in_order,
    lacks_room,
    line_of,
    literal,
    literals,
    plain,
    said_of_sql,
    select,
    type_problem,
    unrepeatable,
    without_nan,
)
from ratchet.domain.records import digest
from ratchet.domain.schemas import FileColumns, agreement, remedy
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.local_cache import intact, remember
from ratchet.tables import GROUP, FeatureFrame, FileProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.summaries import FileSummary
    from ratchet.spec import Pipeline
    from ratchet.tables import Cut, FeatureQuery, FileFormat, Floats, SummaryPlan, TableFile, TableFiles

_LAYOUT = 4  # of the converted files and their profiles; another number converts anew
_FILE = 1 << 32  # row_id = file × this + row in the file
_OURS = {"row_id", "dt"}  # a source column of such a name gives way to ours
_LEFT_OUT = "_quarantined"  # table of the rows that are left out
_SHOWN = 5  # rows that a message names
_BATCH = 100_000  # rows that are handed over at a time


class DuckEngine:
    """Fulfils ``ports.Engine``.

    Args:
        cache: folder for converted files, which can be made again.
        memory_limit: as DuckDB reads it ("4GB"); by default most of the machine's.
        threads: for reading files; by default all. The features query runs on one.
    """

    def __init__(self, cache: Path, memory_limit: str | None = None, threads: int | None = None) -> None:
        self._cache = cache
        self._tables = cache / "tables"
        self._spill = cache / "spill"
        self._memory_limit = memory_limit
        self._threads = threads
        self._profiles: dict[Path, FileProfile] = {}
        self._con: Any = None
        self._lock = threading.Lock()

    def load(
        self, path: Path, sha256: str, key: str, how: FileFormat, date_column: str | None
    ) -> tuple[Path, FileProfile]:
        """See ``ports.Engine.load``.

        Raises:
            DataRejected: ``corrupt``, ``malformed``, ``empty``, ``schema``, ``too_large`` or ``resource``, naming the key.
            SpecInvalid: a declared type does not exist.
        """
        reading = digest([_LAYOUT, how.model_dump(mode="json"), date_column, key.lower().endswith(".gz")])[:16]
        kept = self._tables / f"{sha256}-{reading}.parquet"
        table = path if how.format == "parquet" else kept
        note = kept.with_suffix(".json")
        if intact(self._cache, note) and (table == path or intact(self._cache, table)):
            profile = FileProfile.model_validate_json(note.read_bytes())
        else:
            profile = self._load(path, key, how, date_column, kept, note)
        self._profiles[table] = profile
        return table, profile

    def _load(
        self, path: Path, key: str, how: FileFormat, date_column: str | None, kept: Path, note: Path
    ) -> FileProfile:
        self._tables.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = kept.with_name(f".{kept.stem}-{os.getpid()}-{threading.get_ident()}")
        try:
            with self._cursor() as con:
                if how.format == "parquet":
                    duck_files.verify_parquet(path, key)
                    profile = duck_files.profile(con, path, key, date_column)
                else:
                    duck_files.convert(con, path, key, how, aside)
                    profile = duck_files.profile(con, aside, key, date_column)
                    aside.replace(kept)
                    remember(self._cache, kept)
            aside.write_text(profile.model_dump_json())
            aside.replace(note)
            remember(self._cache, note)
        except OSError as exc:
            if lacks_room(exc):
                raise duck_files.no_room(key, exc) from exc
            raise
        finally:
            aside.unlink(missing_ok=True)
        return profile

    def _cursor(self) -> Any:
        """Return a connection with temporary tables of its own."""
        with self._lock:
            if self._con is None:
                self._con = connect(self._spill, self._memory_limit, self._threads)
            return self._con.cursor()

    def summaries(self, files: Sequence[TableFile], plan: SummaryPlan) -> Sequence[FileSummary]:
        """See ``ports.Engine.summaries``."""
        import duckdb

        with connect(self._spill, self._memory_limit, threads=1) as con:
            _shut(con, [file.path for file in files])
            made = []
            for file in files:
                try:
                    made.append(duck_summary.summarise(con, file, plan))
                except duckdb.Error as exc:
                    if lacks_room(exc):
                        raise duck_files.no_room(file.key, exc) from exc
                    raise duck_files.corrupt(file.key, first_line(exc)) from exc
        return made

    def aggregates(self, rows: pa.Table, expressions: Mapping[str, str], weights: Floats) -> Mapping[str, Floats]:
        """See ``ports.Engine.aggregates``."""
        return duck_business.aggregates(rows, expressions, weights, self._memory_limit)

    def features(self, query: FeatureQuery, out: Path | None = None) -> FeatureFrame:
        """See ``ports.Engine.features``.

        Raises:
            SpecInvalid: the query or the target does not run over these columns, multiplies rows, or lacks ``row_id``.
            DataRejected: ``schema`` when files of a table disagree, ``non_finite`` targets, ``empty``, ``corrupt``.
        """
        import duckdb

        try:
            with connect(self._spill, self._memory_limit, threads=1) as con:
                return self._features(con, query, out)
        except duckdb.Error as exc:
            raise _translated(exc, "features", query.hidden) from exc

    def _features(self, con: Any, query: FeatureQuery, out: Path | None) -> FeatureFrame:
        tables = {name: self._table(con, name, files) for name, files in query.tables.items()}
        rows = tables["rows"]
        _shut(con, [file.path for table in query.tables.values() for file in table.files])
        _refuse_strangers(query.hidden, rows.columns)
        if query.cut:
            tables = _cut(con, query.cut, tables)
            rows = tables["rows"]
        landed = {file.key for file in query.tables["rows"].files}
        visible = {  # a side table that reads the rows' own files would show what they hide
            name: _visible(table.columns, query.hidden if landed & {f.key for f in query.tables[name].files} else ())
            for name, table in tables.items()
        }
        for name, table in tables.items():
            shown = ", ".join(
                f"{without_nan(identifier(column), kind)} AS {identifier(column)}"
                for column, kind in visible[name].items()
            )
            con.execute(f"CREATE VIEW {identifier(name)} AS SELECT {shown} FROM ({table.source})")
        features = _features_of(con, query)
        frame = _label(con, query, rows.source, features, visible, out)
        ((read,),), ((usable, within),) = con.execute(rows.read).fetchall(), con.execute(rows.counts).fetchall()
        return frame.model_copy(update={"quarantined": read - usable, "outside": usable - within})

    def misfits(self, path: Path, column: str, kind: str) -> tuple[int, tuple[int, ...]]:
        """See ``ports.Engine.misfits``."""
        name = identifier(column)
        bad = (
            f"FROM read_parquet({literal(path)}, hive_partitioning = false, can_have_nan = true, file_row_number = true) "
            f"WHERE {name} IS NOT NULL AND TRY_CAST({name} AS {kind}) IS NULL"
        )
        with self._cursor() as con:
            count = con.execute(f"SELECT count(*) {bad}").fetchall()[0][0]
            rows = con.execute(f"SELECT file_row_number + 1 {bad} ORDER BY 1 LIMIT {_SHOWN}").fetchall()
        return count, tuple(row for (row,) in rows)

    def _table(self, con: Any, name: str, files: TableFiles) -> _Table:
        """Return the SELECT over all files of a table, and its columns' types."""
        wanted = [
            (i, file)
            for i, file in enumerate(files.files)
            if file.day is None or files.days is None or file.day in files.days
        ]
        if not wanted:
            where = f" in {files.days}" if files.days else ""
            raise DataRejected(
                "empty", f"table {name} has no file{where}; the features query cannot be run without one"
            )
        columns = _unify(name, [(file, self._profile(con, file)) for _, file in wanted], files.ignore)
        numbers = f"[{', '.join(str(i) for i, _ in wanted)}]"
        row = f"CAST({numbers}[file_index::BIGINT + 1] * {_FILE} + file_row_number AS BIGINT)"
        shown = [f"{row} AS row_id"] if name == "rows" else []
        if files.date_column:
            day = duck_files.day_of(files.date_column, columns, wanted[0][1].key)
        else:
            days = ", ".join(f"DATE '{file.day}'" if file.day else "NULL" for _, file in wanted)
            day = f"[{days}][file_index::BIGINT + 1]"
        shown.append(f"{day} AS dt")
        shown += [
            f"CAST({identifier(c)} AS {kind}) AS {identifier(c)}"
            for c, kind in columns.items()
            if c.lower() not in _OURS
        ]
        paths = literals(file.path for _, file in wanted)
        read = f"FROM read_parquet({paths}, union_by_name = true, hive_partitioning = false, can_have_nan = true)"
        source = f"SELECT {', '.join(shown)} {read}"
        quarantined = name == "rows" and _leave_out(con, wanted)
        if quarantined:
            source = f"SELECT * FROM ({source}) ANTI JOIN {_LEFT_OUT} USING (row_id)"
        within = f"dt BETWEEN DATE '{files.days.first}' AND DATE '{files.days.last}'" if files.days else "true"
        ours = {"row_id": "BIGINT", "dt": "DATE"} if name == "rows" else {"dt": "DATE"}
        return _Table(
            source=f"SELECT * FROM ({source}) WHERE {within}" if files.days else source,
            columns={**ours, **{c: kind for c, kind in columns.items() if c.lower() not in _OURS}},
            # Counted apart from what the query reads, so that the account of all rows can be held against it.
            counts=f"SELECT count(*), count(*) FILTER (WHERE {within}) FROM (SELECT {row} AS row_id, {day} AS dt {read})"
            + (f" ANTI JOIN {_LEFT_OUT} USING (row_id)" if quarantined else ""),
            read=f"SELECT count(*) {read}",
        )

    def _profile(self, con: Any, file: TableFile) -> FileProfile:
        if file.path not in self._profiles:
            self._profiles[file.path] = duck_files.profile(con, file.path, file.key, None)
        return self._profiles[file.path]


class _Table(NamedTuple):
    """How a table is read."""

    source: str  # SELECT of its rows
    columns: dict[str, str]  # their types
    counts: (
        str  # SELECT of how many rows there are that are not in quarantine, and how many of them are of the wanted days
    )
    read: str  # SELECT of how many rows the files have


def _cut(con: Any, cut: Cut, tables: Mapping[str, _Table]) -> dict[str, _Table]:
    """Leave out what became known after half of a day's events; a row whose time cannot be read stays."""

    def time(name: str) -> str:
        return f"TRY_CAST({identifier(cut.times[name])} AS TIMESTAMP)"

    half = f"quantile_disc({time('rows')}, 0.5)"
    ((now,),) = con.execute(f"SELECT {half} FROM ({tables['rows'].source}) WHERE dt = DATE '{cut.day}'").fetchall()
    if now is None:
        return dict(tables)
    return {
        name: table._replace(
            source=f"SELECT * FROM ({table.source}) WHERE NOT coalesce({time(name)} > TIMESTAMP {literal(now)}, false)"
        )
        if name in cut.times
        else table
        for name, table in tables.items()
    }


def _leave_out(con: Any, wanted: Sequence[tuple[int, TableFile]]) -> bool:
    """Note the rows that are in quarantine, and say whether there are any."""
    import pyarrow as pa  # noqa: PLC0415

    rows = [i * _FILE + row for i, file in wanted for row in file.without]
    if rows:
        left_out = pa.table({"row_id": pa.array(rows, pa.int64())})
        con.register("_given", left_out)
        con.execute(f"CREATE TEMP TABLE {_LEFT_OUT} AS SELECT DISTINCT row_id FROM _given")
        con.unregister("_given")
    return bool(rows)


def _shut(con: Any, paths: Sequence[Path]) -> None:
    """Leave nothing to read but the snapshot: what the query sees is what the manifest says."""
    con.execute(f"SET allowed_paths = {literals(paths)}")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def _refuse_strangers(hidden: Sequence[str], columns: Mapping[str, str]) -> None:
    """Refuse a hidden column that the source has not: misspelt, it would hide nothing, and a leak would pass for skill."""
    known = {name.lower() for name in columns}
    for i, name in enumerate(hidden):
        if name.lower() not in known:
            close = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            words = f"the source has no column {name!r}{hint} It has {', '.join(columns)}"
            raise SpecInvalid([Problem("spec", f"source.unknown_at_prediction[{i}]", words)])


def _visible(columns: Mapping[str, str], hidden: Sequence[str]) -> dict[str, str]:
    unknown = {name.lower() for name in hidden}
    return {name: kind for name, kind in columns.items() if name.lower() not in unknown}


def _unify(table: str, files: Sequence[tuple[TableFile, FileProfile]], ignore: Sequence[str]) -> dict[str, str]:
    """Return the columns of a table and the type that holds every file's values.

    A column that few files have is not seen; one that few files lack, or have with values of another type, is refused.

    Raises:
        DataRejected: ``schema``, naming column, file, expected and found.
    """
    found = agreement(
        [FileColumns(str(file.day or file.key), file.key, profile.columns, profile.empty) for file, profile in files],
        ignore,
    )
    for deviation in found.deviations:
        if deviation.kind != "extra":
            raise DataRejected("schema", f"table {table}: {deviation.words}. {remedy(table, deviation)}")
    return found.columns


def _features_of(con: Any, query: FeatureQuery) -> str:
    """Return the SELECT of the query's features in order of ``row_id``, which comes first.

    ``rows`` is all that it can see: the view over all columns does not exist yet.
    """
    import duckdb

    try:
        sql = select(con, query.sql)
        described = [(name, kind) for name, kind, *_ in con.execute(f"DESCRIBE {sql}").fetchall()]
    except (NotOneSelect, duckdb.Error) as exc:
        raise _translated(exc, "features", query.hidden) from exc
    if problems := _unsteady("features", "", con, sql):
        raise SpecInvalid(problems)
    _refuse_columns(described)
    return in_order(sql, described)  # the line that errors name is the file's


def _refuse_columns(described: Sequence[tuple[str, str]]) -> None:
    problems = []
    names = [name.lower() for name, _ in described]
    if ("row_id", "BIGINT") not in {(name.lower(), kind) for name, kind in described}:
        problems.append(f"the query must return row_id, as `rows` has it; it returns {', '.join(names)}")
    problems += [
        f"column {name} is returned twice; name each column once"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    problems += [f"a feature cannot be called {name}; rename it" for name in ("target", GROUP) if name in names]
    if problems:
        raise SpecInvalid([Problem("features", "", problem) for problem in problems])


def _label(
    con: Any,
    query: FeatureQuery,
    source: str,
    features: str,
    columns: Mapping[str, Mapping[str, str]],
    out: Path | None,
) -> FeatureFrame:
    """Put the labels of their rows beside the features."""
    import duckdb

    from ratchet.adapters.duck_frame import Labels, written  # noqa: PLC0415  imports pyarrow

    try:
        target = expression(con, query.target)
        if clock := unrepeatable(con, f"SELECT {target}"):
            raise SpecInvalid([Problem("spec", "target.sql", f"{', '.join(clock)} would give another value each time")])
        con.execute(f"CREATE TEMP TABLE _labels AS SELECT row_id, dt, {target} AS target FROM ({source})")
    except (NotOneSelect, duckdb.Error) as exc:
        raise _translated(exc, "target.sql", ()) from exc
    if query.group:
        _tell_lists(con, query, source)
    kind = con.execute("SELECT typeof(any_value(target)) FROM _labels").fetchall()[0][0]
    if kind in {"DOUBLE", "FLOAT"}:
        _refuse_infinite(con, query)
    landed, labelled = con.execute("SELECT count(*), count(target) FROM _labels").fetchall()[0]
    told = ", ".join(["row_id", "dt", plain("target", kind, "target"), *([identifier(GROUP)] if query.group else [])])
    found = Labels(con.sql(f"SELECT {told} FROM _labels ORDER BY row_id").to_arrow_table())
    if query.group:
        features = f"SELECT f.* FROM ({features}) AS f LEFT JOIN _labels AS l ON f.row_id = l.row_id ORDER BY l.dt, l.{identifier(GROUP)}, f.row_id"
    else:
        con.execute("DROP TABLE _labels")
    try:
        rows, table = written(con.sql(features).to_arrow_reader(_BATCH), found, out, lambda row: _place(query, row))
    except duckdb.Error as exc:
        raise _translated(exc, "features", query.hidden) from exc
    counts = {"landed": landed, "unlabelled": landed - labelled, "dropped": labelled - rows, "columns": columns}
    return FeatureFrame.of_file(out, **counts) if out else FeatureFrame(table=table, **counts)


def _tell_lists(con: Any, query: FeatureQuery, source: str) -> None:
    """Put each row's list beside its label; a row that stands in none has no label.

    Raises:
        SpecInvalid: ``target.group`` does not run over these columns.
        DataRejected: ``lists``, when one has rows of several days.
    """
    import duckdb

    group = identifier(GROUP)
    try:
        stands = f"SELECT row_id, CAST({expression(con, query.group or '')} AS VARCHAR) AS {group} FROM ({source})"
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE _labels AS SELECT row_id, dt, CASE WHEN {group} IS NOT NULL THEN target END AS target, {group} "
            f"FROM _labels JOIN ({stands}) USING (row_id)"
        )
    except (NotOneSelect, duckdb.Error) as exc:
        raise _translated(exc, "target.group", ()) from exc
    torn = con.execute(
        f"SELECT arg_min(row_id, dt), arg_max(row_id, dt), min(dt), max(dt) FROM _labels WHERE target IS NOT NULL GROUP BY {group} "
        "HAVING min(dt) < max(dt) ORDER BY min(row_id)"
    ).fetchall()
    if torn:
        one, other, first, last = torn[0]
        raise DataRejected(
            "lists",
            f"{len(torn)} lists have rows of several days, the first from {first} ({_place(query, one)}) to {last} ({_place(query, other)}); days "
            "are learnt from and judged apart, so a list must lie in one: let target.group name the day too",
        )


def _refuse_infinite(con: Any, query: FeatureQuery) -> None:
    count, row = con.execute("SELECT count(*), min(row_id) FROM _labels WHERE NOT isfinite(target)").fetchall()[0]
    if count:
        raise DataRejected(
            "non_finite",
            f"the target is NaN or infinite in {count} rows, the first is {_place(query, row)}; turn it into NULL in target.sql where there is no label",
        )


def _place(query: FeatureQuery, row: int) -> str:
    """Say where a row stands."""
    return f"row {row % _FILE + 1} of {query.tables['rows'].files[row // _FILE].key}"


def _translated(exc: Exception, where: str, hidden: Sequence[str]) -> Exception:
    """Return what DuckDB says as one of our errors."""
    import duckdb

    first, said = first_line(exc), said_of_sql(exc)
    if lacks_room(exc):
        return DataRejected(
            "resource",
            f"the features query: {first}. Raise RATCHET_MEMORY_GIB as far as the worker has memory, free disk, or shorten the window",
        )
    forbidden = isinstance(exc, duckdb.PermissionException)
    if not forbidden and ("arquet" in first or isinstance(exc, duckdb.IOException)):
        return DataRejected("corrupt", f"a file of the snapshot cannot be read any more: {first}")
    for name in hidden:
        if isinstance(exc, duckdb.BinderException) and re.search(rf'"{re.escape(name)}"', first, re.IGNORECASE):
            said = f"column {name} is unknown at prediction time (source.unknown_at_prediction), so the features query cannot use it"
    if forbidden:
        said = "the query may read `rows` and the side tables, and no other file"
    elif not isinstance(exc, NotOneSelect | duckdb.ProgrammingError) and isinstance(exc, duckdb.DataError):
        said = f"it fails on these rows: {said}; TRY_CAST gives NULL where CAST fails"
    line = line_of(exc)
    return SpecInvalid([Problem(where, f"line {line}" if line and where == "features" else "", said)])


def check(pipeline: Pipeline) -> list[Problem]:
    """Say what is wrong with a pipeline's SQL and declared types, as far as that shows without data."""
    spec, problems = pipeline.spec, []
    file = f"features/{spec.features}.sql"
    yaml = f"pipelines/{spec.name}.yaml"
    with connect() as con:
        found = _sql_problem(lambda: select(con, pipeline.sql), file)
        if found:
            problems.append(found)
        elif "row_id" not in pipeline.sql.lower():
            problems.append(
                Problem(file, "", "the query must return row_id, once for each row of `rows` that it keeps")
            )
        else:
            problems += _unsteady(file, "", con, select(con, pipeline.sql))
        own = {f"evaluation.business.{name}": sql for name, sql in spec.evaluation.business.items()}
        for key, sql in {"target.sql": spec.target.sql, "target.group": spec.target.group, **own}.items():
            found = _sql_problem(partial(expression, con, sql), yaml, key) if sql else None
            if found:
                problems.append(found)
            elif clock := unrepeatable(con, f"SELECT {sql}") if sql else ():
                problems.append(Problem(yaml, key, f"{', '.join(clock)} would give another value each time"))
        for prefix, table in (
            ("source", spec.source),
            *((f"source.tables.{n}", t) for n, t in spec.source.tables.items()),
        ):
            for column, kind in table.columns.items():
                problem = type_problem(con, kind)
                if problem:
                    problems.append(Problem(yaml, f"{prefix}.columns.{column}", problem))
    return problems


def _unsteady(file: str, key: str, con: Any, sql: str) -> list[Problem]:
    """Say what in a query makes it answer otherwise another time."""
    return [
        Problem(
            file,
            key,
            f"{name} differs from run to run, so a night could not be rebuilt; take times from the rows (dt), and chance from hash(row_id)",
        )
        for name in unrepeatable(con, sql)
    ]


def _sql_problem(parse: Callable[[], str], file: str, key: str | None = None) -> Problem | None:
    import duckdb

    try:
        parse()
    except NotOneSelect as exc:
        return Problem(file, key or "", str(exc))
    except duckdb.Error as exc:
        line = line_of(exc)
        return Problem(file, key or (f"line {line}" if line else ""), said_of_sql(exc))
    return None
