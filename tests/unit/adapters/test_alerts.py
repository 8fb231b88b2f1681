"""The webhook delivers a JSON object, or says why not without saying where."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ratchet.adapters.alerts import Webhook
from ratchet.errors import SettingsInvalid
from ratchet.settings import settings

SECRET = "hook-5ecret"


@pytest.fixture
def listener():
    """A server that takes what is posted and answers with ``status``."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        status = 204

        def do_POST(self):
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(Handler.status)
            self.end_headers()

        def log_message(self, *args):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{SECRET}", got, Handler
    server.shutdown()
    server.server_close()


def test_an_alert_is_posted_as_json(listener):
    """What is sent is what arrives."""
    url, got, _ = listener
    assert Webhook(url).send({"kind": "rolled_back", "version": 3}) is None
    assert got == [(f"/{SECRET}", {"kind": "rolled_back", "version": 3})]


def test_a_refusal_is_told_without_the_address(listener):
    """The status and the host are said, the secret in the path is not."""
    url, _, handler = listener
    handler.status = 403
    assert Webhook(url).send({}) == "127.0.0.1 answered 403"


@pytest.mark.parametrize("url", [f"http://127.0.0.1:9/{SECRET}", f"http://user:{SECRET}@127.0.0.1:9/x"])
def test_nobody_listening_is_told_without_the_address(url):
    """No part of an address but its host is ever in the words."""
    said = Webhook(url).send({"kind": "x"})
    assert "127.0.0.1 did not take it" in said
    assert SECRET not in said


def test_where_no_address_is_set_nothing_is_sent():
    """That is no problem."""
    assert Webhook(None).send({"kind": "x"}) is None


def test_an_address_that_is_none_is_refused_without_being_shown():
    """It is read once and shown nowhere."""
    with pytest.raises(SettingsInvalid, match="RATCHET_ALERT_URL") as caught:
        settings({"RATCHET_ALERT_URL": SECRET})
    assert SECRET not in str(caught.value)
    found = settings({"RATCHET_ALERT_URL": f"https://alerts.example.com/{SECRET}"})
    assert SECRET not in repr(found)
