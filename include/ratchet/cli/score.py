"""The command that scores raw rows of a file, each with the champion that serves its segment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import plain, print_json, say
from ratchet.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ratchet.serving import Scored

_SHOWN = 20  # models, in lines
_KINDS = (".parquet", ".csv")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    pipeline: Name,
    *,
    rows: Annotated[
        Path,
        typer.Option("--rows", help="Raw rows: .parquet or .csv, with `dt`, the day of each row.", metavar="FILE"),
    ],
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="A side table that the query reads: weather=weather.parquet", metavar="NAME=FILE"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write to this .parquet or .csv file; by default CSV on standard output.", metavar="FILE"
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Score raw rows with the champion; where there are segments, each row with the model that serves its segment.

    Each line has the row's place in the file, the prediction, and which model and version made it. Rows that the features query
    leaves out get none.
    """
    from ratchet.home import load_pipeline
    from ratchet.serving import Router

    if out is not None and out.suffix not in _KINDS:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(_KINDS)}")
    tables = tables_of(rows, table or [])
    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    router = Router(pipeline, services, segments=loaded.spec.segments is not None)
    scored = router.score(tables)
    if out is not None:
        _write(scored.table, out)
    elif not as_json:
        scored.table.to_csv(sys.stdout)
    if as_json:
        print_json(_json(pipeline, len(tables["rows"]), scored, out))
    elif out is not None:
        _tell(pipeline, len(tables["rows"]), scored, out)


def tables_of(rows: Path, others: list[str]) -> dict[str, pd.DataFrame]:
    """Read raw rows, and side tables that are given as NAME=FILE.

    Raises:
        UsageError: a file cannot be read, or a name comes twice.
    """
    found = {"rows": _read("--rows ", rows)}
    for given in others:
        name, between, file = given.partition("=")
        if not between or not name or name == "rows":
            raise UsageError(
                f"--table {given}: expected NAME=FILE, where NAME is a side table's, as the query calls it"
            )
        if name in found:
            raise UsageError(f"--table {given}: {name} was given before")
        found[name] = _read(f"--table {name}=", Path(file))
    return found


def _read(option: str, file: Path) -> pd.DataFrame:
    """Read a file as it is: texts of a CSV stay texts, and become what the query reads."""
    import pandas as pd
    import pyarrow as pa

    if file.suffix not in _KINDS:
        raise UsageError(f"{option}{file}: expected a file that ends in {' or '.join(_KINDS)}")
    if not file.is_file():
        raise UsageError(f"{option}{file}: there is no such file")
    try:
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
        return pd.read_parquet(file, dtype_backend="pyarrow")
    except (OSError, ValueError, pa.ArrowException) as exc:  # pandas' errors about a CSV are ValueErrors
        raise UsageError(f"{option}{file}: cannot be read: {str(exc).strip().partition(chr(10))[0][:300]}") from exc


def _write(table: pd.DataFrame, out: Path) -> None:
    """Write aside first: a file of that name is whole, or is the one that was there."""
    aside = out.with_name(f".{out.name}.part")
    try:
        table.to_csv(aside) if out.suffix == ".csv" else table.to_parquet(aside)
        aside.replace(out)
    except OSError as exc:
        raise UsageError(f"--out {out}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        aside.unlink(missing_ok=True)


def _counts(scored: Scored) -> list[tuple[str, int, int]]:
    """Return each model, its version and its rows, those of most rows first."""
    found = scored.by.groupby(["model", "version"], observed=True).size()
    counted = [(str(name), int(version), int(rows)) for (name, version), rows in found.items()]
    return sorted(counted, key=lambda item: (-item[2], item[0]))


def _json(pipeline: str, given: int, scored: Scored, out: Path | None) -> dict[str, Any]:
    told = {
        "pipeline": pipeline,
        "rows": given,
        "scored": len(scored.by),
        "models": [{"name": name, "version": version, "rows": rows} for name, version, rows in _counts(scored)],
        "out": str(out) if out else None,
    }
    if out is None:
        told["predictions"] = scored.table.reset_index().to_dict("records")
    return told


def _tell(pipeline: str, given: int, scored: Scored, out: Path) -> None:
    counts = _counts(scored)
    left = given - len(scored.by)
    without = f"; {left} rows the features query leaves out" if left else ""
    say(
        f"{plain(str(out))}: {len(scored.by)} of {given} rows, scored by {len(counts)} models of {plain(pipeline)}{without}"
    )
    for name, version, rows in counts[:_SHOWN]:
        say(f"  {plain(name)} version {version}: {rows} rows")
    if len(counts) > _SHOWN:
        say(f"  and {len(counts) - _SHOWN} models more")
