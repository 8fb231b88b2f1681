"""Whether the files of a table agree in their columns, and which partitions differ from the others.

The expected columns are those of most partitions, and a column's expected type is the one of most partitions. Whole numbers may
turn into fractions, and dates into timestamps: no value is lost or changes its meaning. A column without any value is of
every type.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_NUMBERS = {"FLOAT", "DOUBLE", "UBIGINT", "HUGEINT", "UHUGEINT"}
_TIMES = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
_SHOWN = 30  # columns that a message names


class FileColumns(NamedTuple):
    """One file's columns."""

    partition: str
    key: str
    columns: Mapping[str, str]  # column → type
    empty: Collection[str] = ()  # those without any value: whatever they are declared, they are of every type


class Deviation(Record):
    """One file that is not like the others in a column."""

    partition: str
    key: str
    column: str
    kind: Literal["missing", "type", "extra"]
    expected: str  # the type; empty where the column is extra
    found: str  # the type; empty where it is missing
    words: str  # what was expected and found


class Agreement(NamedTuple):
    """What the files of a table have in common."""

    columns: dict[
        str, str
    ]  # the expected ones and the types that hold their values, in the order of the first file that has each
    deviations: tuple[Deviation, ...]


def agreement(files: Sequence[FileColumns], ignore: Iterable[str] = ()) -> Agreement:
    """Compare the columns of files, apart from those that are ignored; names that differ in case only are the same.

    Of as many partitions with a column as without, the first decides.
    """
    ignored = {name.lower() for name in ignore}
    found = [{name.lower(): kind for name, kind in file.columns.items()} for file in files]
    names = {name.lower(): name for file in reversed(files) for name in file.columns if name.lower() not in ignored}
    order = dict.fromkeys(name.lower() for file in files for name in file.columns if name.lower() not in ignored)
    partitions = {file.partition for file in files}
    columns: dict[str, str] = {}
    deviations: list[Deviation] = []
    for name in order:
        pairs = list(zip(files, found, strict=True))
        have = [(file, kinds[name], name in {c.lower() for c in file.empty}) for file, kinds in pairs if name in kinds]
        count = len({file.partition for file, *_ in have})
        share = f"{count} of {len(partitions)} partitions"
        if 2 * count < len(partitions) or (2 * count == len(partitions) and name not in found[0]):
            example = next(file for file, kinds in pairs if name not in kinds)
            deviations += [_extra(file, names[name], kind, share, example) for file, kind, _ in have]
            continue
        columns[names[name]], misfits = _kind(have)
        expected = columns[names[name]]
        first = have[0][0]
        misfitting = {file.key for file, _ in misfits}
        example = next(file for file, *_ in have if file.key not in misfitting)
        deviations += [_type(file, names[name], expected, kind, example) for file, kind in misfits]
        deviations += [
            _missing(file, names[name], expected, share, first) for file, kinds in pairs if name not in kinds
        ]
    return Agreement(columns, tuple(deviations))


def remedy(table: str, found: Deviation) -> str:
    """Say what can be done about a deviation, beside landing the file again."""
    field = "source" if table == "rows" else f"source.tables.{table}"
    if found.kind == "extra":
        return f"If it may come and go, name it in {field}.ignore"
    if found.kind == "missing":
        return f"If nobody needs it, name it in {field}.ignore"
    if found.key.lower().endswith((".parquet", ".pq")):  # they carry their types
        return "Land the file again with that type"
    plain = re.fullmatch(r"[A-Za-z_]\w*", found.column, re.ASCII)
    name = found.column if plain else json.dumps(found.column, ensure_ascii=False)
    return f"Its type is told by each file's values unless the spec declares it, such as `{field}.columns: {{{name}: VARCHAR}}`"


def widest(kinds: Iterable[str]) -> str | None:
    """Return the type that holds the values of all ``kinds``."""
    found = set(kinds)
    if len(found) <= 1:
        return next(iter(found), None)
    if found <= _WHOLE:
        return "BIGINT"
    if all(kind in _WHOLE or kind in _NUMBERS or kind.startswith("DECIMAL") for kind in found):
        return "DOUBLE"
    return "TIMESTAMP" if found <= _TIMES else None


def _kind(found: Sequence[tuple[FileColumns, str, bool]]) -> tuple[str, list[tuple[FileColumns, str]]]:
    """Return the type that holds the values of most partitions, and the files whose values it does not hold."""
    if (kind := widest(kind for _, kind, _ in found)) is not None:
        return kind, []
    filled = [(file, kind) for file, kind, empty in found if not empty] or [(file, kind) for file, kind, _ in found]
    votes = Counter(kind for kind, _ in dict.fromkeys((kind, file.partition) for file, kind in filled))
    accepted: list[str] = []
    for kind, _ in votes.most_common():  # stable: of equally frequent ones, the first met
        if widest([*accepted, kind]) is not None:
            accepted.append(kind)
    expected = widest(accepted)
    assert expected
    return expected, [(file, kind) for file, kind, empty in found if not empty and kind not in accepted]


def _extra(file: FileColumns, name: str, kind: str, share: str, other: FileColumns) -> Deviation:
    words = f"{file.key} has a column {name} ({kind}), which only {share} have: {other.key} has it not"
    return Deviation(
        partition=file.partition, key=file.key, column=name, kind="extra", expected="", found=kind, words=words
    )


def _type(file: FileColumns, name: str, expected: str, found: str, other: FileColumns) -> Deviation:
    words = f"column {name} of {file.key}: expected {expected} as in {other.key}, found {found}"
    return Deviation(
        partition=file.partition, key=file.key, column=name, kind="type", expected=expected, found=found, words=words
    )


def _missing(file: FileColumns, name: str, expected: str, share: str, other: FileColumns) -> Deviation:
    has = ", ".join(list(file.columns)[:_SHOWN]) + (" …" if len(file.columns) > _SHOWN else "")
    words = f"{file.key} lacks column {name} ({expected}), which {share} have, such as {other.key}; it has {has}"
    return Deviation(
        partition=file.partition, key=file.key, column=name, kind="missing", expected=expected, found="", words=words
    )
