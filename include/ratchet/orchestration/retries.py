"""Which faults are worth another try: those of the weather, never those of the data, the spec or the code."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowRuntimeError

from ratchet.errors import RatchetError

RETRIES = 2
FIRST_DELAY = timedelta(seconds=15)
BACK_OFF = 4.0  # 15 s, then a minute
MAX_DELAY = timedelta(minutes=5)

_TO_STAY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}
_NETWORK = {"httpx", "httpcore"}  # Airflow's own client


def can_pass(error: BaseException) -> bool:
    """Say whether a fault may be gone a little later.

    A ``RatchetError`` says so itself. Of the rest only faults of the network, of the operating system and of Airflow's API
    can; a programming error, a full disk or a lack of memory would only come again. A task that was killed from outside
    is never asked: Airflow tries it again.
    """
    if isinstance(error, RatchetError):
        return error.retryable
    if isinstance(error, OSError):  # ConnectionError and TimeoutError are some
        return error.errno not in _TO_STAY
    return isinstance(error, AirflowRuntimeError) or type(error).__module__.partition(".")[0] in _NETWORK


def tried_before(ti: Any, retries: int) -> bool:
    """Say whether Airflow is trying again what an attempt before this one has begun; a task that was cleared begins anew."""
    return bool(ti.try_number > ti.max_tries - retries + 1)


def was_cleared(ti: Any, retries: int) -> bool:
    """Say whether somebody has cleared a task since its run began; Airflow grants it its retries anew then."""
    return bool(ti.max_tries > retries)


class WeatherOnly(RetryPolicy):  # type: ignore[misc, unused-ignore]  # Airflow is not typed for us
    """Try again after a fault that can pass; fail at once after any other."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> Any:  # noqa: ARG002  Airflow's signature
        """Decide on one failure."""
        if can_pass(exception):
            return RetryDecision.default()
        return RetryDecision.fail("trying again would not help")
