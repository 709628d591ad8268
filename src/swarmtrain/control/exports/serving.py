"""A run's newest measurements, served to Prometheus from this machine: `swarmtrain metrics NAME --serve`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from swarmtrain.control.stopping import status_over
from swarmtrain.errors import ClusterError, RequestError, SwarmtrainError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.openmetrics import CONTENT_TYPE, names_this_machine, openmetrics

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run

LOOPBACK, PORT = "127.0.0.1", 9464  # the port is OpenTelemetry's for this
_AGAIN = 1.0  # seconds for which an answer is given again: several scrapers cost the run no more than one
_END = 0.05  # seconds within which the server hears that it is to end; Python's default makes a person wait for 0.5


class ServingAddress(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> ServingAddress:
    """An address as a person writes it: ``9464``, ``:9464``, ``0.0.0.0:9464``, ``[::1]:9464``; this machine by default.

    Raises:
        RequestError: it is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise RequestError(
            f"{text!r} is no address to listen on, which looks like 9464 or 0.0.0.0:9464",
            "--serve stands behind the run's name: swarmtrain metrics NAME --serve",
        )
    return ServingAddress(host or LOOPBACK, int(port))


def newest(launcher: Launcher, run: Run) -> str:
    """A run's newest measurements as OpenMetrics text.

    Raises:
        ClusterError: neither coordinator nor archive answers.
    """
    with launcher.connect(run) as link:
        status = status_over(link)
        replies = ask(link, SeriesRequest(points=False))
        return openmetrics(status, [reply.series for reply in replies if reply.series is not None])


@contextmanager
def serving(address: ServingAddress, read: Callable[[], str]) -> Iterator[ServingAddress]:
    """Serve what is read at ``/metrics``, in threads; where, as a port 0 lets the system choose.

    Raises:
        ClusterError: nobody can listen there.
    """
    try:
        server = _Server(address, read)
    except OSError as error:
        raise ClusterError(
            f"cannot listen on {address}: {error.strerror}", "give another one: --serve 127.0.0.1:PORT"
        ) from error
    threading.Thread(target=server.serve_forever, args=(_END,), name="metrics", daemon=True).start()
    try:
        yield ServingAddress(address.host, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: ServingAddress, read: Callable[[], str]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._known, self._at = "", -_AGAIN
        self.is_local = address.host in (LOOPBACK, "localhost", "::1")
        self.address_family = _family(address.host)
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up, or takes nothing, is its own affair."""

    def text(self) -> str:
        """What is served now. Raises SwarmtrainError."""
        with self._lock:
            if time.monotonic() - self._at >= _AGAIN:
                self._known, self._at = self._read(), time.monotonic()
            return self._known


def _family(host: str) -> int:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0  # seconds for a request

    def do_GET(self) -> None:
        if self.server.is_local and not names_this_machine(self.headers.get("Host", "")):
            return self._say(421, "text/plain", "this is served to this machine alone\n")
        if self.path.partition("?")[0] not in ("/metrics", "/metrics/"):
            return self._say(404, "text/plain", "the measurements are at /metrics\n")
        try:
            return self._say(200, CONTENT_TYPE, self.server.text())
        except SwarmtrainError as error:
            return self._say(503, "text/plain", f"{error.message}\n")

    def _say(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of who asks."""
