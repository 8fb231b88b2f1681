"""The watch: send the champion back, or raise an alarm, when fresh labels show that its predecessor would serve better."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain import layout
from ratchet.domain import watch as rules
from ratchet.domain.alerts import Alert
from ratchet.domain.ledger import reign, rollback_target
from ratchet.domain.models import ModelVersion
from ratchet.domain.night import DayScore
from ratchet.errors import ActionRefused
from ratchet.steps import alerts, turns
from ratchet.steps.champion import champion_version
from ratchet.steps.pairs import over_common_rows
from ratchet.steps.rollback import roll_back
from ratchet.steps.trial import usual_differences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ratchet.domain.alerts import AlertKind
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.night import ScoreResult
    from ratchet.steps.context import Context

ACTOR = "watch"


class _Alarm(NamedTuple):
    """Why the champion should not go on serving."""

    kind: AlertKind  # where nobody is sent back
    words: str
    helps: bool = True  # whether the standby would do better


def standby(entries: Sequence[LedgerEntry]) -> ModelVersion | None:
    """Return the version that must go on scoring in shadow, because the champion may be sent back to it."""
    watched = rules.guard(entries)
    return ModelVersion(**watched.standby.model_dump()) if watched else None


def predecessor(entries: Sequence[LedgerEntry]) -> ModelVersion | None:
    """Return the version that served before the champion."""
    target, _ = rollback_target(entries)
    return ModelVersion(**target.model_dump()) if target else None


def watch(ctx: Context, entries: Sequence[LedgerEntry], scored: ScoreResult) -> ScoreResult:
    """Return what the league made of tonight after the watch has looked at it: its champion may be another then."""
    before = next((e for e in entries if e.action == "rollback" and e.actor == ACTOR and e.night == ctx.run_key), None)
    if before:  # this night has sent it back before it was killed
        return _sent_back(ctx, scored, entries, before)
    serves = reign(entries)
    if serves is None or serves.judged_through > ctx.night.request.cutoff:
        return scored  # a night of the past says nothing of who serves now
    alarm = _alarm(ctx, entries, scored)
    if alarm is None:
        return scored
    watched = rules.guard(entries)
    if watched is None or not alarm.helps or not ctx.pipeline.spec.rollback.automatic:
        why = "" if watched is None or not alarm.helps else "; rollback.automatic is off"
        nobody = "; nobody served before it" if watched is None else ""
        return _told(ctx, scored, alarm.kind, f"{alarm.words}{nobody}{why}", first=watched is None)
    try:
        done = roll_back(
            ctx.services,
            ctx.pipeline,
            to=watched.standby.version,
            actor=ACTOR,
            reason=alarm.words,
            automatic=True,
            night=ctx.night,
        )
    except ActionRefused as exc:
        return _told(ctx, scored, alarm.kind, f"{alarm.words}; {exc}")
    return _sent_back(ctx, scored, turns.read(ctx.services, ctx.pipeline.name), done)


def _sent_back(ctx: Context, scored: ScoreResult, entries: Sequence[LedgerEntry], done: LedgerEntry) -> ScoreResult:
    serves, to = reign(entries), done.champion.version if done.champion else None
    words = f"version {to} serves again (ledger entry {done.seq}): {done.reason}"
    update = {"champion": champion_version(entries), "reign": serves.seq if serves else 0, "rolled_back": words}
    return _told(ctx, scored.model_copy(update=update), "rolled_back", words)


def _told(ctx: Context, scored: ScoreResult, kind: AlertKind, words: str, *, first: bool = False) -> ScoreResult:
    assert scored.champion
    alert = Alert(kind=kind, words=words, version=scored.champion.version, first=first)
    ctx.say(words)
    alerts.tell(ctx, [alert])  # at once; training may take hours
    return scored.model_copy(update={"alerts": (*scored.alerts, alert)})


def _alarm(ctx: Context, entries: Sequence[LedgerEntry], scored: ScoreResult) -> _Alarm | None:
    """Say what speaks against the champion: that it cannot score, a bound that it has left, or the evidence."""
    spec, watched = ctx.pipeline.spec.rollback, rules.guard(entries)
    champion = scored.champion
    assert champion
    mine = next((v for v in scored.versions if v.version == champion.version), None)
    if mine and mine.problem:
        return _Alarm("champion_broken", f"version {champion.version} cannot score today's rows: {mine.problem}")
    day = rules.newest(scored.scores, champion.version, spec.min_rows)
    left = rules.out_of_bounds(spec, day) if day else None
    if left and day:
        other = [s for s in scored.scores if watched and s.version == watched.standby.version and s.day == day.day]
        theirs = rules.out_of_bounds(spec, other[0]) if other else None
        if theirs:
            return _Alarm(
                "rollback_due", f"{left}; so has its predecessor ({theirs}): the data has changed", helps=False
            )
        return _Alarm("rollback_due", left)
    if watched is None:
        return None
    loss = ctx.pipeline.spec.loss
    scale = usual_differences(ctx, ModelVersion(**watched.standby.model_dump()))[loss]
    evidence = rules.differences(watched, _scores(ctx, watched, scored), loss, scale, partial(over_common_rows, ctx))
    worse = rules.proved_worse(spec, watched, evidence, loss)
    return _Alarm("rollback_due", worse) if worse else None


def _scores(ctx: Context, watched: rules.Guard, scored: ScoreResult) -> dict[date, dict[int, DayScore]]:
    """Return what the watched and the standby have lost, by day; what was stored first stands."""
    store, newest = ctx.services.store, ctx.windows.newest
    wanted = {watched.standby.version, *(e.champion.version for e in watched.turns if e.champion)}
    after = watched.turns[0].judged_through
    days: dict[date, dict[int, DayScore]] = {}
    for made in scored.scores:
        if made.version in wanted and after < made.day <= newest:
            days.setdefault(made.day, {})[made.version] = made
    for stored in store.list(layout.evidence(ctx.pipeline.name)):
        day, version = layout.scored_place(stored.uri)
        if version in wanted and after < day <= newest:
            days.setdefault(day, {})[version] = DayScore.model_validate_json(store.get(stored.uri))
    return days
