"""When a partition is complete: by its marker, its manifest, or because nothing has been written to it for a while."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from ratchet.domain.data_rules import ByManifest, ByQuiet, Completion
from ratchet.domain.records import Record
from ratchet.domain.snapshots import StoredObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMED = 3  # files of one partition in a message
_ODD = re.compile(r"[\x00-\x1f\x7f]")


class Landing(Record):
    """Where a partition lies, and what of it has landed."""

    folder: str  # address, ending in /
    day: date | None  # None where rows carry their own dates
    objects: tuple[StoredObject, ...] = ()  # those that would be read

    @property
    def newest(self) -> StoredObject | None:
        """The object that was written last, as far as the store says when."""
        known = [stored for stored in self.objects if stored.modified]
        return max(known, key=lambda stored: (_moment(stored), stored.uri)) if known else None

    def __str__(self) -> str:
        """Name the partition."""
        return f"partition {self.day} ({self.folder})" if self.day else f"partition {self.folder}"


class ManifestFile(BaseModel):
    """One file of a partition, as its writer has counted it."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # writers add to them what they like

    name: Annotated[str, Field(min_length=1)]  # below the partition's folder
    size: Annotated[StrictInt, Field(ge=0)]  # bytes
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None

    @field_validator("name")
    @classmethod
    def _below(cls, value: str) -> str:
        if value.startswith("/") or "://" in value or ".." in value.split("/") or _ODD.search(value):
            raise ValueError("expected a name below the manifest's own folder")
        return value


class Manifest(BaseModel):
    """What a partition consists of, as its writer says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    files: tuple[ManifestFile, ...]

    @field_validator("files")
    @classmethod
    def _of_one_mind(cls, value: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
        known: dict[str, ManifestFile] = {}
        for file in value:
            if known.setdefault(file.name, file) != file:
                raise ValueError(f"it names {file.name!r} twice, and not the same")
        return value


class Lacking(Record):
    """Why a partition cannot be read yet."""

    reason: Literal["incomplete", "missing_object", "corrupt", "unmatched"]
    landing: Landing
    words: str  # what was looked for and what was found

    def __str__(self) -> str:
        """Name the partition and what it lacks."""
        return f"{self.landing} {self.words}"


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: it is none; in words.
    """
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is no JSON ({str(exc)[:100]})") from None
    try:
        return Manifest.model_validate(found)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "the whole"
        raise ValueError(
            f'{place}: {wrong["msg"]}; expected {{"files": [{{"name": …, "size": …, "sha256": …}}]}}'
        ) from None


def beside(name: str, landing: Landing) -> str:
    """Return the address of a partition's marker or manifest; the name may hold the day, as a pattern does."""
    if landing.day:
        year, month, day = landing.day.isoformat().split("-")
        for part, digits in (("{date}", str(landing.day)), ("{yyyy}", year), ("{mm}", month), ("{dd}", day)):
            name = name.replace(part, digits)
    return f"{landing.folder}{name}"


def names_day(name: str) -> bool:
    """Say whether the name of a marker or manifest holds the day, so that each day has its own although they share a folder."""
    return "{date}" in name or all(part in name for part in ("{yyyy}", "{mm}", "{dd}"))


def lacking(
    rule: Completion,
    landing: Landing,
    there: Mapping[str, StoredObject],
    manifest: Manifest | str | None,
    now: datetime,
) -> Lacking | None:
    """Say what a partition lacks, or None: it is complete.

    Args:
        rule: how it shows that it is complete.
        landing: the partition.
        there: every object below the table's prefix, by address.
        manifest: what its manifest says, or what is wrong with it; None where it has none.
        now: only quiet time looks at it.
    """
    if isinstance(rule, ByQuiet):
        return _disquiet(rule, landing, now)
    if beside(rule.name, landing) not in there:
        kind = "manifest" if isinstance(rule, ByManifest) else "marker"
        name = beside(rule.name, landing).removeprefix(landing.folder)
        return Lacking(reason="incomplete", landing=landing, words=f"has no {kind} {name}; {_since(landing)}")
    if isinstance(rule, ByManifest):
        return _missing(beside(rule.name, landing), landing, there, manifest)
    return None


def named(landing: Landing, manifest: Manifest) -> dict[str, ManifestFile]:
    """Return what a manifest names, by address."""
    return {f"{landing.folder}{file.name}": file for file in manifest.files}


def _disquiet(rule: ByQuiet, landing: Landing, now: datetime) -> Lacking | None:
    if not landing.objects:
        return None
    newest = landing.newest
    if newest is None or any(stored.modified is None for stored in landing.objects):
        words = "cannot be told to be quiet, for the store does not say when its objects were written"
        return Lacking(reason="incomplete", landing=landing, words=words)
    if now - _moment(newest) >= timedelta(minutes=rule.minutes):
        return None
    words = f"is still being written: {_since(landing)}, and {rule.minutes:g} minutes of quiet are asked for"
    return Lacking(reason="incomplete", landing=landing, words=words)


def _missing(
    key: str, landing: Landing, there: Mapping[str, StoredObject], manifest: Manifest | str | None
) -> Lacking | None:
    if not isinstance(manifest, Manifest):
        words = f"has a manifest {key} that cannot be read: {manifest}"
        return Lacking(reason="corrupt", landing=landing, words=words)
    files = named(landing, manifest)
    wrong = [w for uri, file in files.items() if (w := _differs(uri, file, there.get(uri)))]
    if wrong:
        words = f"is not what its manifest {key} says: {_some(wrong)}"
        return Lacking(reason="missing_object", landing=landing, words=words)
    if landing.objects and not files:  # an empty list is what a writer leaves that has failed
        words = f"has a manifest {key} that names no file, and {len(landing.objects)} have landed; {_since(landing)}"
        return Lacking(reason="incomplete", landing=landing, words=words)
    read = {stored.uri for stored in landing.objects}
    unread = [uri for uri in files if uri not in read and not uri.rpartition("/")[2].startswith(("_", "."))]
    if unread:  # without them the partition would not be whole
        words = f"has files in its manifest {key} that would not be read, by their ending or their day: {_some(unread)}"
        return Lacking(reason="unmatched", landing=landing, words=words)
    return None


def _some(told: Sequence[str]) -> str:
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return f"{'; '.join(told[:_NAMED])}{more}"


def _differs(uri: str, file: ManifestFile, found: StoredObject | None) -> str | None:
    if found is None:
        return f"{uri} is not there"
    if found.size != file.size:
        return f"{uri} has {found.size:,} bytes, expected {file.size:,}"
    return None


def _since(landing: Landing) -> str:
    """Say since when it has been as it is."""
    newest = landing.newest
    if newest:
        return f"last written {newest.modified} ({newest.uri.removeprefix(landing.folder)})"
    return f"{len(landing.objects)} of its objects are there" if landing.objects else "nothing of it is there"


def _moment(stored: StoredObject) -> datetime:
    assert stored.modified
    return datetime.fromisoformat(stored.modified)
