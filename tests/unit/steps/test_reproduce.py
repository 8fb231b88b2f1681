"""A version is built again, byte for byte, from what was recorded of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from small_world import NIGHT

from ratchet.domain import layout
from ratchet.domain.models import ModelSchema
from ratchet.errors import ActionRefused, ArtifactTampered, DataRejected
from ratchet.steps.reproduce import reproduce

NEXT = NIGHT + timedelta(days=1)


def test_a_version_is_built_again_elsewhere(reigning):
    """With an empty cache, the bytes of an older version come out of its snapshot and recipe, and nothing is written."""
    reigning.land(NEXT)
    reigning.night(NEXT)
    before = dict(reigning.store.contents())
    found = reproduce(reigning.machine("with-an-empty-cache"), "small", 1)
    assert found.identical
    assert found.recorded == reigning.registry.versions("small")[-1].artifact_digest
    assert all(found.files.values())
    assert found.differing == ()
    assert dict(reigning.store.contents()) == before


def test_a_changed_spec_does_not_matter(reigning):
    """What is built follows the recipe on record, not the one that stands in the home by now."""
    reigning.land(NEXT)
    reigning.night(NEXT, pipeline=reigning.pipeline(training__params__eta=0.01))
    assert reproduce(reigning.machine("elsewhere"), "small", 1).identical


def test_a_file_of_another_form_is_named(reigning, monkeypatch):
    """Where this code writes a file otherwise, that file is named, though what it says is the same."""
    said = ModelSchema.model_dump_json
    monkeypatch.setattr(ModelSchema, "model_dump_json", lambda self, **how: said(self, **{**how, "indent": 2}))
    found = reproduce(reigning.services, "small", 1)
    assert not found.identical
    assert found.files == {"booster.ubj": True, "features.sql": True, "schema.json": False}


def test_a_schema_says_what_its_task_needs(reigning):
    """A field that came with other tasks is not written, so that versions from before it are built again byte for byte."""
    (run,) = (run for run in reigning.registry.runs.values() if run.model)
    assert {"quantiles", "group"}.isdisjoint(json.loads(run.model["schema.json"]))


def test_what_differs_is_named(reigning):
    """A night that was made by another library is not built again by chance without saying so."""
    (key,) = [k for k in reigning.store.keys(layout.nights("small")) if "dry" not in k]
    record = reigning.store.get(key).replace(b'"xgboost": "', b'"xgboost": "0.')
    reigning.store.put(key, record)
    (other,) = reproduce(reigning.services, "small", 1).differing
    assert other.name == "xgboost"
    assert other.then == f"0.{other.now}"


def test_another_cluster_is_named(reigning):
    """A version that was made on a cluster says on which, where it is built again on another or on none."""
    (key,) = [k for k in reigning.store.keys(layout.nights("small")) if "dry" not in k]
    record = json.loads(reigning.store.get(key))
    record["train"]["made_on"] = {"workers": "3"}
    reigning.store.put(key, json.dumps(record).encode())
    (other,) = reproduce(reigning.services, "small", 1).differing
    assert (other.name, other.then, other.now) == ("fit: workers", "3", "not said")


@pytest.mark.parametrize(
    ("prefix", "words"),
    [(layout.nights("small"), "no record of the night"), ("recipes/small/", "the recipe of version 1")],
)
def test_what_is_not_on_record_is_said(reigning, prefix, words):
    """Without the night's record or the recipe nothing is guessed."""
    for key in reigning.store.keys(prefix):
        reigning.store.lose(key)
    with pytest.raises(ActionRefused, match=words):
        reproduce(reigning.services, "small", 1)


def test_data_that_is_gone_is_said(reigning):
    """A pinned object that was deleted cannot be read from another version."""
    reigning.store.lose(reigning.uri(NIGHT))
    with pytest.raises(DataRejected, match="snapshot_gone"):
        reproduce(reigning.machine("where-nothing-is-cached"), "small", 1)


def test_a_tampered_artifact_is_not_compared(reigning):
    """The registered bytes are checked before anything is built."""
    reigning.registry.tamper(reigning.registry.versions("small")[0].mlflow_run_id)
    with pytest.raises(ArtifactTampered):
        reproduce(reigning.machine("elsewhere"), "small", 1)


def test_an_unknown_version_is_said(reigning):
    """A number that the registry does not know is refused in words."""
    with pytest.raises(ActionRefused, match="no version 7"):
        reproduce(reigning.services, "small", 7)
