"""How batches are shared out among a cluster's workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.adapters.dask_xgb import _shares
from ratchet.errors import SettingsInvalid
from ratchet.settings import settings


@given(rows=st.integers(1, 500), workers=st.integers(1, 9))
def test_every_row_goes_to_one_worker(rows, workers):
    """Runs of rows follow one another without a gap, and are as long as each other but for one row."""
    shares = _shares({"label": np.zeros(rows)}, workers)
    assert [i for share in shares for i in range(share.start, share.stop)] == list(range(rows))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(lists=st.lists(st.integers(1, 30), min_size=1, max_size=40), workers=st.integers(1, 9))
def test_no_list_of_a_ranking_is_cut(lists, workers):
    """Every row goes to one worker, and all rows of a list to the same."""
    qid = np.repeat(np.arange(len(lists)), lists)
    shares = _shares({"label": np.zeros(len(qid)), "qid": qid}, workers)
    assert [i for share in shares for i in range(share.start, share.stop)] == list(range(len(qid)))
    held = [set(qid[share]) for share in shares]
    assert sum(len(found) for found in held) == len(lists)


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tls://scheduler:8786", "tcp://[::1]:8786"])
def test_the_scheduler_is_named_by_its_address(address):
    """As Dask writes it."""
    assert settings({"RATCHET_DASK": address}).dask == address


@pytest.mark.parametrize("address", ["10.0.0.5:8786", "http://scheduler:8786", "tcp://scheduler", "tcp://scheduler:x"])
def test_what_is_no_address_is_refused(address):
    """The variable and an example are named."""
    with pytest.raises(SettingsInvalid, match=r"RATCHET_DASK.*such as tcp://10\.0\.0\.5:8786"):
        settings({"RATCHET_DASK": address})


def test_without_one_there_is_none():
    """A night that fits here needs no cluster."""
    assert settings({}).dask is None
