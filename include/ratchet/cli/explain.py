"""The command that says why a model predicts what it does, and the one that shows its card."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import plain, print_json, say
from ratchet.errors import ActionRefused, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ratchet.domain.explanations import Explanation, RowExplanation
    from ratchet.domain.models import ModelFiles
    from ratchet.steps.context import Services
    from ratchet.steps.versions import Known

_SHOWN = 15  # features


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(explain)
    app.command()(card)


def explain(  # noqa: PLR0913  a command's options
    pipeline: Name,
    row_id: Annotated[
        int | None,
        typer.Argument(
            help="A row of the night that made the version, as its kept predictions name it.", metavar="[ROW_ID]"
        ),
    ] = None,
    *,
    row: Annotated[
        str | None,
        typer.Option(
            "--row",
            help="Raw values instead: JSON, or a .json or .csv file. Where the query reads side tables, JSON with `rows` and each of them.",
            metavar="JSON|FILE",
        ),
    ] = None,
    version: Annotated[int | None, typer.Option("--version", help="By default the champion.")] = None,
    cutoff: Annotated[
        datetime | None,
        typer.Option(
            "--cutoff",
            formats=["%Y-%m-%d"],
            help="The night whose rows ROW_ID counts; by default the one that made the version.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", help="The class or quantile to explain; by default the likeliest class, or the middle quantile."
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say what a model looks at, or with a row, why it is predicted as it is.

    The prediction is a base plus what each feature adds (SHAP values, by XGBoost); they add up, which is checked.
    """
    from ratchet.steps.explain_row import ASKED, explain_row, model, row_of_night
    from ratchet.steps.versions import known

    if row_id is not None and row is not None:
        raise UsageError("ROW_ID and --row: expected one of them")
    services = connect_for(pipeline, home)
    found = known(services, pipeline, version, ASKED)
    if row_id is None and row is None:
        _tell_model(services, pipeline, found, as_json=as_json)
        return
    files = model(services, found)
    if row is not None:
        table, words = raw_row(pipeline, files, row), "the row that was given"
    else:
        assert row_id is not None
        table, words = row_of_night(services, pipeline, found, files, row_id, cutoff.date() if cutoff else None)
    made = explain_row(services, pipeline, found, files, table, words, output)
    print_json(made.model_dump(mode="json")) if as_json else _tell_row(made, serves=found.serves)


def card(
    pipeline: Name,
    version: Annotated[
        int | None,
        typer.Argument(help="By default the champion; before there is one, the newest.", metavar="[VERSION]"),
    ] = None,
    *,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page to this file instead.", metavar="FILE")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the model card of a version: its data, metrics with intervals, slices, limits, verdict, and how to build it again.

    It is gathered anew from what is on record, so that it says who has served since.
    """
    from ratchet.domain.cards import markdown
    from ratchet.steps.card import card as made_of

    services = connect_for(pipeline, home)
    found = made_of(services, pipeline, version)
    if html is not None:
        html.write_bytes(services.reporter.card(found))
        if not as_json:
            say(f"{plain(str(html))}: the card of {plain(pipeline)} version {found.version}")
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif html is None:
        sys.stdout.write(markdown(found))


def raw_row(pipeline: str, files: ModelFiles, given: str) -> pa.Table:
    """Run a version's features query over raw values, as its logged model does.

    Raises:
        UsageError: they are neither JSON nor a file of rows.
        ActionRefused: they are not one row, or the query leaves it out.
        DataRejected: ``schema``, when a table or column is missing or cannot be read as its type.
    """
    import tempfile

    from ratchet.adapters.pyfunc import RawRowsModel
    from ratchet.steps.explain_row import ASKED

    tables = _tables(given)
    if "rows" not in tables:
        raise UsageError(f"--row: expected the table `rows` beside {', '.join(tables)}")
    if len(tables["rows"]) != 1:
        raise ActionRefused(ASKED, pipeline, f"--row: expected one row, found {len(tables['rows'])}")
    with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
        for name, data in files.files.items():
            (Path(folder) / name).write_bytes(data)
        table = RawRowsModel(Path(folder)).features(tables)
    if table.num_rows != 1:
        raise ActionRefused(
            ASKED, pipeline, "the features query leaves the given row out, so no prediction is made of it"
        )
    return table


def _tables(given: str) -> dict[str, pd.DataFrame]:
    """Read raw rows: of one table, or of several by name."""
    import pandas as pd

    text = given.strip()
    if not text.startswith(("{", "[")):
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"--row {text[:100]}: expected JSON, or a .json or .csv file; there is no such file")
        if path.suffix == ".csv":  # texts stay texts; the query's own types are what they are read as
            return {"rows": pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])}
        text = path.read_text(encoding="utf-8")
    try:
        read = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--row: not JSON: {exc}") from exc
    named = isinstance(read, dict) and read and all(isinstance(v, dict | list) for v in read.values())
    tables = read if named else {"rows": read}
    return {name: _frame(name, rows) for name, rows in tables.items()}


def _frame(name: str, rows: Any) -> pd.DataFrame:
    import pandas as pd

    listed = rows if isinstance(rows, list) else [rows]
    if not listed or not all(isinstance(r, dict) and r for r in listed):
        raise UsageError(f"--row: table {name}: expected an object of column and value, or a list of such")
    return pd.DataFrame(listed)


def _tell_row(found: RowExplanation, *, serves: bool) -> None:
    who = f"[bold]{plain(found.pipeline)}[/bold] version {found.version}{' (champion)' if serves else ''}"
    what = f" of {plain(found.output)}" if found.output else ""
    came = f"; the label is {plain(found.label)}" if found.label is not None else ""
    say(f"{who}, {plain(found.row)}")
    say(f"predicted{what}: [bold]{found.prediction:.6g}[/bold]{came}")
    nothing = "" if found.base_prediction is None else f"a row of which nothing is known: {found.base_prediction:.4g}"
    wide = max(len(part.name) for part in found.parts[:_SHOWN]) + 2
    shown, rest = found.parts[:_SHOWN], found.parts[_SHOWN:]
    values = max(len(_cut(part.value)) for part in shown) + 2
    say(f"  {'base':<{wide + values}} {_signed(found.base)}  [dim]{nothing}[/dim]")
    for part in shown:
        words = [f"odds × {exp(part.contribution):.2f}"] if found.task == "binary" else []
        words += [part.note] if part.note else []
        colour = "red" if part.contribution < 0 else "green"
        name, value = plain(part.name), plain(_cut(part.value))
        say(
            f"  {name:<{wide}}{value:<{values}} [{colour}]{_signed(part.contribution)}[/{colour}]  [dim]{plain('; '.join(words))}[/dim]"
        )
    if rest:
        say(f"  {f'{len(rest)} smaller':<{wide + values}} {_signed(sum(part.contribution for part in rest))}")
    say(
        f"  {'sum':<{wide + values}} {_signed(found.margin)}  [dim]{plain(found.scale)}, which is {found.prediction:.6g}[/dim]"
    )
    if len(found.predictions) > 1:
        others = ", ".join(f"{plain(name)} {value:.4g}" for name, value in found.predictions.items())
        say(f"[dim]all outputs: {others}[/dim]")


def _cut(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"  # noqa: PLR2004  a column of the terminal


def _signed(value: float) -> str:
    return f"{value:>+12.5g}"


def _tell_model(services: Services, pipeline: str, known: Known, *, as_json: bool) -> None:
    from ratchet.steps.explain_row import recorded_explanation

    found = recorded_explanation(services, pipeline, known)
    if as_json:
        number = known.version.version
        print_json({"pipeline": pipeline, "version": number, **found.model_dump(mode="json")})
        return
    say(f"[bold]{plain(pipeline)}[/bold] version {known.version.version}{' (champion)' if known.serves else ''}")
    if found.problem:
        say(plain(found.problem))
    else:
        _tell_features(found)


def _tell_features(found: Explanation) -> None:
    wide = max(len(f.name) for f in found.features[:_SHOWN]) + 2
    say(f"[dim]{'':<{wide}} share   mean |contribution| and its 95 % interval over days, in {plain(found.scale)}[/dim]")
    for f in found.features[:_SHOWN]:
        between = "" if f.low is None or f.high is None else f" ({f.low:.4g} to {f.high:.4g})"
        before = "" if f.champion is None else f"  [dim]champion {f.champion:.1%}[/dim]"
        say(f"{plain(f.name):<{wide}} {f.share:6.1%}  {f.mean:.4g}{between}{before}")
    more = len(found.features) - _SHOWN + found.left_out
    if more > 0:
        say(f"[dim]and {more} smaller[/dim]")
    say(f"[dim]{found.rows} of {found.of} rows of the hold-out, {found.days} days[/dim]")
    if found.drift:
        far = "" if found.drift.low is None else f" ({found.drift.low:.1%} to {found.drift.high:.1%})"
        say(f"against champion v{found.drift.version}: {found.drift.distance:.1%} of the importance has moved{far}")
        if found.drift.warning:
            say(f"[yellow]{plain(found.drift.warning)}[/yellow]")
