"""Questions to a scheduler: whoever is told to stop stops, also when the answer comes at that very moment."""

from __future__ import annotations

import asyncio

import pytest

from ratchet.adapters.dask_cluster import Cluster
from ratchet.errors import ServiceError, SettingsInvalid


def test_who_is_told_to_stop_stops_although_the_answer_has_come():
    """Asked the way that hands the answer on instead, whoever watches a fit would go on watching when it is over."""

    async def told() -> bool:
        answer = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(Cluster("tcp://nowhere:1")._asked(answer))
        await asyncio.sleep(0)
        answer.set_result({})
        asking.cancel()
        await asyncio.wait({asking})
        return asking.cancelled()

    assert asyncio.run(told())


def test_no_answer_is_an_error_that_may_pass():
    """Who does not answer within the patience is named, and the night may be tried again."""
    with pytest.raises(ServiceError, match="tcp://nowhere:1: asking the scheduler failed") as failed:
        asyncio.run(Cluster("tcp://nowhere:1", 0.01)._asked(asyncio.sleep(60)))
    assert failed.value.retryable


def test_encryption_without_certificates_names_the_variables():
    """A tls address takes certificates; before anybody is connected with, the settings that are missing are named."""
    with (
        pytest.raises(SettingsInvalid, match=r"COMM__TLS__CA_FILE and DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT$"),
        Cluster("tls://nowhere:1").connected(),
    ):
        raise AssertionError("nobody is there")
