"""Searching for parameters: when a search is due, whose parameters a night takes, which trial has won, and which is given up."""

from __future__ import annotations

from datetime import date
from math import ceil, isfinite, sqrt
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, Literal

from ratchet.domain.night import TrialTold
from ratchet.domain.records import Record
from ratchet.domain.training_rules import Choices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.drifted import DriftResult
    from ratchet.domain.training_rules import Range, Tuning

_FIRST_LOOK = 20  # rounds before a trial may be given up
_EVERY = 10  # rounds from one look to the next
_ENOUGH_TRIALS = 5  # before a median says anything
_ENOUGH_DAYS = 3  # before days tell chance from gain
_USUAL_ETA = 0.3  # XGBoost's own
_BY_DEFAULT = {  # XGBoost's own, of what it is mostly searched for: where a spec leaves them out
    "eta": 0.3,
    "gamma": 0.0,
    "max_depth": 6,
    "min_child_weight": 1.0,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "colsample_bylevel": 1.0,
    "colsample_bynode": 1.0,
    "reg_lambda": 1.0,
    "reg_alpha": 0.0,
}
_GROWS = ("auc", "aucpr", "pre", "map", "ndcg")  # metrics of XGBoost's of which more is better


class SearchTrial(Record):
    """One trial of a search, recorded once: a search that is killed goes on after it."""

    number: int
    origin: Literal["champion", "spec", "drawn"]
    params: dict[str, Any]  # of those that are searched
    state: Literal["finished", "pruned", "failed"]
    score: float | None = None  # mean over days of the mean loss
    days: dict[str, float] = {}  # mean loss by day
    rounds: int = 0
    curve: tuple[float, ...] = ()  # what early stopping watched, by round
    eta: float = _USUAL_ETA
    problem: str = ""
    seconds: float = 0.0
    elapsed: float = 0.0  # seconds that the search had taken when this trial ended, over all attempts at it
    mlflow_run_id: str = ""

    @property
    def told(self) -> TrialTold:
        """The trial as the night tells of it."""
        return TrialTold(**self.model_dump(include=set(TrialTold.model_fields)))


class Found(Record):
    """What a search has found."""

    study: str  # digest of all that decided it, apart from the time that it had
    about: str  # digest of what it searched for
    cutoff: date
    newest: date  # labelled day of its night
    seen_through: date  # the newest day that it met
    days: tuple[str, ...]  # on which its trials were scored
    params: dict[str, Any]  # of those that are searched
    why: str  # it was due
    won: str  # why these
    trials: tuple[TrialTold, ...] = ()
    mlflow_run_id: str = ""
    mlflow_url: str = ""


class Incumbent(Record):
    """The champion's parameters, as far as they can be known."""

    version: int
    params: dict[str, Any] | None = None  # of those that are searched; None where its recipe cannot be read
    problem: str = ""


class Choice(Record):
    """Whose parameters a night takes that searches for none."""

    source: Literal["spec", "search", "champion"]
    params: dict[str, Any]  # of those that are searched
    why: str


def due(
    tuning: Tuning,
    cutoff: date,
    holdout: date,
    last: Found | None,
    about: str,
    drift: DriftResult | None,
) -> str:
    """Say why a search is due tonight; empty where none is.

    Args:
        tuning: what the spec says of it.
        cutoff: of tonight.
        holdout: first day that decides on promotion tonight.
        last: the newest search up to tonight, if there was one.
        about: what tonight's would search for.
        drift: what the newest day was like.
    """
    if last is None:
        return "there has been no search yet"
    if last.about != about:
        return f"what the search of {last.cutoff} was for has changed in the spec"
    if last.seen_through >= holdout:
        return f"the search of {last.cutoff} has met days that are held out now"
    if tuning.on_drift and drift and drift.state == "drift" and drift.since and last.newest < drift.since:
        return f"the data has moved since {drift.since}"
    passed = (cutoff - last.cutoff).days
    if tuning.every_days is not None and passed >= tuning.every_days:
        return f"the last search was {passed} days ago, every_days is {tuning.every_days}"
    return ""


def between(
    tuning: Tuning,
    cutoff: date,
    last: Found | None,
    incumbent: Incumbent | None,
    given: Mapping[str, Any],
    *,
    served: bool = False,
) -> Choice:
    """Choose among what is known already.

    Args:
        tuning: what the spec says of it.
        cutoff: of tonight.
        last: the newest search up to tonight, if there was one that is about what the spec asks for.
        incumbent: the champion, if there is one.
        given: the spec's own parameters, of those that are searched.
        served: whether a model with what was found has been champion already.
    """
    theirs = incumbent.params if incumbent else None
    if last and theirs == last.params and incumbent:
        words = f"those of champion v{incumbent.version}, which the search of {last.cutoff} has found"
        return Choice(source="champion", params=theirs, why=words)
    passed = (cutoff - last.cutoff).days if last else 0
    if last and (theirs is None or (passed < tuning.patience_days and not served)):
        left = "" if theirs is None else f", for the {_nth(passed)} of {tuning.patience_days} days"
        return Choice(source="search", params=last.params, why=f"the search of {last.cutoff} has found them{left}")
    if theirs is not None and incumbent:
        why = f"those of champion v{incumbent.version}"
        if last and served:
            why += f": what the search of {last.cutoff} has found has served, and does not any more"
        elif last:
            why += f": what the search of {last.cutoff} has found was not promoted within {tuning.patience_days} days"
        return Choice(source="champion", params=theirs, why=why)
    why = f"champion v{incumbent.version}: {incumbent.problem}" if incumbent else "nothing better is known yet"
    return Choice(source="spec", params=dict(given), why=f"the spec's: {why}")


def winner(trials: Sequence[SearchTrial]) -> tuple[SearchTrial, str] | None:
    """Return the trial whose parameters are taken, and why; None where none has ended well.

    The champion's parameters, where they were tried, give way only to a gain that is greater than its standard error over
    the days: a change of parameters is a change of recipe, which has to prove itself anew.
    """
    ended = [trial for trial in trials if trial.score is not None and trial.state == "finished"]
    if not ended:
        return None
    best = min(ended, key=lambda trial: (trial.score, trial.number))
    champion = next((trial for trial in ended if trial.origin == "champion"), None)
    if best.origin == "champion":
        return best, "no trial was better than the champion's parameters"
    shown = f"trial {best.number}: {best.score:.6g}"
    if champion is None:
        return best, shown
    gain, error = _gain(champion, best)
    if gain > error:
        return best, f"{shown}, the champion's parameters {champion.score:.6g}"
    words = f"trial {best.number} was better by {gain:.3g} only, with a standard error of {error:.3g} over the days"
    return champion, f"{words}: the champion's parameters stay"


def behind(mine: Sequence[float], eta: float, earlier: Sequence[SearchTrial], *, grows: bool = False) -> bool:
    """Say whether a trial lies behind the median of earlier ones and is given up.

    Trials are compared where they have come equally far, in rounds times learning rate: a slow learner is not behind because
    it is slow.

    Args:
        mine: what early stopping watches, by round so far.
        eta: the trial's learning rate.
        earlier: trials that ended before this one was begun.
        grows: whether more is better.
    """
    rounds = len(mine)
    if rounds < _FIRST_LOOK or rounds % _EVERY:
        return False
    best = max if grows else min
    far, theirs = rounds * eta, []
    for trial in earlier:
        there = ceil(round(far / trial.eta, 6))
        if trial.state == "failed" or not trial.curve or (trial.state == "pruned" and len(trial.curve) < there):
            continue
        theirs.append(best(trial.curve[:there]))
    if len(theirs) < _ENOUGH_TRIALS:
        return False
    return best(mine) < median(theirs) if grows else best(mine) > median(theirs)


def grows(task: str, params: Mapping[str, Any]) -> bool:
    """Say whether of what early stopping watches more is better."""
    given = params.get("eval_metric")
    last = given[-1] if isinstance(given, list | tuple) and given else given
    name = str(last or ("ndcg" if task == "ranking" else "")).partition("@")[0]
    return name in _GROWS


def eta_of(params: Mapping[str, Any]) -> float:
    """Return the learning rate that parameters give."""
    return float(params.get("eta", params.get("learning_rate", _USUAL_ETA)))


def inside(space: Mapping[str, Range | Choices], params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return parameters as a point of the space, those left out as XGBoost has them; None where they lie outside."""
    point: dict[str, Any] = {}
    for name, values in space.items():
        value = params.get(name, _BY_DEFAULT.get(name))
        if isinstance(values, Choices):
            if value not in values.choices:
                return None
        elif isinstance(value, bool) or not isinstance(value, int | float) or not _drawn(values, value):
            return None
        point[name] = value
    return point


def _drawn(values: Range, value: float) -> bool:
    """Say whether a number may be drawn; where whole ones are, none between them is."""
    return values.low <= value <= values.high and (isinstance(values.low, float) or value == int(value))


def score_of(days: Mapping[str, float]) -> float | None:
    """Return the mean over days, each counting the same; None where it is no number."""
    found = fmean(days.values()) if days else float("nan")
    return found if isfinite(found) else None


def _gain(champion: SearchTrial, best: SearchTrial) -> tuple[float, float]:
    """Return by how much the best is better, and the standard error of that; 0 where there are too few days to know one."""
    differences = [champion.days[day] - best.days[day] for day in champion.days if day in best.days]
    gain = (champion.score or 0.0) - (best.score or 0.0)
    if len(differences) < _ENOUGH_DAYS:
        return gain, 0.0
    return gain, stdev(differences) / sqrt(len(differences))


def _nth(passed: int) -> str:
    return f"{passed + 1}{'th' if 10 <= (passed + 1) % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get((passed + 1) % 10, 'th')}"  # noqa: PLR2004
