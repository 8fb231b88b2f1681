"""What a person can mend is tried anew; what went wrong beside the decision does not undo it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from small_world import NIGHT, QuickTrainer

from fakes import PlainReporter
from ratchet.domain.night import NightRequest
from ratchet.errors import ServiceError, SpecInvalid
from ratchet.ports import Tried
from ratchet.steps.champion import reconcile
from ratchet.steps.history import nights
from ratchet.steps.night import run_night

NEXT = NIGHT + timedelta(days=1)


class Grumpy(QuickTrainer):
    """A machine on which the smoke test does not come to an end."""

    def smoke(self, *_):
        """Say so."""
        return Tried(problem="the registered artifact gave no predictions within 300 s")


class Broken(PlainReporter):
    """A reporter that cannot."""

    def page(self, *_):
        """Fail."""
        raise ServiceError("disk", "writing the page")


def test_a_smoke_test_that_failed_is_made_again(world):
    """A night refused for its smoke test passes when it is run again where the artifact loads; it keeps its version."""
    refused = world.night(services=world.machine("cache", Grumpy()))
    assert refused.outcome == "refused"
    again = world.night()
    assert (again.outcome, again.run_key) == ("promoted", refused.run_key)
    assert [v.version for v in world.registry.versions("small")] == [refused.register_.version.version]


def test_a_champion_that_was_mended_is_compared_again(reigning):
    """A night that could not read the champion is judged anew once its artifact is whole."""
    run = reigning.entries[0].champion.mlflow_run_id
    reigning.registry.tamper(run)
    reigning.land(NEXT)
    assert reigning.night(NEXT).outcome == "undecided"
    reigning.registry.tamper(run)  # the same bit back
    assert reigning.night(NEXT).outcome != "undecided"


def test_bounds_alone_do_not_replace_a_champion_that_cannot_be_read(reigning):
    """Where no gate compares with the champion, one that cannot be loaded still holds the promotion."""
    reigning.gated({"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 1})
    reigning.registry.tamper(reigning.entries[0].champion.mlflow_run_id)
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    assert night.outcome == "undecided"
    assert any(reason.startswith("champion: ") for reason in night.reasons)
    assert len(reigning.entries) == 1


def test_a_page_that_cannot_be_written_undoes_no_promotion(world):
    """The ledger has the new champion, so the night says promoted; the error is told beside it."""
    services = world.machine("cache")
    object.__setattr__(services, "reporter", Broken())
    night, error = run_night(NightRequest(pipeline="small", cutoff=NIGHT), world.pipeline(), services)
    assert night.outcome == "promoted"
    assert isinstance(error, ServiceError)
    assert len(world.entries) == 1


def test_a_record_of_another_version_does_not_stand_in_the_way(reigning):
    """A night's record that cannot be read is left out of the history, and the next night is written."""
    reigning.store.put("nights/small/2024-03-05/odd.json", b'{"request": {"pipeline": "small"}, "mood": "blue"}')
    reigning.land(NEXT)
    assert reigning.night(NEXT).report
    assert [n.request.cutoff for n in nights(reigning.services, "small")] == [NEXT, NIGHT]


def test_a_slice_that_is_no_feature_is_refused_before_the_fit(world):
    """The message names the key and the features that there are."""
    with pytest.raises(
        SpecInvalid, match=r"evaluation\.slices\[0\]: 'region' is no feature of the query; there are: x, z, place"
    ):
        world.night(pipeline=world.pipeline(evaluation__slices=["region"]))
    assert not world.registry.runs


def test_an_overtaken_promoter_leaves_the_alias_with_the_newest(reigning):
    """Whoever sets the alias reads the ledger again, and follows what has come in between."""

    def overtaken(pipeline, alias, version):
        reigning.registry.set_alias = set_alias
        reigning.land(NEXT)
        assert reigning.night(NEXT).outcome == "promoted"
        set_alias(pipeline, alias, version)

    reigning.registry.set_alias("small", "champion", 99)
    set_alias, reigning.registry.set_alias = reigning.registry.set_alias, overtaken
    assert reconcile(reigning.services, "small")
    assert reigning.champion == reigning.entries[-1].champion.version == 2


def test_evidence_of_another_recipe_does_not_count(reigning):
    """Days that challengers of one recipe have won say nothing for a challenger of another."""
    gates = [
        {"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 1},
        {"kind": "evidence", "loss": "log_loss"},
    ]
    reigning.gated(*gates)
    for i in range(1, 4):
        reigning.land(NIGHT + timedelta(days=i))
        same = reigning.night(NIGHT + timedelta(days=i))
    reigning.land(NIGHT + timedelta(days=4))
    other = reigning.night(NIGHT + timedelta(days=4), pipeline=reigning.pipeline(training__seed=5))
    assert len(same.evaluate.case.trial.evidence["log_loss"]) == 2
    assert [e.challenger for e in other.evaluate.case.trial.evidence["log_loss"]] == [0]  # fitted for its own trial


def test_a_hidden_column_that_does_not_exist_is_refused(world):
    """A misspelt column of `unknown_at_prediction` would hide nothing, so the night says what was meant."""
    pipeline = world.pipeline(source__unknown_at_prediction=["y", "plaze"])
    with pytest.raises(SpecInvalid, match=r"unknown_at_prediction\[1\]: .*no column 'plaze'; did you mean 'place'"):
        world.night(pipeline=pipeline)


def test_a_parameter_that_xgboost_does_not_know_is_refused(world):
    """XGBoost only warns of a misspelt parameter; the night does not go on with another model than was asked for."""
    with pytest.raises(SpecInvalid, match=r'training\.params: XGBoost does not use "etaa"'):
        world.night(pipeline=world.pipeline(training__params={"etaa": 0.2}))


def test_a_night_rejected_after_validation_reads_the_mended_lake(world):
    """Only a snapshot that a model was trained on is kept for the night; what was rejected is looked at afresh."""
    strict = world.pipeline(validation__on_critical="reject")
    world.land(NIGHT, z=["text"] * 40)
    assert world.night(pipeline=strict).ended.reason == "schema"
    world.land(NIGHT)
    assert world.night(pipeline=strict).outcome == "promoted"
