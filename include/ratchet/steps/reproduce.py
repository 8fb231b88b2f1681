"""Reproduce: build a registered version again from its snapshot, its recipe and this code, and compare the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet import provenance
from ratchet.domain import layout
from ratchet.domain.night import MadeBy, Night
from ratchet.domain.records import Record
from ratchet.errors import ActionRefused, ObjectNotFound
from ratchet.spec import Pipeline
from ratchet.steps import frames, history
from ratchet.steps.context import Context, silent
from ratchet.steps.train import fitted, refitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratchet.domain.models import ModelFiles, ModelVersion
    from ratchet.ports import Fit
    from ratchet.steps.context import Services


class Ingredient(Record):
    """Something that a version is made of, as it was then and as it is now."""

    name: str
    then: str
    now: str

    @property
    def same(self) -> bool:
        """Whether nothing has changed."""
        return self.then == self.now


class Reproduced(Record):
    """What came of building a version again."""

    pipeline: str
    version: int
    cutoff: str
    recorded: str  # digest of the registered artifact
    built: str  # digest of what was built now
    files: dict[str, bool]  # which of the artifact's files came out the same
    ingredients: tuple[Ingredient, ...]

    @property
    def identical(self) -> bool:
        """Whether every byte is the same."""
        return self.recorded == self.built

    @property
    def differing(self) -> tuple[Ingredient, ...]:
        """The ingredients that have changed."""
        return tuple(i for i in self.ingredients if not i.same)


def reproduce(services: Services, name: str, number: int, say: Callable[[str], None] = silent) -> Reproduced:
    """Build a version again from what was recorded of it. Nothing is registered, logged or stored.

    Raises:
        ActionRefused: there is no such version, or what it was made from is not on record any more.
        DataRejected: ``snapshot_gone`` or ``changed``: its data cannot be had any more.
        ArtifactTampered: the registered artifact, or the manifest of its snapshot, is not what was recorded.
    """
    version = next((v for v in services.registry.versions(name) if v.version == number), None)
    if version is None:
        raise ActionRefused("reproduction", name, f"the registry has no version {number}")
    night, pipeline = _night(services, name, version), _recipe(services, name, version)
    folder, _ = services.registry.download(version.mlflow_run_id, version.artifact_digest)
    ctx = Context(pipeline=pipeline, night=night, services=services, say=say)
    frame = frames.feature_frame(ctx, pipeline.sql)
    # There were rows enough that night, by a bound of then: of segments it is no part of the recipe.
    made = refitted(ctx, frame, ctx.windows, fitted(ctx, frame, ctx.windows, least=0))
    built = made.files
    return Reproduced(
        pipeline=name,
        version=number,
        cutoff=str(version.cutoff),
        recorded=version.artifact_digest,
        built=built.digest,
        files=_same(folder, built),
        ingredients=(*_ingredients(night), *_engine(night, made)),
    )


def _night(services: Services, name: str, version: ModelVersion) -> Night:
    found = history.night_of(services, name, version.run_key)
    if found is None or found.snapshot is None or found.validate_ is None:
        why = f"no record of the night that made version {version.version} (run key {version.run_key[:12]}) is left"
        raise ActionRefused("reproduction", name, f"{why}; `retention` says how long records are kept")
    return found


def _recipe(services: Services, name: str, version: ModelVersion) -> Pipeline:
    try:
        return Pipeline.model_validate_json(services.store.get(layout.recipe(name, version.recipe_spec)))
    except ObjectNotFound as exc:
        why = f"the recipe of version {version.version} ({version.recipe_spec[:12]}) is not on record any more"
        raise ActionRefused("reproduction", name, why) from exc


def _same(recorded: Path, built: ModelFiles) -> dict[str, bool]:
    """Compare with the files as they are stored: read and written anew, they might come out as this code writes them."""
    return {name: (recorded / name).read_bytes() == data for name, data in built.files.items()}


def _ingredients(night: Night) -> Iterator[Ingredient]:
    """Compare with what the night was made by; snapshot and recipe are the recorded ones, so they cannot differ."""
    then, now = night.made_by, MadeBy(**provenance.commit(), machine=provenance.machine())
    yield Ingredient(name="code that decides", then=night.code_digest[:12], now=provenance.code_digest()[:12])
    if then.machine:
        yield Ingredient(name="machine", then=then.machine, now=now.machine)
    if then.commit:
        yield Ingredient(name="commit", then=_commit(then), now=_commit(now))
    installed = provenance.libraries()
    for library, was in then.libraries.items():
        yield Ingredient(name=library, then=was, now=installed.get(library, "not installed"))


def _engine(night: Night, made: Fit) -> Iterator[Ingredient]:
    """Compare the clusters, where the fit was made on one: sums are rounded by how many workers share the rows."""
    then = night.train.made_on if night.train else {}
    for name in sorted({*then, *made.made_on}):
        yield Ingredient(name=f"fit: {name}", then=then.get(name, "not said"), now=made.made_on.get(name, "not said"))


def _commit(made_by: MadeBy) -> str:
    return f"{made_by.commit[:12] or 'unknown'}{' with changes that were not committed' if made_by.dirty else ''}"
