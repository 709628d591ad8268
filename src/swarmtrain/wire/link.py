"""The framed channel for blocking code: the client's end of a connection to the coordinator.

The bytes come over a Unix socket (local) or the standard streams of a process such as ``docker exec``; whoever may
open those is already trusted by the file's mode or by Docker, so there is no second proof of identity here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO

from swarmtrain.errors import ClusterError
from swarmtrain.wire import frames
from swarmtrain.wire.frames import Message


class Link:
    """Messages over two binary streams; what is asked and answered over it, protocol.ask knows.

    Args:
        source: where replies are read from.
        sink: where requests are written to.
        hang_up: ends the connection from any thread; a blocked read then returns.
        why: says why the connection broke, as far as that is known; empty otherwise.
    """

    def __init__(
        self,
        source: BinaryIO,
        sink: BinaryIO,
        hang_up: Callable[[], None],
        why: Callable[[], str] = lambda: "",
    ) -> None:
        self._source = source
        self._sink = sink
        self._hang_up = hang_up
        self._why = why
        self._writing = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message. Raises ClusterError when the coordinator is gone."""
        try:
            with self._writing:
                self._sink.write(frames.pack(message))
                self._sink.flush()
        except (OSError, ValueError) as error:
            raise self.broken() from error

    def receive(self) -> Message | None:
        """The next message; None at the end of the connection."""
        header = self._exactly(4)
        if header is None:
            return None
        payload = self._exactly(frames.length(header))
        return None if payload is None else frames.unpack(payload)

    def broken(self) -> ClusterError:
        """What is raised where the connection has broken, with what is known of why."""
        why = self._why()
        return ClusterError("the connection to the coordinator broke" + (f": {why}" if why else ""))

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._hang_up()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        while size:
            try:
                part = self._source.read(size)
            except (OSError, ValueError):
                return None
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
