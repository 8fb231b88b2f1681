"""The note that a night leaves on its run."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ratchet.orchestration import notes


@pytest.fixture
def airflow():
    """An API that remembers what it was asked."""
    asked = []

    class Api(BaseHTTPRequestHandler):
        def _answer(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            login = self.path == "/auth/token"
            data = json.dumps({"access_token": "t"} if login else {}).encode()
            self.send_response(201 if login else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = _answer  # noqa: N815  the server's names

        def log_message(self, *_args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "RATCHET_AIRFLOW_URL": f"http://127.0.0.1:{server.server_port}",
        "RATCHET_AIRFLOW_USER": "bot",
        "RATCHET_AIRFLOW_PASSWORD": "secret",
    }
    yield environment, asked
    server.shutdown()
    server.server_close()


def test_note_is_patched_onto_the_run(airflow):
    """The bot logs in and sets the note and nothing else, even where the run's id has odd characters."""
    environment, asked = airflow
    said = []
    assert notes.write(
        "flight_delay", "manual__2013-06-01T00:00:00+00:00", "PROMOTED " + "x" * 2000, said.append, environment
    )
    (_, login, _, _), (method, path, token, body) = asked
    assert login == "/auth/token"
    assert (method, token) == ("PATCH", "Bearer t")
    assert path == "/api/v2/dags/flight_delay/dagRuns/manual__2013-06-01T00%3A00%3A00%2B00%3A00?update_mask=note"
    assert len(body["note"]) == 1000
    assert said == []


def test_without_an_address_the_note_is_said(airflow):
    """Where nobody told how to reach Airflow, the note goes to the log."""
    said = []
    assert not notes.write("d", "r", "REFUSED", said.append, {})
    assert "REFUSED" in said[0]


def test_refused_note_fails_nothing(airflow):
    """An Airflow that cannot be reached costs the note, not the night; the password is not in the log."""
    said = []
    broken = {**airflow[0], "RATCHET_AIRFLOW_URL": "nonsense"}
    assert not notes.write("d", "r", "REFUSED", said.append, broken)
    assert "REFUSED" in said[0]
    assert "secret" not in said[0]
