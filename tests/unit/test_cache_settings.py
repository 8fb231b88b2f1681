"""What the environment says of the local cache and of the object store's ETags."""

from __future__ import annotations

import pytest

from ratchet.errors import SettingsInvalid
from ratchet.settings import settings


@pytest.mark.parametrize(("given", "cap"), [({}, 20 << 30), ({"RATCHET_CACHE_GIB": "0.5"}, 1 << 29)])
def test_the_cache_has_a_cap(given, cap):
    """Twenty GiB unless another number is named, fractions allowed."""
    assert settings(given).cache_cap == cap


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "20GB", "many"])
def test_a_cap_that_is_none_is_refused(given):
    """The message names the variable, the value and what would be right."""
    with pytest.raises(SettingsInvalid, match=f"RATCHET_CACHE_GIB='{given}': expected a number of GiB above 0"):
        settings({"RATCHET_CACHE_GIB": given})


def test_etags_are_md5s_unless_declared_opaque():
    """Two words are known, and any other is refused by name."""
    assert settings({}).md5_etags
    assert not settings({"RATCHET_S3_ETAGS": "opaque"}).md5_etags
    with pytest.raises(SettingsInvalid, match="RATCHET_S3_ETAGS='sha': expected md5 or opaque"):
        settings({"RATCHET_S3_ETAGS": "sha"})
