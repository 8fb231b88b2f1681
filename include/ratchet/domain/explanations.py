"""What a model's predictions rest on: each is a base plus one contribution of every feature (SHAP values), which add up.

The contributions are Shapley values of the trees (Lundberg and others, *From local explanations to global understanding with
explainable AI for trees*, Nature Machine Intelligence 2020), as XGBoost computes them. They say what the model looks at, not
what causes what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MOVED = 0.1  # share of the importance that has passed to other features: from here on a person should look
_BRIEF_FEATURES, _BRIEF_SLICES, _SLICE_TOP = 20, 12, 3
_TOP, _NAMED, _CONFIDENCE = 8, 3, 0.975
_LEAST_DAYS, _LEAST_RANKED = 2, 3


class FeatureShare(Record):
    """How much one feature moves the predictions."""

    name: str
    mean: float  # absolute contribution, the mean over rows (and classes or quantiles)
    low: float | None = None  # 95 % interval of the mean over days; None of a single day
    high: float | None = None
    share: float  # of the sum over all features
    champion: float | None = (
        None  # the champion's share, on the rows that it has not seen either; None where it was not asked
    )


class SliceShares(Record):
    """What the predictions of one slice rest on."""

    column: str
    value: str
    rows: int  # that were explained
    top: dict[str, float]  # share by feature, largest first
    distance: float  # from the shares over all rows: total variation


class ImportanceDrift(Record):
    """How far the challenger looks at other features than the champion, on rows that neither has seen."""

    version: int  # the champion's
    rows: int
    distance: float  # total variation: the share of the importance that has passed to other features
    low: float | None = None  # 95 % interval over days
    high: float | None = None
    rank: float | None = None  # Spearman's correlation of the two orders of features
    gained: dict[str, float] = {}  # difference of shares by feature, those that have changed most
    only_challenger: tuple[str, ...] = ()
    only_champion: tuple[str, ...] = ()
    warning: str = ""  # in words, where a person should look


class Explanation(Record):
    """What the challenger's predictions of the hold-out rest on, from a sample of its rows."""

    rows: int = 0  # that were explained
    of: int = 0  # rows of the hold-out
    days: int = 0
    scale: str = ""  # in which contributions add up
    features: tuple[FeatureShare, ...] = ()  # most important first
    left_out: int = 0  # features that are not listed here
    slices: tuple[SliceShares, ...] = ()  # by column, largest first
    drift: ImportanceDrift | None = None
    unseen: dict[str, int] = {}  # rows of the hold-out by feature whose text training never met: they count as missing
    missing: dict[str, float] = {}  # share of the hold-out's rows by feature that have no value, where any has none
    problem: str = ""  # why there is no explanation
    champion_problem: str = ""  # why the champion could not be compared

    @property
    def brief(self) -> Explanation:
        """The same for a record that is handed from task to task: the most important features, the largest slices."""
        slices: dict[str, list[SliceShares]] = {}
        for shares in self.slices:
            slices.setdefault(shares.column, []).append(shares)
        kept = [
            s.model_copy(update={"top": _first(s.top, _SLICE_TOP)}) for c in slices.values() for s in c[:_BRIEF_SLICES]
        ]
        return self.model_copy(
            update={
                "features": self.features[:_BRIEF_FEATURES],
                "left_out": self.left_out + len(self.features[_BRIEF_FEATURES:]),
                "slices": tuple(kept),
                "unseen": _first(self.unseen, _BRIEF_FEATURES),
                "missing": _first(self.missing, _BRIEF_FEATURES),
            }
        )


class Part(Record):
    """What one feature adds to one prediction."""

    name: str
    value: str  # as text
    contribution: float
    note: str = ""  # what the model makes of the value, where that is not what it says


class RowExplanation(Record):
    """Why one row is predicted as it is: ``base`` plus all contributions is ``margin``, which the task's link turns into the prediction."""

    pipeline: str
    version: int
    row: str  # in words
    task: str
    output: str = ""  # the class or quantile that is explained
    prediction: float
    predictions: dict[str, float] = {}  # of every class or quantile
    label: str | None = None  # what came, where that is known
    scale: str
    base: float
    margin: float
    base_prediction: float | None = (
        None  # what is predicted of a row of which nothing is known, where there is one number a row
    )
    parts: tuple[Part, ...]  # the largest first, whichever way they go
    off: float  # how far base and contributions are from the model's own output: rounding


SCALES: Mapping[str, str] = {
    "binary": "log-odds",
    "multiclass": "score of the class (softmax makes probabilities of all)",
    "regression": "the target's own unit",
    "quantile": "the target's own unit",
    "ranking": "score (the list is sorted by it)",
}


def sizes(contributions: Floats) -> Floats:
    """Return how much each feature moves each row: of shape (rows, features), without the base.

    Args:
        contributions: of shape (rows, outputs, features + 1), the base last.
    """
    import numpy as np  # noqa: PLC0415

    found: Floats = np.abs(contributions[:, :, :-1]).mean(axis=1, dtype=np.float64)
    return found


def feature_shares(names: Sequence[str], days: Any, moved: Floats) -> tuple[FeatureShare, ...]:
    """Return every feature's part in the predictions, the largest first, equals by name.

    Args:
        names: of the features.
        days: numpy array of dates, one per row.
        moved: as ``sizes`` returns it.
    """
    means, total = moved.mean(axis=0), float(moved.mean(axis=0).sum()) or 1.0
    left_out = _without_a_day(days, moved)
    low, high = _interval(means, left_out) if left_out is not None else (None, None)
    found = [
        FeatureShare(
            name=name,
            mean=float(means[i]),
            low=None if low is None else max(0.0, float(low[i])),
            high=None if high is None else float(high[i]),
            share=float(means[i]) / total,
        )
        for i, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda f: (-f.share, f.name)))


def slice_shares(column: str, value: str, names: Sequence[str], here: Floats, everywhere: Floats) -> SliceShares:
    """Return what the predictions of one slice rest on, and how far that is from those of all rows."""
    import numpy as np  # noqa: PLC0415

    p, q = _shares(here), _shares(everywhere)
    order = sorted(range(len(names)), key=lambda i: (-p[i], names[i]))[:_TOP]
    top = {names[i]: float(p[i]) for i in order if p[i] > 0}
    return SliceShares(column=column, value=value, rows=len(here), top=top, distance=float(np.abs(p - q).sum() / 2))


def importance_drift(
    version: int,
    days: Any,
    challenger: tuple[Sequence[str], Floats],
    champion: tuple[Sequence[str], Floats],
) -> tuple[ImportanceDrift, dict[str, float]]:
    """Compare what two models look at, on the same rows; also return the champion's shares by feature.

    Args:
        version: the champion's.
        days: of the rows.
        challenger: names of its features, and how much each moves each row.
        champion: likewise, of the same rows in the same order.
    """
    import numpy as np  # noqa: PLC0415

    names = sorted({*challenger[0], *champion[0]})
    ours, theirs = _aligned(names, *challenger), _aligned(names, *champion)
    p, q = _shares(ours), _shares(theirs)
    distance = float(np.abs(p - q).sum() / 2)
    low, high = _distance_interval(days, ours, theirs, distance)
    gained = {names[i]: float(p[i] - q[i]) for i in np.argsort(-np.abs(p - q), kind="stable") if abs(p[i] - q[i]) > 0}
    made = ImportanceDrift(
        version=version,
        rows=len(ours),
        distance=distance,
        low=low,
        high=high,
        rank=_rank_correlation(p, q),
        gained=_first(gained, _TOP),
        only_challenger=tuple(sorted(set(challenger[0]) - set(champion[0]))),
        only_champion=tuple(sorted(set(champion[0]) - set(challenger[0]))),
    )
    return made.model_copy(update={"warning": _warning(made)}), dict(zip(names, map(float, q), strict=True))


def _warning(found: ImportanceDrift) -> str:
    surely = found.distance if found.low is None else found.low
    if surely < MOVED:
        return ""
    moved = ", ".join(f"{name} {gain * 100:+.0f} points" for name, gain in list(found.gained.items())[:_NAMED])
    said = (
        f"the challenger looks at other features than champion v{found.version}: {found.distance:.0%} of the importance has moved "
        f"(at least {surely:.0%}); {moved}"
    )
    for word, names in (("new", found.only_challenger), ("gone", found.only_champion)):
        said += f"; {word}: {', '.join(names[:_NAMED])}" if names else ""
    return said


def _aligned(names: Sequence[str], own: Sequence[str], moved: Floats) -> Floats:
    import numpy as np  # noqa: PLC0415

    where = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(moved), len(names)))
    found[:, [where[name] for name in own]] = moved
    return found


def _shares(moved: Floats) -> Floats:
    sums = moved.sum(axis=0)
    found: Floats = sums / (sums.sum() or 1.0)
    return found


def _distance_interval(days: Any, ours: Floats, theirs: Floats, distance: float) -> tuple[float | None, float | None]:
    import numpy as np  # noqa: PLC0415

    left = [side for moved in (ours, theirs) if (side := _without_a_day(days, moved)) is not None]
    if not left:
        return None, None
    p, q = (side / np.maximum(side.sum(axis=1, keepdims=True), 1e-300) for side in left)
    low, high = _interval(np.array([distance]), np.abs(p - q).sum(axis=1, keepdims=True) / 2)
    return max(0.0, float(low[0])), min(1.0, float(high[0]))


def _without_a_day(days: Any, moved: Floats) -> Floats | None:
    """Return the means with each day left out, of shape (days, features); None of a single day."""
    import numpy as np  # noqa: PLC0415

    unique, where, rows = np.unique(days, return_inverse=True, return_counts=True)
    if len(unique) < _LEAST_DAYS:
        return None
    sums = np.zeros((len(unique), moved.shape[1]))
    np.add.at(sums, where, moved)
    found: Floats = (sums.sum(axis=0) - sums) / (rows.sum() - rows)[:, None]
    return found


def _interval(whole: Floats, without: Floats) -> tuple[Floats, Floats]:
    """Return the jackknife's 95 % intervals, days being what is left out."""
    import numpy as np  # noqa: PLC0415
    from scipy.special import stdtrit

    days = len(without)
    spread = np.sqrt((days - 1) / days * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = float(stdtrit(days - 1, _CONFIDENCE)) * spread
    return whole - reach, whole + reach


def _rank_correlation(p: Floats, q: Floats) -> float | None:
    import numpy as np  # noqa: PLC0415
    from scipy.stats import rankdata

    if len(p) < _LEAST_RANKED:
        return None
    ranks = rankdata(p), rankdata(q)
    if any(np.ptp(side) == 0 for side in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _first(given: Mapping[str, Any], count: int) -> dict[str, Any]:
    return dict(list(given.items())[:count])
