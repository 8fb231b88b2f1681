"""What has landed of a table: its objects by partition, as their keys tell, before any of them is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from ratchet.domain.completion import Landing, names_day
from ratchet.domain.data_rules import ByQuiet
from ratchet.domain.source_rules import ByPath, Table
from ratchet.errors import DataRejected, Problem, SpecInvalid

if TYPE_CHECKING:
    from ratchet.domain.snapshots import StoredObject
    from ratchet.domain.windows import Span
    from ratchet.steps.context import Context

ENDINGS = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
}
# Control characters, line separators, and what turns the direction of writing: a terminal would show another key.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PARTS = {"{yyyy}": ("y", 4), "{mm}": ("m", 2), "{dd}": ("d", 2)}


@dataclass
class Listed:
    """One table of a night, as it lies in the store."""

    name: str  # as the features query calls it
    table: Table
    span: Span
    landings: list[Landing] = field(default_factory=list)  # by day and folder
    there: dict[str, StoredObject] = field(default_factory=dict)  # all below the prefix, where completion is asked for
    left_out: tuple[str, ...] = ()  # what is not read, and why
    matched: int = 0  # objects that the spec fits, of any day

    @property
    def field(self) -> str:
        """Where the table stands in the spec."""
        return "source" if self.name == "rows" else f"source.tables.{self.name}"


@dataclass
class _Found:
    """What is gathered while the keys are read."""

    landings: dict[tuple[str, date | None], list[StoredObject]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)  # objects of another ending
    undated: list[str] = field(default_factory=list)  # objects whose key does not fit the pattern
    matched: int = 0


def listed(ctx: Context, name: str, table: Table, span: Span) -> Listed:
    """List a table's objects by partition, as far as the key tells that they are wanted.

    Raises:
        DataRejected: ``bad_key``; ``unmatched`` when there are objects, and the spec fits none of them.
        SpecInvalid: the days share a folder, and with it one marker.
    """
    made, found = Listed(name, table, span), _Found()
    below = len(table.uri.removeprefix("s3://").partition("/")[2] if table.uri.startswith("s3://") else table.uri)
    for stored in ctx.services.store.list(table.uri, versions=True):
        key = stored.uri.removeprefix("s3://").partition("/")[2]
        if table.completion:
            made.there[stored.uri] = stored
        _sort(made, found, stored, key, below)
    made.matched = found.matched
    if not found.matched and (found.other or found.undated):
        raise DataRejected("unmatched", _unmatched(made, found))
    made.landings = [
        Landing(folder=folder, day=day, objects=tuple(objects))
        for (folder, day), objects in sorted(found.landings.items(), key=lambda item: (str(item[0][1]), item[0][0]))
    ]
    _refuse_shared(ctx, made)
    told = ((found.other, "of another ending"), (found.undated, "unmatched"))
    made.left_out = tuple(f"{len(keys)} {why}" for keys, why in told if keys)
    return made


def match(pattern: str, below: str) -> re.Match[str] | None:
    """Find the day in the part of a key below the prefix: where a name begins if it can be had there, else anywhere."""
    text = _regex(pattern)
    return re.search(f"(?<=/){text}", f"/{below}") or re.search(text, f"/{below}")


def _sort(made: Listed, found: _Found, stored: StoredObject, key: str, below: int) -> None:
    """Put one object where it belongs."""
    table, file = made.table, key.rpartition("/")[2]
    if _is_control(made, found, stored, key, below):
        return
    if file.lower().endswith(ENDINGS[table.format]) and not file.startswith(("_", ".")):
        _refuse_hostile(stored, key, below)
    if not file or file.startswith(("_", ".")) or any(_is_hidden(folder) for folder in key[below:].split("/")[:-1]):
        return  # folder markers, temporary files and what writers leave beside their data
    if not file.lower().endswith(ENDINGS[table.format]):
        found.other.append(stored.uri)
        return
    day, folder = None, stored.uri[: len(stored.uri) - len(file)]
    if isinstance(table.partition, ByPath):
        place = match(table.partition.pattern, key[below:])
        if not place:
            found.undated.append(stored.uri)
            return
        day, folder = _day(place, stored.uri), _folder(place, stored.uri, key[below:])
    found.matched += 1
    if day is None or day in made.span:
        found.landings.setdefault((folder, day), []).append(stored)


def _refuse_hostile(stored: StoredObject, key: str, below: int) -> None:
    """Refuse a key by which data could be shown as, or copied to, another place than it lies in.

    Raises:
        DataRejected: ``bad_key``.
    """
    if _UNSEEN.search(key) or {"", ".", ".."} & set(key[below:].split("/")):
        raise DataRejected(
            "bad_key",
            f"object {stored.uri!r} has a key with control characters, '//', '.' or '..'; rename or remove it",
        )


def _is_hidden(folder: str) -> bool:
    """Say whether writers work there, as Spark and Hive do: what lies in it lands again in its place, or is no data."""
    return folder.startswith(".") or (folder.startswith("_") and "=" not in folder)


def _is_control(made: Listed, found: _Found, stored: StoredObject, key: str, below: int) -> bool:
    """Say whether an object is a marker or manifest; it shows its partition even where nothing else has landed of it."""
    rule, file = made.table.completion, key.rpartition("/")[2]
    if rule is None or isinstance(rule, ByQuiet):
        return False
    folder, day = stored.uri[: len(stored.uri) - len(file)], None
    if names_day(rule.name):
        place = re.fullmatch(_regex(rule.name), file)
    elif file != rule.name:
        return False
    elif not isinstance(made.table.partition, ByPath):
        found.landings.setdefault((folder, None), [])
        return True
    else:
        place = match(made.table.partition.pattern, key[below:])
        folder = _folder(place, stored.uri, key[below:]) if place else folder
    if place:
        day = _day(place, stored.uri)
        if day in made.span:
            found.landings.setdefault((folder, day), [])
    return place is not None or file == rule.name


def _folder(place: re.Match[str], uri: str, below: str) -> str:
    """Return the folder that is a day's own, or, where the day stands in the file's name, the one that it shares."""
    end = place.end() - (len(place.string) - len(below))
    if not below[:end].endswith("/"):
        after = below.find("/", end)
        end = after + 1 if after >= 0 else below.rfind("/") + 1
    return uri[: len(uri) - len(below) + end]


def _refuse_shared(ctx: Context, made: Listed) -> None:
    """Refuse a marker that would speak for days that it was not written for."""
    rule = made.table.completion
    if rule is None or isinstance(rule, ByQuiet) or names_day(rule.name):
        return
    days: dict[str, date | None] = {}
    for landing in made.landings:
        if days.setdefault(landing.folder, landing.day) != landing.day:
            words = (
                f"{rule.name!r} would speak for several days at once, for {days[landing.folder]} and {landing.day} lie in one folder, "
                f"{landing.folder}; put the day into the name, such as {{date}}.{rule.name.strip('_.')}"
            )
            raise SpecInvalid([Problem(f"pipelines/{ctx.pipeline.name}.yaml", f"{made.field}.completion.name", words)])


def _unmatched(made: Listed, found: _Found) -> str:
    """Say that the spec fits no object of a table, and what to change."""
    table, where = made.table, made.field
    count = len(found.other) + len(found.undated)
    said = [
        f"none of the {count} objects under {table.uri} is read"
        if count > 1
        else f"{table.uri} has one object, which is not read"
    ]
    remedies = []
    if found.undated:
        assert isinstance(table.partition, ByPath)
        said.append(
            f"{len(found.undated)} without {where}.partition.pattern {table.partition.pattern!r} in the key below it, "
            f"such as {found.undated[0]!r}"
        )
        remedies.append(
            "write the pattern as the keys have it, or use {by: column, column: …} where only the rows are dated"
        )
    if found.other:
        said.append(
            f"{len(found.other)} not ending in {', '.join(ENDINGS[table.format])} ({where}.format: {table.format}), "
            f"such as {found.other[0]!r}"
        )
        remedies.append(f"set {where}.format to what the files are, or land them with such an ending")
    return "; ".join(said) + ". To mend it, " + "; ".join(remedies)


@cache
def _regex(pattern: str) -> str:
    """Return a pattern as a regular expression; a part that stands twice must be the same both times."""
    seen = set()
    text = ""
    for piece in re.split(r"(\{yyyy\}|\{mm\}|\{dd\})", pattern.replace("{date}", "{yyyy}-{mm}-{dd}")):
        if piece not in _PARTS:
            text += re.escape(piece)
            continue
        name, digits = _PARTS[piece]
        text += f"(?P={name})" if name in seen else f"(?P<{name}>[0-9]{{{digits}}})"
        seen.add(name)
    before = "(?<![0-9])" if pattern.startswith("{") else ""  # no day is cut out of a longer number
    after = "(?![0-9])" if pattern.endswith("}") else ""
    return f"{before}{text}{after}"


def _day(place: re.Match[str], uri: str) -> date:
    text = "{y}-{m}-{d}".format_map(place.groupdict())
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise DataRejected(
            "bad_key", f"object {uri!r} names the day {text}, which does not exist; rename or remove it"
        ) from exc
