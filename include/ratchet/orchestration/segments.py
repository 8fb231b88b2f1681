"""The segments of a night in Airflow: one task lists them, one mapped task runs the night of each, and one says what became of all.

They hang on the gate: what the night of all rows has rejected no segment learns from, and nobody waits for a person's approval.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ratchet.domain.segments import SegmentNight, chunked, name_of, visible
from ratchet.home import load_pipeline
from ratchet.orchestration import kept
from ratchet.orchestration.events import ANY_CHAMPION, champion_asset, news
from ratchet.orchestration.retries import can_pass, tried_before, was_cleared
from ratchet.orchestration.tasks import connected, handed_on, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline, PipelineSpec

LIST, EACH, END = "segments", "segment", "segments_end"
NIGHTS, TOLD = "nights", "told"  # under which the tasks hand on what they found
_SHOWN = 3  # values in the name of a mapped task

DOCS = {
    LIST: "Lists the segments of the night: each value of the column that `segments.by` names, with its rows. One of too few rows gets no model "
    "of its own; the global champion serves it.",
    EACH: "Runs the whole night of one segment, or of a few: score, train, evaluate, register, gate and promote under the segment's own name, on the "
    "snapshot, validation and features of the night of all rows. Red where that went wrong; it blocks no other segment.",
    END: "Says who serves each segment now, and keeps it. Red where a segment's night went wrong; its name stands in the run's note.",
}


class _OfSegments(BaseOperator):  # type: ignore[misc, unused-ignore]
    """What the three tasks share."""

    template_fields: Sequence[str] = ()
    ui_color = "#e3f1ea"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.params = ParamsDict()
        self.pipeline = pipeline

    def night(self, context: Any) -> tuple[Night, Pipeline]:
        """Return the night of all rows as the gate has judged it, and its pipeline.

        It is read from the object store: what tasks hand on by XCom can be edited, and segments are promoted by what stands in it.
        """
        found = handed_on(context, "gate")
        judged = kept.kept(connected().store, context, "gate", found) if found else None
        if judged is None or judged.gate is None:
            raise AirflowSkipException("the night of all rows has come to no verdict, so no segment has a night")
        return judged, load_pipeline(self.pipeline, overrides=judged.request.overrides)


class ListSegments(_OfSegments):
    """List the segments, shared out among so many mapped tasks as Airflow takes.

    The list lies in the object store; what is handed on by XCom are places in it, because thousands of values have none in a database.
    """

    def execute(self, context: Any) -> list[list[int]]:
        """Return for each mapped task where its segments begin and end among those that get a night of their own."""
        from ratchet.steps.context import Context  # noqa: PLC0415
        from ratchet.steps.segments import plan  # noqa: PLC0415

        night, pipeline = self.night(context)
        try:
            made = plan(Context(pipeline, night, connected(), self.log.info))
        except Exception as exc:
            if can_pass(exc):
                raise
            raise AirflowFailException(words(exc)) from exc
        kept.keep_plan(connected().store, context, night, made)
        asked = pipeline.spec.segments
        return chunked(len(made.fitted), conf.getint("core", "max_map_length"), asked.per_task if asked else 1)


class RunSegments(_OfSegments):
    """Run the night of a segment, or of a few, one after the other."""

    def __init__(self, *, pipeline: str, segments: Any = (), **kwargs: Any) -> None:
        kwargs.setdefault("execution_timeout", timedelta(hours=6))
        super().__init__(pipeline=pipeline, do_xcom_push=False, **kwargs)
        self.segments = segments

    def execute(self, context: Any) -> None:
        """Run them all, whatever becomes of each, and fail in the end where one went wrong."""
        from ratchet.steps.segments import run_segment  # noqa: PLC0415

        night, pipeline = self.night(context)
        services, nights, errors = connected(), [], []
        planned = kept.plan(services.store, context, night)
        if planned is None:
            raise AirflowFailException("the list of the segments of this night is gone; clear the task `segments`")
        mine = planned.fitted[slice(*self.segments)]
        names = [visible(segment.value) for segment in mine]
        context["segment"] = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
        for segment in mine:
            made, error = run_segment(
                night, pipeline, segment, services, lambda step, words: self.log.info("%s %s", step, words)
            )
            self.log.info("%s: %s %s", visible(segment.value), made.outcome.upper(), made.reason)
            nights.append(made)
            if error:
                self.log.error("the night of %s", visible(segment.value), exc_info=error)
                errors.append(error)
            self._announce(context, made)
        context["ti"].xcom_push(key=NIGHTS, value=[made.model_dump(mode="json") for made in nights])
        passing = next((error for error in errors if can_pass(error)), None)
        if passing:  # tried again; what is done already is found recorded
            raise passing
        wrong = [made for made in nights if made.outcome in {"failed", "rejected"}]
        if wrong:
            raise AirflowFailException(
                "; ".join(f"{visible(made.value)}: {made.outcome.upper()}, {made.reason}" for made in wrong)[:2000]
            )
        if all(made.outcome == "skipped" for made in nights):
            raise AirflowSkipException("; ".join(f"{visible(made.value)}: {made.reason}" for made in nights)[:2000])

    def _announce(self, context: Any, made: SegmentNight) -> None:
        """Tell the DAGs that wait for a new champion, as those of all rows are told: of a promotion, else of a rollback.

        What a failed attempt has done it could tell nobody; the next one tells it.
        """
        ti = context["ti"]
        if made.turned and (made.appended or tried_before(ti, self.retries)):
            serves, entry = made.turned, made.entry
        elif made.turned is None and made.back and not was_cleared(ti, self.retries):
            serves, entry = made.back, made.back_entry
        else:
            return
        own = name_of(self.pipeline, made.slug)
        context["outlet_events"][ANY_CHAMPION].add(champion_asset(own), extra=news(own, serves, entry))


class EndSegments(_OfSegments):
    """Say who serves each segment, whatever became of their nights; fail where one of these went wrong."""

    def execute(self, context: Any) -> None:
        """Keep what became of all segments, and leave it to the run's note."""
        from ratchet.steps.context import Context  # noqa: PLC0415
        from ratchet.steps.segments import conclude  # noqa: PLC0415

        ti = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        if states.get(LIST) != "success":  # what an earlier attempt has listed lies there still
            raise AirflowSkipException("the segments of this night were not listed")
        night, pipeline = self.night(context)
        planned = kept.plan(connected().store, context, night)
        if planned is None:
            raise AirflowSkipException("the segments of this night were not listed")
        nights = _flat(ti.xcom_pull(task_ids=EACH, key=NIGHTS))
        ctx = Context(pipeline, night, connected(), self.log.info)
        made = conclude(ctx, planned, nights)
        ti.xcom_push(key=TOLD, value=made.words)
        if made.failed:
            raise AirflowFailException(made.words[:2000])


def _flat(pulled: Any) -> list[SegmentNight]:
    """Return the nights of all mapped tasks; Airflow hands on that of a single one without a list around it."""
    found: list[SegmentNight] = []
    for item in pulled or ():
        for night in item if isinstance(item, list) else [item]:
            found += [SegmentNight.model_validate(night)] if night else []
    return found


def told(context: Any) -> str:
    """Return what the run's note says of the segments; nothing where there are none."""
    said = context["ti"].xcom_pull(task_ids=END, key=TOLD)
    return str(said) if said else ""


def segment_tasks(spec: PipelineSpec) -> tuple[BaseOperator, BaseOperator]:
    """Make the three tasks, and return the first and the last."""
    common = {"pipeline": spec.name}
    first = ListSegments(task_id=LIST, doc_md=DOCS[LIST], execution_timeout=timedelta(hours=1), **common)
    each = RunSegments.partial(
        task_id=EACH, doc_md=DOCS[EACH], map_index_template="{{ segment }}", outlets=[ANY_CHAMPION], **common
    ).expand(segments=first.output)
    last = EndSegments(
        task_id=END,
        doc_md=DOCS[END],
        execution_timeout=timedelta(minutes=15),
        trigger_rule="all_done",
        do_xcom_push=False,
        **common,
    )
    first >> each >> last
    return first, last
