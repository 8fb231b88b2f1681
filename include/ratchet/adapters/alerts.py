"""Alerts by a webhook: one JSON object is posted to an address of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 5.0  # a night does not wait longer for somebody to listen


class Webhook:
    """Fulfils ``ports.Alerter``.

    Args:
        url: where to post; None: nowhere. It may hold a secret, so it is shown nowhere.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url

    def send(self, message: Mapping[str, Any]) -> str | None:
        """See ``ports.Alerter.send``."""
        if not self._url:
            return None
        import httpx  # noqa: PLC0415  only where there is something to say

        where = urlsplit(self._url).hostname
        try:
            reply = httpx.post(self._url, json=dict(message), timeout=_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return f"{where} did not take it ({type(exc).__name__})"  # the error's own words may hold the address
        return f"{where} answered {reply.status_code}" if reply.is_error else None
