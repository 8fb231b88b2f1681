"""For services that score: raw rows of any segment in, predictions out, each by the model that serves its row.

::

    from ratchet.serving import Router

    router = Router("flight_delay")
    scored = router.score({"rows": flights, "weather": weather})
    scored.predictions  # as the model's own pyfunc gives them
    scored.by  # which model and version has scored each row
"""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ratchet.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ratchet.steps.context import Services
    from ratchet.steps.route import Champions

_LOG = logging.getLogger("ratchet")


class Scored(NamedTuple):
    """Predictions, and who made each; both have a row's place in the input as their index."""

    predictions: pd.Series | pd.DataFrame  # a DataFrame for several classes or quantiles
    by: pd.DataFrame  # model, version, and segment where there are segments

    @property
    def table(self) -> pd.DataFrame:
        """All in one table, as a file or a table of a database takes it."""
        import pandas as pd

        if self.predictions.ndim == 1:
            return pd.concat([self.predictions, self.by], axis=1)
        return pd.concat([self.predictions.add_prefix("prediction_"), self.by], axis=1)


class Router:
    """Scores raw rows with the champions of a pipeline and its segments; several threads may share one.

    Args:
        pipeline: its name.
        services: the adapters; by default those that the environment names.
        segments: False: all rows go to the global champion.
        refresh_s: after so many seconds it is asked anew who serves, before the next rows are scored.
        most: models that are held in memory; others are read from the local cache when they are needed.

    Raises:
        SettingsInvalid: the environment does not say where the services are.
        ActionRefused: the name is a segment's.
    """

    def __init__(
        self,
        pipeline: str,
        services: Services | None = None,
        *,
        segments: bool = True,
        refresh_s: float = 60.0,
        most: int = 256,
    ) -> None:
        from ratchet.steps.route import Champions  # noqa: PLC0415
        from ratchet.wiring import services as wired  # noqa: PLC0415

        self.pipeline, self._refresh_s = pipeline, refresh_s
        self._services = services or wired()
        self._champions = Champions(self._services, pipeline, segments=segments, most=most)
        self._asked, self._lock = monotonic(), threading.Lock()

    def score(self, given: pd.DataFrame | Mapping[str, pd.DataFrame]) -> Scored:
        """Score raw rows, each with the model that serves its segment.

        Args:
            given: the rows, or ``rows`` and the side tables by name; each table needs ``dt``, the day of each row.

        Returns:
            One prediction for each row that the query keeps.

        Raises:
            ActionRefused: nobody serves, or nobody serves some of the rows.
            DataRejected: ``schema`` or ``non_finite``: the rows are not what a model's query reads.
            IntegrityError: a ledger or a model is not what it was.
        """
        import pandas as pd

        from ratchet.adapters.pyfunc import raw_features  # noqa: PLC0415
        from ratchet.steps.route import route  # noqa: PLC0415

        found = route(self._services, self._now(), lambda files: raw_features(files.schema_, files.features, given))
        index = pd.Index(found.rows, name="row")
        versions = [model.version.version for model in found.models]
        names = [model.name for model in found.models]
        by = pd.DataFrame(
            {"model": pd.Categorical.from_codes(found.by, names), "version": [versions[i] for i in found.by]},
            index=index,
        )
        if found.segments is not None:
            by.insert(0, "segment", pd.Series(found.segments, index=index, dtype=object))
        if found.outputs:
            return Scored(pd.DataFrame(found.predictions, index=index, columns=list(found.outputs)), by)
        return Scored(pd.Series(found.predictions, index=index, name="prediction"), by)

    def _now(self) -> Champions:
        """Return who serves, asked anew where that is due; while the store does not answer, as it was when it last did."""
        with self._lock:
            due = monotonic() - self._asked >= self._refresh_s
            if due:
                self._asked = monotonic()
        if due:
            try:
                self._champions.refresh()
            except ServiceError as exc:
                if not exc.retryable:
                    raise
                _LOG.warning("%s: who serves cannot be asked, it is taken to be as before: %s", self.pipeline, exc)
        return self._champions
