"""approve, where the spec asks for a person: Airflow's own human approval, told what it is about."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from ratchet.domain.night import ApproveResult, Night
from ratchet.orchestration.tasks import hand_on, handed_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.spec import Approval


def form() -> dict[str, Param]:
    """Return what a person is asked for beside yes or no."""
    about = "It is kept in the record of the night."
    return {"reason": Param("", type="string", maxLength=1000, title="Reason", description=about)}


class PersonApproves(ApprovalOperator):  # type: ignore[misc, unused-ignore]
    """Ask a person whether the challenger may become champion; no answer in time means no."""

    template_fields: Sequence[str] = ()
    ui_color = "#fdeec9"

    def __init__(self, *, pipeline: str, approval: Approval, **kwargs: Any) -> None:
        super().__init__(
            task_id="approve",
            subject=f"May the challenger become champion of {pipeline}?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=approval.timeout_hours),
            assigned_users=[{"id": user, "name": user} for user in approval.approvers] or None,
            **kwargs,
        )

    def execute(self, context: Any) -> None:
        """Put the question, with what speaks for and against; a dry run asks nobody."""
        night = _night(context)
        if night.request.dry_run:
            self._answer(context, night, ApproveResult(required=False, approved=True, reason="a dry run asks nobody"))
            return
        self.body = _case(night)
        super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Record who said what; a no skips the promotion."""
        answer = super(ApprovalOperator, self).execute_complete(context=context, event=event)
        approved = answer["chosen_options"] == [self.APPROVE]
        user = answer.get("responded_by_user") or {}
        who = str(user.get("name") or user.get("id") or "") if isinstance(user, dict) else str(user)
        reason = str((answer.get("params_input") or {}).get("reason") or "")
        if not who:
            reason = reason or "nobody answered in time"
        result = ApproveResult(
            required=True, approved=approved, who=who, reason=reason or ("approved" if approved else "refused")
        )
        self._answer(context, _night(context), result)
        if not approved:
            raise DownstreamTasksSkipped(tasks=["promote"])

    def _answer(self, context: Any, night: Night, result: ApproveResult) -> None:
        self.log.info("approved=%s by %s: %s", result.approved, result.who or "nobody", result.reason)
        hand_on(context, night.with_result("approve", result))


def _night(context: Any) -> Night:
    night = handed_on(context, "gate")
    if night is None:
        raise AirflowFailException("gate has handed nothing on; clear the whole run, and it starts afresh")
    return night


def _case(night: Night) -> str:
    """Say in Markdown what the person has to decide on."""
    request = night.request
    lines = [f"Night of **{request.cutoff}**, asked for by {request.actor}. {request.reason}".rstrip(), ""]
    if night.gate:
        lines += ["| check | outcome | why |", "|---|---|---|"]
        lines += [
            f"| {check.name} | {check.outcome} | {check.reason} |".replace("\n", " ")
            for check in night.gate.verdict.checks
        ]
    if night.train:
        lines += ["", f"[MLflow run]({night.train.mlflow_url})"]
    return "\n".join(lines)
