"""The side that answers: small messages by TCP and UDP come back, and a stream is swallowed and counted.

A connection carries lines of JSON. ``{"do": "ping"}`` is answered with the clock's time; ``{"do": "swallow"}`` with
whether nobody else is at it, then whatever comes is counted until the other side has ended its part.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from contextlib import suppress

_BUFFER = 1 << 18
_IDLE_SECONDS = 10.0
_STREAM_SECONDS = 10.0  # after which whoever fills the way lets others try theirs, though it is a stranger
_NUMBER = 8  # bytes of a datagram by which its answer is known
_ANSWER = _NUMBER + 4
_swallowing = threading.Lock()  # two streams at once would measure each other


class _AnswerHandler(socketserver.StreamRequestHandler):
    """One connection."""

    timeout = _IDLE_SECONDS

    def handle(self) -> None:
        """Answer until the other side hangs up, or is silent for long."""
        try:
            while line := self.rfile.readline(1 << 10):
                if json.loads(line).get("do") == "swallow":
                    self._swallow()
                    return
                self._reply(time=time.time())
        except (OSError, ValueError):
            pass  # it has gone, or was never one of ours

    def _swallow(self) -> None:
        if not _swallowing.acquire(blocking=False):
            self._reply(busy=True)
            return
        try:
            self._reply(busy=False)
            began, received = time.monotonic(), 0
            while piece := self.connection.recv(_BUFFER):
                received += len(piece)
                if time.monotonic() - began > _STREAM_SECONDS:
                    return
            self._reply(bytes=received, seconds=time.monotonic() - began)
        finally:
            _swallowing.release()

    def _reply(self, **values: object) -> None:
        self.wfile.write(json.dumps(values).encode() + b"\n")


class _AnswerServer(socketserver.ThreadingTCPServer):
    """Every connection in a thread."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def serve(port: int, address: str = "") -> threading.Thread:
    """Answer on a port, by TCP and UDP, until the process ends; the thread that does. Raises OSError."""
    server = _AnswerServer((address, port), _AnswerHandler)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, port))
    threading.Thread(target=_echo, args=(datagrams,), daemon=True).start()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return thread


def _echo(datagrams: socket.socket) -> None:
    """Answer each datagram with its size: small, so that only the way here is tried.

    What is no longer than an answer may be one: two who answered each other, since somebody forged the first datagram,
    would never end.
    """
    while True:
        data, peer = datagrams.recvfrom(1 << 16)
        if len(data) > _ANSWER:
            with suppress(OSError):  # a port that nobody can have, a network that is not reached
                datagrams.sendto(data[:_NUMBER] + len(data).to_bytes(_ANSWER - _NUMBER, "big"), peer)
