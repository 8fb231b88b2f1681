"""Whole nights whose models are fitted on a Dask cluster of two real workers: searched, refitted, promoted, built again."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml

from integration.dask_clusters import Machines, machines
from ratchet.adapters.mlflow import MlflowRegistry
from samples.data import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
DAY = timedelta(days=1)
THERE = {"engine": "dask", "refit": True, "rounds": 60, "tuning": {"trials": 3, "parallel": 2, "every_days": 7}}


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two workers."""
    with machines(tmp_path_factory.mktemp("dask"), 2) as running:
        yield running


@pytest.fixture
def there(world: World, cluster: Machines) -> World:
    """The churn sample, with a model for its commonest plan; all fits are made on the cluster."""
    world.environment["RATCHET_DASK"] = cluster.address
    for key, data in SAMPLES["churn"](CUTOFF - timedelta(days=34), CUTOFF + DAY):
        world.store.put(key, data)
    file = world.home("churn") / "pipelines" / "churn.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["gates"] = [{"kind": "bound", "metric": "auc", "at_least": 0.5}]
    spec["training"] |= THERE
    spec["evaluation"]["baselines"] = ["average"]  # who is promoted is not what is tested here
    file.write_text(yaml.safe_dump({**spec, "segments": {"by": "plan", "min_rows": 800, "most": 1}}))
    return world


def test_nights_search_fit_and_are_built_again_on_a_cluster(there: World, cluster: Machines) -> None:
    """The first night searches, the second reuses what serves, the segment's model is fitted there too; other workers are named when one is built again."""
    address = there.environment.pop("RATCHET_DASK")
    status, _, errors = there.night("churn", CUTOFF)
    assert (status, "RATCHET_DASK" in errors, "Traceback" in errors) == (2, True, False), errors

    there.environment["RATCHET_DASK"] = address
    status, first, errors = there.night("churn", CUTOFF)
    assert (status, first["outcome"]) == (0, "promoted"), (errors, first["reasons"])
    assert (first["tuning"]["source"], first["tuning"]["searched"]) == ("search", True)
    client = MlflowRegistry(there.environment["MLFLOW_TRACKING_URI"], there.store.cache).client
    models = sorted(model.name for model in client.search_registered_models())
    assert (len(models), models[0], models[1].startswith("churn--")) == (2, "churn", True)
    for name in models:
        version = client.get_model_version(name, "1")
        told = client.get_run(version.run_id).data.params
        made_on = {key: value for key, value in told.items() if key.startswith("made_on.")}
        assert made_on.items() >= {"made_on.engine": "dask", "made_on.workers": "2", "made_on.threads": "1, 1"}.items()

    status, second, errors = there.night("churn", CUTOFF + DAY, "--set", "segments=null")
    assert (status, second["tuning"]["source"]) == (0, "champion"), errors
    assert second["tuning"]["params"] == first["tuning"]["params"]

    status, made, errors = there.ratchet("reproduce", "churn", "1")
    assert (status, made["identical"]) == (0, True), errors
    cluster.kill(cluster.workers[0])
    cluster.know(1)
    status, made, errors = there.ratchet("reproduce", "churn", "1")
    differing = {i["name"]: (i["then"], i["now"]) for i in made["ingredients"] if i["then"] != i["now"]}
    # Fewer workers may round the sums to the same bytes; that they are fewer is told in either case.
    assert status == (0 if made["identical"] else 1), errors
    assert (differing["fit: workers"], differing["fit: threads"]) == (("2", "1"), ("1, 1", "1"))
