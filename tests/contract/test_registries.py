"""One suite for every ``ports.Registry``: the one in memory and a real MLflow server."""

from __future__ import annotations

import contextlib
import json
import uuid
from datetime import date

import mlflow
import pytest

from fakes import MemoryRegistry
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.errors import ArtifactTampered, ObjectNotFound, ServiceError, ServiceRefused
from ratchet.ports import DatasetUsed

SCHEMA = ModelSchema(task="binary", features=(Feature(name="x", kind="number"),), classes=("0", "1"), best_iteration=3)
FILES = ModelFiles(booster=b"\x00booster\xff", features="SELECT row_id, x FROM rows -- ü", schema_=SCHEMA)


@pytest.fixture(params=("memory", "mlflow"))
def registry(request, tmp_path):
    """An empty registry in memory, or a view of the real server's."""
    if request.param == "memory":
        return MemoryRegistry(tmp_path / "models")
    stack = request.getfixturevalue("stack")
    return MlflowRegistry(stack.environment["MLFLOW_TRACKING_URI"], tmp_path / "cache")


@pytest.fixture
def pipeline():
    """A pipeline of the test's own."""
    return f"p{uuid.uuid4().hex[:12]}"


def facts(run_key: str = "key", day: int = 10) -> dict[str, str]:
    """Return what a version is registered with."""
    return {
        "run_key": run_key,
        "artifact_digest": FILES.digest,
        "seen_through": f"2024-01-{day - 3:02d}",
        "cutoff": f"2024-01-{day:02d}",
        "recipe": "recipe",
        "recipe_spec": "spec",
    }


def run_of(registry, pipeline, run_key="key") -> str:
    """Return a run with a model."""
    run_id = registry.start_run(pipeline, run_key, f"{pipeline} 2024-01-10", {"ratchet.cutoff": "2024-01-10"})
    registry.log_model(run_id, FILES)
    return run_id


def test_a_pipeline_begins_without_versions(registry, pipeline):
    """Nothing is registered, and no alias points anywhere."""
    assert list(registry.versions(pipeline)) == []
    assert registry.version_of(pipeline, "key") is None
    assert registry.alias(pipeline, "champion") is None


def test_a_version_carries_what_it_was_registered_with(registry, pipeline):
    """A version is known again by its run key, with its digest and dates."""
    run_id = run_of(registry, pipeline)
    made = registry.register(pipeline, facts(), run_id)
    assert (made.version, made.run_key, made.mlflow_run_id, made.artifact_digest) == (1, "key", run_id, FILES.digest)
    assert (made.cutoff, made.seen_through, made.recipe) == (date(2024, 1, 10), date(2024, 1, 7), "recipe")
    assert made.created
    assert registry.version_of(pipeline, "key") == made
    assert list(registry.versions(pipeline)) == [made]


def test_a_run_key_has_one_version(registry, pipeline):
    """Registering the same run again, or another run of the same key, gives the version that is there."""
    first = registry.register(pipeline, facts(), run_of(registry, pipeline))
    again = registry.register(pipeline, facts(), run_of(registry, pipeline))
    assert again == first
    assert list(registry.versions(pipeline)) == [first]


USED = DatasetUsed(
    name="rows",
    snapshot="ab" * 32,
    uri="s3://lake/rows/",
    rows=1234,
    objects=7,
    columns={"id": "BIGINT", 'odd " name': "DECIMAL(8,2)", "at": "TIMESTAMP WITH TIME ZONE", "tags": "VARCHAR[]"},
)


def test_a_run_says_what_it_has_learnt_from(registry, pipeline):
    """The server's own dataset records name the table, where it lies, its columns and rows, and the snapshot in full."""
    run_id = run_of(registry, pipeline)
    registry.log_inputs(run_id, [USED, USED.model_copy(update={"name": "side", "columns": {}})])
    if isinstance(registry, MemoryRegistry):
        assert [used.name for used in registry.runs[run_id].inputs] == ["rows", "side"]
        return
    found = {i.dataset.name: i for i in registry.client.get_run(run_id).inputs.dataset_inputs}
    assert set(found) == {"rows", "side"}
    rows = found["rows"].dataset
    assert (rows.digest, rows.source_type, json.loads(rows.source)) == (USED.snapshot[:36], "s3", {"uri": USED.uri})
    assert json.loads(rows.profile) == {"num_rows": 1234, "num_objects": 7}
    types = {column["name"]: column["type"] for column in json.loads(rows.schema)["mlflow_colspec"]}
    assert types == {"id": "long", 'odd " name': "double", "at": "datetime", "tags": "string"}
    tags = {tag.key: tag.value for tag in found["rows"].tags}
    assert tags == {"mlflow.data.context": "training", "ratchet.snapshot": USED.snapshot, "ratchet.source": USED.uri}
    source = mlflow.data.get_source(found["rows"])
    assert source.to_dict()["uri"] == USED.uri


def test_versions_come_newest_first(registry, pipeline):
    """Each registration makes the next number."""
    run_id = run_of(registry, pipeline)
    for n in range(1, 4):
        registry.register(pipeline, facts(f"key {n}", 10 + n), run_id)
    assert [v.version for v in registry.versions(pipeline)] == [3, 2, 1]
    assert registry.version_of(pipeline, "key 2").version == 2


def test_an_alias_names_one_version_and_moves(registry, pipeline):
    """Aliases are set, moved and independent of each other."""
    run_id = run_of(registry, pipeline)
    for n in (1, 2):
        registry.register(pipeline, facts(f"key {n}"), run_id)
    registry.set_alias(pipeline, "champion", 1)
    registry.set_alias(pipeline, "challenger", 2)
    assert (registry.alias(pipeline, "champion"), registry.alias(pipeline, "challenger")) == (1, 2)
    registry.set_alias(pipeline, "champion", 2)
    assert registry.alias(pipeline, "champion") == 2


def test_anchors_are_kept_by_number(registry, pipeline):
    """A pipeline begins without anchors, also where nothing was ever registered; each that is kept comes back."""
    assert registry.anchors(pipeline) == {}
    for seq in (1, 2, 12):
        registry.anchor(pipeline, seq, f"hash {seq}")
    assert registry.anchors(pipeline) == {1: "hash 1", 2: "hash 2", 12: "hash 12"}


def test_the_ledger_costs_the_registry_one_request(behind, mlflow_proxy, pipeline):
    """Anchors and alias are asked for with one request each, which writes nothing."""
    behind.anchor(pipeline, 1, "hash")
    mlflow_proxy.seen.clear()
    behind.anchors(pipeline)
    behind.alias(pipeline, "champion")
    assert [method for method, _ in mlflow_proxy.seen] == ["GET", "GET"]


def test_a_deleted_version_is_gone_with_its_aliases(registry, pipeline):
    """A withdrawn version is not listed, nothing points at it, and its number is not given again."""
    run_id = run_of(registry, pipeline)
    for n in (1, 2):
        registry.register(pipeline, facts(f"key {n}"), run_id)
    registry.set_alias(pipeline, "challenger", 2)
    registry.delete_version(pipeline, 2)
    assert [v.version for v in registry.versions(pipeline)] == [1]
    assert registry.alias(pipeline, "challenger") is None


def test_a_model_comes_back_byte_for_byte(registry, pipeline):
    """A run's model is downloaded by its digest, from the cache or afresh."""
    run_id = run_of(registry, pipeline)
    for fresh in (False, False, True):
        folder, files = registry.download(run_id, FILES.digest, fresh=fresh)
        assert files == FILES
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == FILES.files


def test_a_run_has_the_model_that_serves_and_the_one_that_was_judged(registry, pipeline):
    """Each comes back under its own name and digest, from the cache or afresh; one is not taken for the other."""
    run_id = run_of(registry, pipeline)
    judged = FILES.model_copy(update={"booster": b"another fit"})
    registry.log_model(run_id, judged, "evaluated")
    for fresh in (False, True):
        assert registry.download(run_id, judged.digest, fresh=fresh, name="evaluated")[1] == judged
        assert registry.download(run_id, FILES.digest, fresh=fresh)[1] == FILES
    with pytest.raises(ArtifactTampered):
        registry.download(run_id, judged.digest, fresh=True)


def test_another_digest_is_refused(registry, pipeline):
    """A model that is not the one that was recorded is not handed out, and does not stay in the cache."""
    run_id = run_of(registry, pipeline)
    for _ in range(2):
        with pytest.raises(ArtifactTampered, match="was not loaded"):
            registry.download(run_id, "0" * 64)
    assert registry.download(run_id, FILES.digest)[1] == FILES


def test_a_run_without_a_model_is_not_found(registry, pipeline):
    """A run that never logged a model, or was never there, gives none."""
    run_id = registry.start_run(pipeline, "key", "night", {})
    for missing in (run_id, uuid.uuid4().hex):
        with pytest.raises(ObjectNotFound):
            registry.download(missing, FILES.digest)


def test_a_run_is_logged_finished_and_discarded(registry, pipeline):
    """Everything that a night logs is accepted, also twice, and a run that lost a race can be taken back."""
    run_id = run_of(registry, pipeline)
    for _ in range(2):
        registry.log(
            run_id,
            params={"eta": "0.1"},
            metrics={"holdout.auc": 0.7},
            curves={"stop.logloss": [0.6, 0.5]},
            tags={"ratchet.verdict": "PASS"},
            files={"spec.json": b"{}"},
        )
    registry.finish(run_id)
    registry.discard(run_id)


def test_runs_lie_below_others_and_are_gone_on_with(registry, pipeline):
    """A search's run outlives its process: what was left running below it is marked, and it runs again until it is ended."""
    facts_ = {
        "ratchet.pipeline": pipeline,
        "ratchet.cutoff": "2024-01-10",
        "ratchet.snapshot": "s",
        "ratchet.dry_run": "false",
    }
    search = registry.start_run(pipeline, "study", "search", facts_)
    done, killed = (registry.start_run(pipeline, "study", f"trial {i}", facts_, search) for i in range(2))
    registry.log(done, params={"eta": "0.1"}, metrics={"log_loss": 0.5}, curves={"stop": [0.6, 0.5]})
    registry.finish(done)
    other = registry.start_run(pipeline, "another", "search", facts_)
    registry.resume_run(pipeline, "study", search)
    after = registry.start_run(pipeline, "study", "trial 1", facts_, search)
    running = {run.run_id for run in registry.tracked(pipeline) if run.running}
    assert running == {search, after, other}
    assert {run.run_id for run in registry.tracked(pipeline)} == {search, done, killed, after, other}
    for run_id in (after, search):
        registry.finish(run_id)
    assert {run.run_id for run in registry.tracked(pipeline) if run.running} == {other}


def test_run_that_is_gone_is_not_gone_on_with(registry, pipeline):
    """Whoever resumes it is told, and begins another."""
    registry.start_run(pipeline, "key", "search", {})
    with pytest.raises(ServiceRefused):
        registry.resume_run(pipeline, "study", uuid.uuid4().hex)


def test_addresses_lead_to_the_run_and_the_version(registry, pipeline):
    """A run and a version have addresses that name them."""
    run_id = run_of(registry, pipeline)
    assert run_id in registry.run_url(pipeline, run_id)
    assert registry.version_url(pipeline, 3).endswith("/3")


@pytest.fixture
def behind(mlflow_proxy, tmp_path):
    """MLflow as a client behind the proxy sees it."""
    return MlflowRegistry(mlflow_proxy.address, tmp_path / "behind")


def test_a_registration_whose_reply_was_lost_makes_one_version(behind, mlflow_proxy, pipeline):
    """MLflow commits, the reply is lost: whether the client tries again or the night does, one version has the run key."""
    run_id = run_of(behind, pipeline)
    mlflow_proxy.fault = lambda _, path, before: "drop" if "model-versions/create" in path and before == 0 else "pass"
    with contextlib.suppress(ServiceError):
        assert behind.register(pipeline, facts(), run_id).version == 1
    assert behind.version_of(pipeline, "key").version == 1
    assert [v.version for v in behind.versions(pipeline)] == [1]


def test_a_refusal_of_mlflow_is_told_and_not_retried(behind, mlflow_proxy, pipeline):
    """403 is an answer: no retry, and the words say what was being done."""
    mlflow_proxy.fault = lambda *_: 403
    with pytest.raises(ServiceError, match="MLflow: listing versions of") as caught:
        behind.versions(pipeline)
    assert not caught.value.retryable


def test_a_model_that_is_cut_off_is_not_taken(behind, mlflow_proxy, pipeline):
    """An artifact whose download breaks off is an error, not a model."""
    run_id = run_of(behind, pipeline)
    mlflow_proxy.fault = lambda _, path, __: "cut" if path.endswith("booster.ubj") else "pass"
    with pytest.raises((ServiceError, ArtifactTampered)):
        behind.download(run_id, FILES.digest)
    mlflow_proxy.fault = lambda *_: "pass"
    assert behind.download(run_id, FILES.digest)[1] == FILES


def test_the_registered_model_is_data_only(registry, pipeline, tmp_path):
    """What MLflow holds is our three files and a description of them: no pickle and no code."""
    if isinstance(registry, MemoryRegistry):
        pytest.skip("the registry in memory has no files of its own")
    run_id = run_of(registry, pipeline)
    folder = registry.client.download_artifacts(run_id, "model", str(tmp_path))
    names = {str(p.relative_to(folder)) for p in __import__("pathlib").Path(folder).rglob("*") if p.is_file()}
    assert {"MLmodel", "data/booster.ubj", "data/features.sql", "data/schema.json"} <= names
    assert not any(name.endswith((".pkl", ".py", ".pickle")) for name in names)


TAGS = {"ratchet.cutoff": "2024-01-10", "ratchet.snapshot": "digest", "ratchet.dry_run": "false"}


def test_runs_of_nights_are_tracked_and_can_be_erased(registry, pipeline):
    """A run is known by what its night was; erased, it is gone with its model, and a version of another stays."""
    made = [registry.start_run(pipeline, key, key, {**TAGS, "ratchet.pipeline": pipeline}) for key in ("old", "new")]
    for run_id in made:
        registry.log_model(run_id, FILES)
    registry.finish(made[0])
    tracked = {run.run_id: run for run in registry.tracked(pipeline)}
    assert set(tracked) == set(made)
    old, new = (tracked[run_id] for run_id in made)
    assert (old.run_key, old.cutoff, old.snapshot, old.dry_run, old.running) == (
        "old",
        date(2024, 1, 10),
        "digest",
        False,
        False,
    )
    assert new.running
    assert registry.erase(made[0]) is None
    assert [run.run_id for run in registry.tracked(pipeline)] == [made[1]]
    with pytest.raises(ServiceError):
        registry.download(made[0], FILES.digest, fresh=True)
    assert registry.download(made[1], FILES.digest, fresh=True)[1] == FILES


def test_all_aliases_are_listed(registry, pipeline):
    """A user's own alias is among them."""
    assert registry.aliases(pipeline) == {}
    made = registry.register(pipeline, facts(), run_of(registry, pipeline))
    registry.set_alias(pipeline, "champion", made.version)
    registry.set_alias(pipeline, "canary", made.version)
    assert registry.aliases(pipeline) == {"champion": made.version, "canary": made.version}
