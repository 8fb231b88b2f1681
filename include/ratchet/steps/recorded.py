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
    ctx: Context,
    step: StepName,
    kind: type[R],
    make: Callable[[], R],
    *,
    undo: Callable[[R, R], None] | None = None,
    final: Callable[[R], bool] = lambda _: True,
) -> R:
    """Return the recorded result of a step, or make and record it.

    Args:
        ctx: whose run key is meant.
        step: whose result is meant.
        kind: the result's type.
        make: does the work.
        undo: takes back what ``make`` left behind, when another run of the same night was faster; it is given both results.
        final: whether the result may stand; one that tells of a fault that a person can mend is made anew the next time.
    """
    store, key = (
        ctx.services.store,
        layout.step(ctx.pipeline.name, ctx.run_key, f"{step}.json", dry_run=ctx.night.request.dry_run),
    )
    found = _read(ctx, key, kind)
    if found is not None:
        ctx.say("done before for this run key; its record is used")
        return found
    made = make()
    if final(made):
        try:
            store.create(key, made.model_dump_json(indent=1).encode())
        except AlreadyExists:
            pass
        else:
            return made
    found = _read(ctx, key, kind)
    if found is None:
        return made
    if undo:
        undo(made, found)
    return found


def _read(ctx: Context, key: str, kind: type[R]) -> R | None:
    try:
        return kind.model_validate_json(ctx.services.store.get(key))
    except ObjectNotFound:
        return None
