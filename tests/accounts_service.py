"""An HTTP directory for tests: answers look-ups as `gateway.plugins.identity.http` says, and fails in as many ways as asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Service:
    """A service on a free loopback port. accounts: by `sha256:<hex>`; behave: what answers in place of it; seen: requests.

    takes: seconds until it answers.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, Any] = {}
        self.seen: list[tuple[dict[str, str], Any]] = []
        self.behave: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.resumed = threading.Event()
        self.takes = 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.seen.append(({name.lower(): value for name, value in self.headers.items()}, asked))
                if service.behave is not None:
                    service.behave(self)
                    return
                time.sleep(service.takes)
                entry = service.accounts.get(asked["credential"])
                reply(self, 404 if entry is None else 200, {} if entry is None else entry)

            def log_message(self, *args: object) -> None:
                pass

        class Listening(ThreadingHTTPServer):
            request_queue_size = 128

        self._server = Listening(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/accounts"

    def stall(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers nothing until `resumed`; then hangs up."""
        self.resumed.wait(30)
        handler.close_connection = True

    def close(self) -> None:
        self.resumed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, document: Any) -> None:
    """Answer with JSON, or with bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
