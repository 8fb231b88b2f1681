"""What a step has found for a run key is written once; whoever runs the step again reads it instead of doing it twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ratchet.domain import layout
from ratchet.errors import AlreadyExists, ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratchet.domain.night import StepName
    from ratchet.domain.records import Record
    from ratchet.steps.context import Context

    R = TypeVar("R", bound=Record)


def recorded(
    ctx: Context, step: StepName, kind: type[R], make: Callable[[], R], undo: Callable[[R, R], None] | None = None
) -> R:
    """Return the recorded result of a step, or make and record it.

    Args:
        ctx: whose run key is meant.
        step: whose result is meant.
        kind: the result's type.
        make: does the work.
        undo: takes back what ``make`` left behind, when another run of the same night was faster; it is given both results.
    """
    store, key = (
        ctx.services.store,
        layout.step(ctx.pipeline.name, ctx.run_key, f"{step}.json", dry_run=ctx.night.request.dry_run),
    )
    try:
        found = kind.model_validate_json(store.get(key))
    except ObjectNotFound:
        pass
    else:
        ctx.say("done before for this run key; its record is used")
        return found
    made = make()
    try:
        store.create(key, made.model_dump_json(indent=1).encode())
    except AlreadyExists:
        found = kind.model_validate_json(store.get(key))
        if undo:
            undo(made, found)
        return found
    return made
