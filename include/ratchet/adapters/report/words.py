"""What the page says in sentences: how the night came out, and what the person who was woken by it should do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain.checks import Outcome
from ratchet.domain.verdict import BASELINES

if TYPE_CHECKING:
    from ratchet.domain.night import Night, NightRequest

_MARKS = {"promoted": "▲", "refused": "■", "undecided": "◆", "skipped": "»", "rejected": "✕", "failed": "!"}


class Headline(NamedTuple):
    """The top of the page."""

    word: str
    mark: str
    sentence: str
    urgency: str
    steps: tuple[str, ...]  # what to do next
    command: str = ""  # that does it, where one does


def command(request: NightRequest) -> str:
    """Return the command that runs the night again, safe to paste."""
    changed = "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in request.overrides.items())
    return f"ratchet run {request.pipeline} --cutoff {request.cutoff}{changed}"


def headline(night: Night, champion: int | None) -> Headline:
    """Say how the night came out; ``champion`` is the version that serves after it."""
    sentence = _promoted(night) if night.outcome == "promoted" else f"{_what(night)} {_stays(champion)}"
    urgency, steps, command = _next(night)
    dry = ("This was a dry run: nothing was registered, nothing has changed.",) if night.request.dry_run else ()
    return Headline(night.outcome.upper(), _MARKS[night.outcome], sentence, urgency, (*dry, *steps), command)


def _what(night: Night) -> str:
    return {
        "refused": f"{_challenger(night)} was not let through.",
        "undecided": _open(night),
        "skipped": f"The night was skipped in {_step(night)}: there is too little to decide on.",
        "rejected": f"Tonight’s data was rejected in {_step(night)}.",
        "failed": f"Something broke in {_step(night)}.",
    }[night.outcome]


def _open(night: Night) -> str:
    if _held(night) == {BASELINES}:
        return f"{_challenger(night)} does not beat what one would have without it."
    return f"It is not proved yet that {_challenger(night, 'tonight’s challenger')} is good enough."


def _held(night: Night) -> set[str]:
    """Return the kinds of the checks that are open."""
    checks = night.gate.verdict.checks if night.gate else ()
    return {check.kind for check in checks if check.outcome is Outcome.UNDECIDED}


def _promoted(night: Night) -> str:
    before = night.score.champion if night.score else None
    if night.request.dry_run:
        follows = f"in place of version {before.version}" if before else "as the first champion"
        return f"Tonight’s challenger would be promoted {follows}."
    if before is None:
        return f"{_challenger(night)} is the first champion."
    tonight = night.register_.version.version if night.register_ and night.register_.version else None
    promoted = night.promote.version if night.promote else None
    who = _challenger(night) if promoted in {None, tonight} else f"Version {promoted}, from the shadow,"
    return f"{who} is the new champion, after version {before.version}."


def _challenger(night: Night, otherwise: str = "Tonight’s challenger") -> str:
    version = night.register_.version if night.register_ else None
    word = "Version" if otherwise[0].isupper() else "version"
    return f"{word} {version.version}" if version else otherwise


def _stays(champion: int | None) -> str:
    return f"Version {champion} goes on serving." if champion else "There is no champion yet."


def _step(night: Night) -> str:
    return f"the step “{night.ended.step}”" if night.ended else "a step that left no record"


def _next(night: Night) -> tuple[str, tuple[str, ...], str]:
    """Return how urgent it is, what to do, and the command that does it."""
    again = command(night.request)
    if night.outcome == "promoted":
        return "Nothing to do", *_done(night, again)
    if night.outcome == "refused":
        return "Nothing urgent", *_refused(night, again)
    if night.outcome == "undecided":
        return "Nothing urgent", _undecided(night), ""
    if night.outcome == "skipped":
        feed = "See whether the feed has landed; the next night looks again by itself. To take in tonight what has landed since:"
        return "Look in the morning", (feed,), f"{again} --repin"
    if night.outcome == "rejected":
        mend = _DATA.get(night.ended.reason if night.ended else "", _DATA[""])
        return (
            "Act on the data",
            (mend, "Then run the night again, on what lies in the store by then:"),
            f"{again} --repin",
        )
    step = night.ended.step if night.ended else "report"
    ledger = f" Who serves is decided by the ledger: “ratchet champion {night.request.pipeline}” reads it."
    steps = (
        f"Read the log of the task “{step}” and mend the cause." + (ledger if step in {"promote", "report"} else ""),
        "Then clear that task in Airflow, or run the night again. Steps that have finished are not done twice:",
    )
    return "Act tonight", steps, again


def _done(night: Night, again: str) -> tuple[tuple[str, ...], str]:
    if night.request.dry_run:
        return ("To do it in earnest:",), again
    if night.score and night.score.champion:
        return ("The version before goes on scoring each new day in shadow, so that a mistake would show.",), ""
    return ("Nothing: it serves from now on.",), ""


def _refused(night: Night, again: str) -> tuple[tuple[str, ...], str]:
    if night.approve and night.approve.required and not night.approve.approved:
        return ("The gates were passed; approval was not given. The next night asks again.",), ""
    if night.gate and night.gate.verdict.outcome == "PASS":
        return ("The gates were passed, but the ledger had moved on. To judge against the champion of now:",), again
    steps = (
        "This is the ratchet at work; nothing is broken. The next night trains and judges anew.",
        "When it happens night after night, look at the checks and slices below, and at what has changed in the data.",
    )
    return steps, ""


def _undecided(night: Night) -> tuple[str, ...]:
    problem = night.evaluate.case.champion_problem if night.evaluate else None
    if problem:
        return (
            "The champion could not be compared, for the reason above. Unless it goes away by itself, a person has to look.",
        )
    held = _held(night)
    if "evidence" in held:
        steps = ["The evidence is carried on to the next night. The undecided checks below say how much is needed."]
    else:
        steps = ["The undecided checks below say why. The next night trains and judges anew."]
    if BASELINES in held:
        steps.append(
            "When a baseline is not beaten night after night, the features tell little beyond it: look at them, "
            "at what has changed in the data, and at the table of baselines below."
        )
    return tuple(steps)


_DATA = {
    "corrupt": "Ask the owner of the source to land the named object again, whole.",
    "malformed": "Ask the owner of the source to land the named object again, with the named rows mended.",
    "missing_object": "The manifest promises what has not landed. Ask the owner of the source to land it, or to mend the manifest.",
    "time": "Rows tell of what had not happened yet, or stand on both sides of the cut. Have them mended at their source.",
    "vacuous": "A check met nothing to check. Mend the suite, or ask the owner of the source where the values are.",
    "too_large": "Ask the owner of the source to land smaller files.",
    "resource": "The worker ran out of memory or disk. Give it more, or shorten the window.",
    "empty": "Ask the owner of the source why there is nothing in it, and to land it again.",
    "changed": "An object was replaced while the night read it. Wait until the feed has finished landing.",
    "snapshot_gone": "An object that the snapshot pins was deleted. Restore that version, or take what is there now.",
    "stale": "The feed has stopped. Ask the owner of the source when it goes on.",
    "incomplete": "The feed has not finished landing. Ask the owner of the source when it will.",
    "unmatched": "The spec fits none of the objects. Set the partition’s pattern or the format as the reason above says.",
    "bad_key": "Rename or remove the named object.",
    "validation": "Have the data mended at its source; loosen the suite only if it is wrong.",
    "quarantined": "Too much is in quarantine. Have it mended at its source, or give back what is right: ratchet quarantine list.",
    "error": "An expectation could not be checked at all, mostly because a column has changed. Mend the data or the suite.",
    "schema": "Columns have changed. Mend them at the source, or change the features query and the suite.",
    "one_class": "All labels are the same. Look at the target’s SQL, and at the column that it reads.",
    "non_finite": "A feature is infinite. Mend the data, or make it NULL in the features query.",
    "": "See the reason above; have the data mended at its source.",
}
