"""The night in order: begin it, run one step, or run them all in one process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain.night import STEPS, Ended, MadeBy, Night, NightRequest, StepName
from ratchet.domain.records import digest
from ratchet.errors import DataRejected, NightSkipped
from ratchet.provenance import code_digest, commit, libraries, machine
from ratchet.steps.approve import approve
from ratchet.steps.context import Context, Services, silent
from ratchet.steps.evaluate import evaluate
from ratchet.steps.gate import gate
from ratchet.steps.promote import overrides, promote
from ratchet.steps.register import register
from ratchet.steps.report import report
from ratchet.steps.score import score
from ratchet.steps.snapshot import snapshot
from ratchet.steps.train import train
from ratchet.steps.tune import tune
from ratchet.steps.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratchet.domain.records import Record
    from ratchet.spec import Pipeline

_RUN: dict[StepName, Callable[[Context], Record]] = {
    "snapshot": snapshot,
    "validate": validate,
    "score": score,
    "tune": tune,
    "train": train,
    "evaluate": evaluate,
    "register": register,
    "gate": gate,
    "approve": approve,
    "promote": promote,
    "report": report,
}


def begin(request: NightRequest, pipeline: Pipeline) -> Night:
    """Start a night's record."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Night(
        request=request,
        started=started,
        spec_digest=pipeline.digest,
        recipe_spec=pipeline.recipe,
        code_digest=code_digest(),
        made_by=MadeBy(**commit(), machine=machine(), libraries=libraries()),
    )


def run_key(night: Night, snapshot_digest: str) -> str:
    """Return the identity of a run."""
    request = night.request
    return digest([request.pipeline, str(request.cutoff), snapshot_digest, night.spec_digest, night.code_digest])


def run_step(
    step: StepName, night: Night, pipeline: Pipeline, services: Services, say: Callable[[str], None] = silent
) -> Night:
    """Run one step and return the night with its result, or with how it ended.

    Raises:
        RatchetError: something failed that is neither the data's nor the night's end; ``retryable`` says whether to try again.
    """
    started = time.monotonic()
    try:
        result = _RUN[step](Context(pipeline=tuned(night, pipeline), night=night, services=services, say=say))
    except DataRejected as exc:
        night = night.model_copy(
            update={"ended": Ended(outcome="rejected", step=step, reason=exc.reason, detail=exc.detail)}
        )
    except NightSkipped as exc:
        night = night.model_copy(
            update={"ended": Ended(outcome="skipped", step=step, reason=exc.reason, detail=exc.detail)}
        )
    else:
        night = night.with_result(step, result)
    if step == "snapshot" and night.snapshot:
        night = night.model_copy(update={"run_key": run_key(night, night.snapshot.digest)})
    if step == "tune" and night.tune:
        night = night.model_copy(update={"recipe_spec": tuned(night, pipeline).recipe})
    return night.model_copy(update={"seconds": {**night.seconds, step: round(time.monotonic() - started, 3)}})


def tuned(night: Night, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline as the steps after tune see it: with the parameters that it chose."""
    return pipeline.with_params(night.tune.params) if night.tune else pipeline


def failed(night: Night, step: StepName, error: BaseException) -> Night:
    """Return the night, ended by an unexpected failure."""
    return night.model_copy(
        update={"ended": Ended(outcome="failed", step=step, reason=type(error).__name__, detail=str(error)[:2000])}
    )


def run_night(
    request: NightRequest, pipeline: Pipeline, services: Services, watch: Callable[[StepName, str], None] | None = None
) -> tuple[Night, BaseException | None]:
    """Run the whole night in this process; the report is written however it ends.

    Returns:
        The night, and the error that ended it where one did that was not foreseen.
    """
    return go_on(begin(request, pipeline), pipeline, services, watch)


def go_on(
    night: Night, pipeline: Pipeline, services: Services, watch: Callable[[StepName, str], None] | None = None
) -> tuple[Night, BaseException | None]:
    """Run what is left of a night in this process; the report is written however it ends. Returns what ``run_night`` does."""
    error: BaseException | None = None

    def say_of(step: StepName) -> Callable[[str], None]:
        return (lambda message: watch(step, message)) if watch else silent

    for step in STEPS:
        if night.result(step) is not None:
            continue
        if step != "report" and (night.ended or (step in {"approve", "promote"} and not goes_on(night))):
            continue
        if watch:
            watch(step, "")
        try:
            night = run_step(step, night, pipeline, services, say_of(step))
        except Exception as exc:  # noqa: BLE001  the report is written whatever went wrong; the caller shows the error
            error = error or exc
            if step != "report":  # a page that could not be written undoes nothing
                night = failed(night, step, exc)
    return night, error


def goes_on(night: Night) -> bool:
    """Say whether a judged night goes on to approve and promote: it passed, or somebody asks to override an UNDECIDED."""
    return night.gate is not None and (night.gate.verdict.outcome == "PASS" or overrides(night))
