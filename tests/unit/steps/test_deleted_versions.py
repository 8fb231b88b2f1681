"""A version that somebody deleted from the registry is promoted by nobody, and one that serves does not stop the nights."""

from __future__ import annotations

from datetime import timedelta

import pytest
from small_world import NIGHT

from ratchet.errors import ActionRefused, ServiceRefused
from ratchet.steps.champion import reconcile
from ratchet.steps.rollback import roll_back

NEXT = NIGHT + timedelta(days=1)


@pytest.fixture
def strict(reigning, monkeypatch):
    """A world whose registry points no alias at a version that there is not, as MLflow does."""
    set_alias = reigning.registry.set_alias

    def checked(pipeline, alias, version):
        if version not in {v.version for v in reigning.registry.versions(pipeline)}:
            raise ServiceRefused("MLflow", f"pointing alias {alias} at version {version}", "there is no such version")
        set_alias(pipeline, alias, version)

    monkeypatch.setattr(reigning.registry, "set_alias", checked)
    reigning.land(NEXT)
    return reigning


def test_a_version_that_was_deleted_since_it_was_judged_is_not_promoted(strict):
    """The ledger must not name who cannot be found; the night says so."""
    night = strict.until("promote", NEXT)
    strict.registry.delete_version("small", night.register_.version.version)
    done = strict.step("promote", night)
    assert (done.outcome, done.promote.entry) == ("refused", None)
    assert done.promote.detail.startswith("withdrawn: version 2 was deleted from the registry")
    assert (len(strict.entries), strict.champion) == (1, 1)


def test_nobody_goes_back_to_a_version_that_was_deleted(strict):
    """The rollback is refused before anything is written."""
    strict.night(NEXT)
    strict.registry.delete_version("small", 1)
    with pytest.raises(ActionRefused, match="version 1 was deleted from the registry"):
        roll_back(strict.services, strict.pipeline(), to=None, actor="ada", reason="it predicts nonsense")
    assert (len(strict.entries), strict.champion) == (2, 2)


def test_nobody_goes_back_to_another_model_of_the_same_number(strict):
    """A registry that was made anew counts from one again."""
    strict.night(NEXT)
    versions = strict.registry._versions["small"]
    versions[1] = versions[1].model_copy(update={"mlflow_run_id": "run-of-somebody-else"})
    with pytest.raises(ActionRefused, match="version 1 is another model in the registry now"):
        roll_back(strict.services, strict.pipeline(), to=None, actor="ada", reason="it predicts nonsense")
    assert (len(strict.entries), strict.champion) == (2, 2)


def test_a_champion_that_was_deleted_is_told_and_replaced(strict):
    """Without a version there is no alias; the nights go on, and the next promotion sets it."""
    strict.registry.delete_version("small", 1)
    assert "version 1, which serves by the ledger (entry 1), was deleted" in reconcile(strict.services, "small").words
    night = strict.night(NEXT)
    assert night.outcome == "promoted"
    assert strict.champion == strict.entries[-1].champion.version == 2
