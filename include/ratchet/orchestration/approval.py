"""approve, where the spec asks for a person: Airflow's own human approval, told what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, DownstreamTasksSkipped
from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

from ratchet.domain.night import ApproveResult, Night
from ratchet.orchestration import kept
from ratchet.orchestration.approvers import users
from ratchet.orchestration.links import page
from ratchet.orchestration.retries import tried_before
from ratchet.orchestration.tasks import connected, hand_on, handed_on
from ratchet.spec import load_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratchet.domain.models import ModelVersion
    from ratchet.spec import Approval
    from ratchet.steps.context import Services


def form() -> dict[str, Param]:
    """Return what a person is asked for beside yes or no."""
    about = "It is kept in the night's record and, if the challenger is promoted, in the ledger."
    return {"reason": Param(None, type=["null", "string"], maxLength=1000, title="Reason", description=about)}


class PersonApproves(ApprovalOperator):  # type: ignore[misc, unused-ignore]
    """Ask a person, on the nights on which the spec wants one, whether the challenger may become champion; no answer in time means no."""

    template_fields: Sequence[str] = ()
    ui_color = "#fdeec9"

    def __init__(self, *, pipeline: str, approval: Approval, **kwargs: Any) -> None:
        allowed = users(approval.approvers, f"pipelines/{pipeline}.yaml")
        super().__init__(
            task_id="approve",
            subject=f"May the challenger become champion of {pipeline}?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=approval.timeout_hours),
            assigned_users=[{"id": user, "name": user} for user in allowed] or None,
            **kwargs,
        )
        self.pipeline = pipeline
        self.allowed = allowed

    def execute(self, context: Any) -> None:
        """Put the question, with what speaks for and against, where there is one; a dry run asks nobody.

        An attempt after a crash takes the answer that was given to the one before: nobody is asked twice for one verdict.
        """
        from ratchet.steps.approve import asks  # noqa: PLC0415

        services = connected()
        night = _judged(services, context)
        why = (
            ()
            if night.request.dry_run
            else asks(load_pipeline(self.pipeline, overrides=night.request.overrides), night)
        )
        if not why:
            said = "a dry run asks nobody" if night.request.dry_run else "tonight nothing asks for a person"
            hand_on(context, night.with_result("approve", ApproveResult(required=False, approved=True, reason=said)))
            self.log.info(said)
            return
        given = _given(context) if tried_before(context["ti"], self.retries) else None
        if given is not None:
            self.log.info("the answer had been given before this attempt")
            self._conclude(context, services, night.with_result("approve", self._result(given, why)))
            return
        until = datetime.now(UTC) + (self.response_timeout or timedelta())
        self.body = case(night, services, why, self.allowed, until)
        super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Record who said what; a no skips the promotion."""
        from ratchet.steps.approve import asks  # noqa: PLC0415

        answer = super(ApprovalOperator, self).execute_complete(context=context, event=event)
        services = connected()
        night = _judged(services, context)
        why = asks(load_pipeline(self.pipeline, overrides=night.request.overrides), night)
        self._conclude(context, services, night.with_result("approve", self._result(answer, why)))

    def _result(self, answer: dict[str, Any], why: tuple[str, ...]) -> ApproveResult:
        user = answer.get("responded_by_user") or {}
        who = str(user.get("id" if self.allowed else "name") or "")  # as the spec names them
        approved = list(answer["chosen_options"]) == [self.APPROVE]
        reason = str((answer.get("params_input") or {}).get("reason") or "").strip()
        if not who:
            approved, reason = False, "nobody answered in time"
        elif (
            self.allowed and str(user.get("id")) not in self.allowed
        ):  # Airflow lets everybody answer where all are admins
            approved, reason = False, f"{who} may not answer; the spec names {', '.join(self.allowed)}"
        said = reason or ("approved" if approved else "refused")
        return ApproveResult(required=True, approved=approved, why=why, who=who, reason=said)

    def _conclude(self, context: Any, services: Services, night: Night) -> None:
        kept.keep(services.store, context, "approve", night)
        hand_on(context, night)
        answer = night.approve
        assert answer
        self.log.info("approved=%s by %s: %s", answer.approved, answer.who or "nobody", answer.reason)
        if not answer.approved:
            raise DownstreamTasksSkipped(tasks=["promote"])


def _given(context: Any) -> dict[str, Any] | None:
    """Return the answer to an earlier attempt's question, if there is one."""
    try:
        found = get_hitl_detail_content_detail(context["ti"].id)
    except AirflowRuntimeError:  # no question was put yet
        return None
    if not found.response_received:
        return None
    user = found.responded_by_user
    return {
        "chosen_options": list(found.chosen_options or ()),
        "params_input": dict(found.params_input or {}),
        "responded_by_user": {"id": user.id, "name": user.name} if user else None,
    }


def _judged(services: Services, context: Any) -> Night:
    handed = handed_on(context, "gate")
    night = handed and kept.kept(services.store, context, "gate", handed)
    if not night:
        raise AirflowFailException("gate has handed nothing on; clear the whole run, and it starts afresh")
    return night


def case(night: Night, services: Services, why: Sequence[str], allowed: Sequence[str], until: datetime) -> str:
    """Say in Markdown what the person has to decide on."""
    from ratchet.steps.promote import overrides  # noqa: PLC0415

    gate, request = night.gate, night.request
    assert gate
    tonight = night.register_.version if night.register_ else None
    candidate = tonight if overrides(night) else gate.candidate
    champion = night.score.champion if night.score else None
    who = ", ".join(f"**{user}**" for user in allowed) or "whoever may act on this DAG"
    lines = [
        f"### {gate.verdict.outcome}: {_model(candidate)} instead of {_model(champion)}",
        f"Night of **{request.cutoff}**, started by {request.actor}"
        + (f": {request.reason}" if request.reason else ""),
        "",
        "**Why a person is asked**",
        "",
        *(f"- {sentence}" for sentence in why),
        "",
        "**What was checked**",
        "",
        *_table(("check", "outcome", "value", "limit", "found"), [_check(check) for check in gate.verdict.checks]),
        "",
        *_metrics(night),
        f"**Who and by when.** {who} may answer until **{until:%Y-%m-%d %H:%M} UTC**. No answer means no, and the champion stays.",
        "",
        " · ".join(f"[{name}]({url})" for name, url in _links(night, services, candidate)),
    ]
    return "\n".join(lines)


def _model(version: ModelVersion | None) -> str:
    return f"version {version.version} (cutoff {version.cutoff})" if version else "no champion yet"


def _check(check: Any) -> tuple[str, ...]:
    value, limit = ("" if x is None else f"{x:.5g}" for x in (check.value, check.limit))
    return check.name, f"**{check.outcome}**" if check.outcome != "PASS" else "PASS", value, limit, check.reason


def _metrics(night: Night) -> list[str]:
    """Compare both models on the hold-out."""
    found = night.evaluate
    if not found:
        return []
    champion = found.champion or {}
    rows = [
        (name, _number(value), _number(champion.get(name)))
        for name, value in found.challenger.items()
        if "[" not in name
    ]
    about = f"**On the hold-out** ({found.rows:,} rows; the champion on the {found.common_rows:,} that it has not seen)"
    return [about, "", *_table(("metric", "tonight's challenger", "champion"), rows), ""] if rows else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    shown = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {row} |" for row in shown)]


def _links(night: Night, services: Services, candidate: ModelVersion | None) -> list[tuple[str, str]]:
    name = night.request.pipeline
    found = [("Nights and champions", page(f"pipelines/{name}"))]
    if candidate:
        found += [
            (f"Version {candidate.version} in MLflow", services.registry.version_url(name, candidate.version)),
            ("Its MLflow run", services.registry.run_url(name, candidate.mlflow_run_id)),
        ]
    return found
