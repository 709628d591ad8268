"""A real webhook on this machine: it keeps what it gets, and answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """What a webhook has got.

    Attributes:
        got: the documents, by path.
        status: that it answers; 0: it answers nothing for `delay` seconds and hangs up.
        location: where it leads who asks, with a status of 3xx.
    """

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.status, self.delay, self.location, self.retry_after = 200, 0.0, "", ""
        self.tries = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.tries += 1
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(hook.delay)
                if not hook.status:
                    self.close_connection = True
                    return
                if 200 <= hook.status < 300:
                    hook.got.append((self.path, document))
                self.send_response(hook.status)
                for name, value in (("Location", hook.location), ("Retry-After", hook.retry_after)):
                    if value:
                        self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def address(self, path: str = "/hook/s3cr3t-of-mine") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def kinds(self) -> list[str]:
        """Of what it got in the generic form."""
        return [str(document["kind"]) for _, document in self.got if "kind" in document]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    """A webhook while a test runs."""
    hook = Webhook(port)
    try:
        yield hook
    finally:
        hook.close()
