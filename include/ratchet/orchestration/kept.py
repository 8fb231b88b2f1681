"""What promote decides by: the verdict and the answer as the tasks left them in the object store.

What tasks hand on by XCom can be edited in Airflow by whoever may edit the DAG. The platform's bucket is written by tasks only,
so no edited XCom, cleared task or task marked as done by hand can stand in for a verdict or for a person's answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratchet.domain import layout
from ratchet.domain.night import Night
from ratchet.domain.records import digest
from ratchet.domain.segments import SegmentPlan
from ratchet.errors import ObjectNotFound

if TYPE_CHECKING:
    from typing import Literal

    from ratchet.ports import ObjectStore

    Decision = Literal["gate", "approve"]


def keep(store: ObjectStore, context: Any, decision: Decision, night: Night) -> None:
    """Keep a decision of this run; a later attempt takes its place."""
    store.put(_key(context, decision, night), night.model_dump_json(indent=1).encode())


def kept(store: ObjectStore, context: Any, decision: Decision, night: Night) -> Night | None:
    """Return a decision of this run, if there is one; ``night`` names the run key."""
    try:
        return Night.model_validate_json(store.get(_key(context, decision, night)))
    except ObjectNotFound:
        return None


def keep_plan(store: ObjectStore, context: Any, night: Night, plan: SegmentPlan) -> None:
    """Keep which segments this run has; a later attempt takes its place."""
    store.put(_key(context, "segments", night), plan.model_dump_json(indent=1).encode())


def plan(store: ObjectStore, context: Any, night: Night) -> SegmentPlan | None:
    """Return which segments this run has, if they were listed."""
    try:
        return SegmentPlan.model_validate_json(store.get(_key(context, "segments", night)))
    except ObjectNotFound:
        return None


def decided(store: ObjectStore, context: Any, night: Night) -> Night | None:
    """Return the night as the gate judged it, with the answer where a person gave one to just this verdict."""
    judged, asked = kept(store, context, "gate", night), kept(store, context, "approve", night)
    if judged and asked and asked.approve and asked.gate == judged.gate:
        return judged.with_result("approve", asked.approve)
    return judged


def _key(context: Any, decision: Literal["gate", "approve", "segments"], night: Night) -> str:
    name = f"{decision}-{digest(context['dag_run'].run_id)[:16]}.json"
    return layout.step(night.request.pipeline, night.run_key or "", name, dry_run=night.request.dry_run)
