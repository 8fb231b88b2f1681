"""approve, where the spec asks for a person: Airflow's own human approval, told what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput

from ratchet.domain.checks import Outcome
from ratchet.domain.night import ApproveResult, Night
from ratchet.errors import RatchetError
from ratchet.home import load_pipeline
from ratchet.orchestration import kept, notes
from ratchet.orchestration.approvers import users
from ratchet.orchestration.links import page
from ratchet.orchestration.retries import tried_before
from ratchet.orchestration.tasks import connected, hand_on, handed_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratchet.domain.checks import Check
    from ratchet.domain.models import ModelVersion
    from ratchet.domain.promotion_rules import Approval
    from ratchet.steps.context import Services

_PENDING = "nobody has answered yet"


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
        pipeline = load_pipeline(self.pipeline, overrides=night.request.overrides)
        why = () if night.request.dry_run else asks(pipeline, night)
        if not why:
            said = "a dry run asks nobody" if night.request.dry_run else "tonight nothing asks for a person"
            hand_on(context, night.with_result("approve", ApproveResult(required=False, approved=True, reason=said)))
            self.log.info(said)
            return
        given = self._given(context, services, night, why) if tried_before(context["ti"], self.retries) else None
        if given is not None:
            self.log.info("the answer was given to the attempt before")
            self._conclude(context, services, night.with_result("approve", given))
            return
        kept.keep(services.store, context, "approve", night)  # what was answered before is void
        until = datetime.now(UTC) + (self.response_timeout or timedelta())
        self.params = ParamsDict(
            form()
        )  # Airflow has put the reason for the run, of that name too, in the answer's place
        self.body = case(night, services, why, self.allowed, until)
        try:
            super().execute(context)
        except TaskAwaitingInput:
            pending = ApproveResult(required=True, approved=False, why=why, reason=_PENDING)
            kept.keep(services.store, context, "approve", night.with_result("approve", pending))
            raise

    def _given(self, context: Any, services: Services, night: Night, why: tuple[str, ...]) -> ApproveResult | None:
        """Return the answer to the question that the attempt before has put.

        It is asked of Airflow's API, because Airflow can take an attempt that was answered within seconds for a failed one.
        """
        asked = kept.kept(services.store, context, "approve", night)
        if asked is None or asked.approve is None or asked.gate != night.gate:
            return None
        if asked.approve.reason != _PENDING:
            return asked.approve
        run, airflow = context["dag_run"], notes.api()
        try:
            path = f"{notes.run_path(run.dag_id, run.run_id)}/taskInstances/{self.task_id}/-1/hitlDetails"
            found = airflow.request("GET", path) if airflow else {}
        except RatchetError as exc:
            self.log.warning("the earlier answer cannot be looked up, so it is asked for again: %s", exc)
            found = {}
        return self._result(found, why) if found.get("response_received") else None

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
        approved = list(answer.get("chosen_options") or ()) == [self.APPROVE]
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
        f"### {gate.verdict.outcome}: {_model(candidate)} {f'instead of {_model(champion)}' if champion else 'as the first champion'}",
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
    return f"version {version.version} (cutoff {version.cutoff})" if version else "no version"


def _check(check: Check) -> tuple[str, ...]:
    value, limit = ("" if x is None else f"{x:.5g}" for x in (check.value, check.limit))
    outcome = check.outcome.replace("_", " ").lower() if check.outcome is Outcome.NOT_APPLICABLE else str(check.outcome)
    against = check.outcome in {Outcome.FAIL, Outcome.UNDECIDED}
    return check.name, f"**{outcome}**" if against else outcome, value, limit, check.reason


def _metrics(night: Night) -> list[str]:
    """Tell the metrics on the hold-out, beside the champion's where there is one."""
    found = night.evaluate
    if not found:
        return []
    head, about, champion = ["metric", "tonight's challenger"], f"{found.rows:,} rows", found.champion
    rows = [[name, _number(value)] for name, value in found.challenger.items() if "[" not in name]
    if champion is not None:
        head.append("champion")
        about += f"; the champion on the {found.common_rows:,} that it has not seen"
        rows = [[*row, _number(champion.get(row[0]))] for row in rows]
    return [f"**On the hold-out** ({about})", "", *_table(head, rows), ""]


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
