"""Real servers for the contract suites, started once a session on free ports, and a proxy that breaks what passes through it."""

from __future__ import annotations

import contextlib
import http.client
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ratchet.adapters.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ratchet.stack import Embedded


@pytest.fixture
def s3(stack: Embedded, tmp_path: Path) -> S3Store:
    """A store on the real server, in a bucket of the test's own that is not there yet."""
    return S3Store(stack.environment["RATCHET_S3_ENDPOINT"], f"test-{uuid.uuid4().hex}", tmp_path / "cache")


class Proxy:
    """Stands between a client and a server, and does to each reply what ``fault`` says.

    Args:
        upstream: address of the real server.

    ``fault`` is given method, path and how many such requests came before; it returns one of

    ========= =================================================================
    ``pass``  let it through
    ``cut``   send the headers and half of the body, then close the connection
    ``flip``  change one byte of the body
    ``stall`` send the headers and half of the body, then nothing until the proxy is closed
    ``drip``  send the headers and half of the body, then a byte now and then
    ``drop``  let the server do it, and close without a reply
    number    answer with this status, without asking the server
    ========= =================================================================
    """

    def __init__(self, upstream: str) -> None:
        self.fault: Callable[[str, str, int], str | int] = lambda *_: "pass"
        self.seen: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str]] = []  # of each request seen, with names in lower case
        self.without: set[str] = set()  # headers, in lower case, that the server is not shown
        self.sent = 0  # bytes of bodies
        self._closed = threading.Event()
        proxy, target = self, urlsplit(upstream).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _pass_on(self) -> None:
                before = proxy.seen.count((self.command, self.path))
                proxy.seen.append((self.command, self.path))
                proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault(self.command, self.path, before)
                if isinstance(fault, int):
                    self._answer(
                        fault,
                        {"Content-Type": "application/xml"},
                        b"<Error><Code>Injected</Code></Error>" if fault >= 300 else b"",
                    )
                    return
                left_out = {"expect", *proxy.without}
                kept = {
                    k: v for k, v in self.headers.items() if k.lower() not in left_out
                }  # a signature covers the host
                server = http.client.HTTPConnection(target)
                server.request(
                    self.command, self.path, body, {**kept, **({} if "Authorization" in kept else {"Host": target})}
                )
                reply = server.getresponse()
                data, headers = reply.read(), dict(reply.getheaders())
                server.close()
                self.close_connection = True
                if fault == "flip":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if fault != "drop":
                    half = len(data) // 2 if fault in {"cut", "stall", "drip"} else None
                    with contextlib.suppress(ConnectionError):  # the client has left
                        self._answer(reply.status, headers, data, half)
                        while fault in {"stall", "drip"} and not proxy._closed.wait(0.1):
                            self.wfile.write(b"" if fault == "stall" else b".")

            def _answer(self, status: int, headers: dict[str, str], data: bytes, only: int | None = None) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                length = headers.get("content-length", str(len(data))) if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(data if only is None else data[:only])
                proxy.sent += len(data if only is None else data[:only])
                self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _pass_on  # noqa: N815  the names that http.server asks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def s3_proxy(stack: Embedded) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    proxy = Proxy(stack.environment["RATCHET_S3_ENDPOINT"])
    yield proxy
    proxy.close()


@pytest.fixture
def mlflow_proxy(stack: Embedded) -> Iterator[Proxy]:
    """A proxy before the MLflow server."""
    proxy = Proxy(stack.environment["MLFLOW_TRACKING_URI"])
    yield proxy
    proxy.close()
