"""How a pipeline's models are measured: what their metrics depend on besides labels and predictions."""

from __future__ import annotations

from ratchet.domain.models import Task
from ratchet.domain.records import Record

AT_A_POINT = frozenset(  # metrics that depend on where the spec looks
    {"accuracy", "balanced_accuracy", "macro_f1", "precision", "recall", "f1", "alert_rate", "top_k", "ndcg", "mrr"}
)


class Measuring(Record):
    """The task, and the points at which it is looked at."""

    task: Task
    threshold: float = 0.5  # of a binary task: who is given as much is acted on
    top_k: int = 3  # of a multiclass task: a label among the k likeliest counts as found
    ndcg_at: int = 10  # of a ranking: how far down a list is looked at
    quantiles: tuple[float, ...] = ()  # of a quantile task: of each column of the predictions

    @property
    def middle(self) -> int:
        """Which quantile is the median, or the one nearest to it."""
        return min(range(len(self.quantiles)), key=lambda i: (abs(self.quantiles[i] - 0.5), i))
