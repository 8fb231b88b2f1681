"""What a difference of a day usually is, by which the evidence of a day is weighed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from ratchet.domain import layout
from ratchet.domain.losses import mean_loss
from ratchet.domain.night import EvaluateResult
from ratchet.steps.context import Context
from ratchet.steps.trial import usual_differences

if TYPE_CHECKING:
    from small_world import World


@pytest.mark.parametrize("told", [True, False])
def test_the_scale_of_a_loss_is_that_of_the_loss_and_not_of_the_metric(reigning: World, *, told: bool) -> None:
    """A metric that some rows without bound make large does not slow the proof down; a record of before, whose metric was the loss, is read as it was."""
    night = reigning.night()
    assert night.register_ is not None
    assert night.register_.version is not None
    key = layout.step("small", night.run_key or "", "evaluate.json", dry_run=False)
    found = EvaluateResult.model_validate_json(reigning.store.get(key))
    predictions = pq.read_table(io.BytesIO(reigning.store.get(found.predictions)))
    loss = mean_loss("log_loss", predictions["label"].to_numpy(), predictions["challenger"].to_numpy())
    if told:
        changed = found.model_copy(update={"challenger": {**found.challenger, "log_loss": 9.0}})
    else:
        before = found.case.model_copy(update={"baselines": {}, "must_beat": None})
        changed = found.model_copy(update={"case": before, "challenger": {**found.challenger, "log_loss": loss}})
    reigning.store.put(key, changed.model_dump_json().encode())
    ctx = Context(pipeline=reigning.pipeline(), night=night, services=reigning.services)
    usual = usual_differences(ctx, night.register_.version)
    assert usual["log_loss"] == pytest.approx(0.02 * loss)
