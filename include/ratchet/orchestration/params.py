"""The trigger form: what a person may ask of a night, refused in words where it cannot be."""

from __future__ import annotations

import difflib
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from ratchet.domain.night import NightRequest
from ratchet.errors import UsageError
from ratchet.spec import PipelineSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratchet.spec import Pipeline

# What one night may change. Who answers for a model, what it learns from (SQL that runs on the worker!) and what lets it
# through are not among it: whoever may trigger a run need not be trusted with those.
OVERRIDABLE = frozenset({"window", "validation", "training", "league", "evaluation"})
_LETS_THROUGH = frozenset({"evaluation.baselines"})  # as gates do: what has to be beaten, whoever asks


class ParamUnknown(UsageError):
    """The run's configuration has a key that is no parameter."""

    def __init__(self, name: str, known: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        super().__init__(f"{name!r} is not a parameter of this DAG; {hint}Allowed: {', '.join(known)}")


class CutoffInvalid(UsageError):
    """The cutoff is no date."""

    def __init__(self, found: object) -> None:
        super().__init__(f"cutoff: {found!r} is not a date such as 2013-06-01")


class OverrideRefused(UsageError):
    """Who asked to promote an undecided challenger may not, or does not say why."""


def form() -> dict[str, Any]:
    """Return the parameters of every training DAG."""
    return {
        "cutoff": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Cutoff",
            description="The night's date: only what had landed for days up to it is read. Empty: the day before the run's interval "
            "ends, or before it was triggered.",
        ),
        "dry_run": Param(
            default=False, type="boolean", title="Dry run", description="Decide everything, change nothing."
        ),
        "repin": Param(
            default=False,
            type="boolean",
            title="Pin again",
            description="Take what lies in the object store now, although this night has pinned its snapshot already.",
        ),
        "reason": Param(
            None,  # an empty text would be told as an error by the form
            type=["null", "string"],
            maxLength=1000,
            title="Reason",
            description="Why this run; it is kept in the ledger.",
        ),
        "override": Param(
            default=False,
            type="boolean",
            title="Promote although undecided",
            description="Let tonight's challenger become champion although the evidence does not decide. Only for those whom the spec "
            "allows (override.allowed), and only with a reason. A FAIL stays a FAIL.",
        ),
        "overrides": Param({}, title="Spec values for this run", description=_OVERRIDES, **OVERRIDES),
    }


_OVERRIDES = (
    'Values of the spec for this run only, by dotted key, such as {"training.params.max_depth": 4}. They make another run key. '
    "Only window, validation, training, league and evaluation can be overridden; the gates, and the baselines to be beaten, cannot."
)


def _override_schema() -> dict[str, Any]:
    """Return the JSON Schema of the overrides: each dotted key of the spec with its type."""
    schema = PipelineSpec.model_json_schema()
    fixed: dict[str, Any] = {}
    open_ended: list[str] = []
    for key, value in _leaves(schema, schema["$defs"]):
        if value is None:
            open_ended.append(key)
        else:
            fixed[key] = value
    names = sorted([*fixed, *(f"{key}.[a-z_]+" for key in open_ended)])
    return {
        "type": "object",
        "properties": fixed,
        "propertyNames": {"pattern": f"^({'|'.join(names)})$".replace(".", "[.]")},
    }


def _leaves(
    schema: Mapping[str, Any], defs: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield every dotted key with the schema of its value; None stands for a mapping whose keys are the user's."""
    for name, field in schema.get("properties", {}).items():
        if not prefix and name not in OVERRIDABLE:
            continue
        key, found = f"{prefix}{name}", _resolve(field, defs)
        if key in _LETS_THROUGH:
            continue
        if "properties" in found:
            yield from _leaves(found, defs, f"{key}.")
        elif found.get("type") == "object":
            yield key, None
        else:
            yield key, _plain(found)


def _resolve(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in field:
        found: Mapping[str, Any] = defs[field["$ref"].rpartition("/")[2]]
        return found
    return field


def _plain(field: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what says which scalar is allowed; the whole is checked with the spec when the run starts."""
    kept = {
        k: field[k]
        for k in ("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern")
        if k in field
    }
    choices = [_plain(choice) for choice in field.get("anyOf", ())]
    return {**kept, "anyOf": choices} if choices and all(choices) else kept


# Made once: what a worker's parent process has imported, its tasks need not make again.
OVERRIDES = _override_schema()


def request(pipeline: str, params: Mapping[str, Any], conf: Mapping[str, Any] | None, run: Any) -> NightRequest:
    """Return what a run asks for.

    Args:
        pipeline: its name.
        params: the parameters, as Airflow has checked them.
        conf: what the run was triggered with; Airflow lets unknown keys pass.
        run: Airflow's DAG run.

    Raises:
        UsageError: in words for the person who triggered it.
    """
    known = sorted(form())
    for key in conf or {}:
        if key not in known:
            raise ParamUnknown(key, known)
    return NightRequest(
        pipeline=pipeline,
        cutoff=_cutoff(params.get("cutoff"), run),
        dry_run=bool(params["dry_run"]),
        repin=bool(params["repin"]),
        override=bool(params["override"]),
        reason=params["reason"] or "",
        actor=actor(run),
        overrides=dict(params["overrides"] or {}),
    )


def check_override(asked: NightRequest, pipeline: Pipeline) -> None:
    """Refuse at once what promote would refuse at the end of the night.

    Raises:
        OverrideRefused: who asked may not, or the reason is missing.
    """
    from ratchet.steps.promote import may_override  # noqa: PLC0415  only when a night begins

    why = may_override(pipeline, asked.actor, asked.reason) if asked.override else None
    if why:
        raise OverrideRefused(f"{why}. Trigger the run again in person with what is missing, or without the override")


def _cutoff(asked: str | None, run: Any) -> date:
    """Resolve the cutoff: what was asked for, else the last day of the run's interval, else the day before the run.

    The interval ends when the run begins, so a weekly schedule sees the whole week.
    """
    if asked:
        try:
            return date.fromisoformat(asked)
        except ValueError:
            raise CutoffInvalid(asked) from None
    before: date = ((run.data_interval_end or run.run_after) - timedelta(days=1)).date()
    return before


def actor(run: Any) -> str:
    """Return who asked for a run: a user, or what started it."""
    kind = str(getattr(run.run_type, "value", run.run_type))
    if kind == "manual" and run.triggering_user_name:
        return str(run.triggering_user_name)
    return f"{kind} ({run.triggering_user_name})" if run.triggering_user_name else kind
