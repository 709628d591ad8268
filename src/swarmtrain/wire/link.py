"""The framed channel for blocking code: the client's end of a connection to the coordinator.

The bytes come over a Unix socket (local) or the standard streams of a process such as ``docker exec``; whoever may
open those is already trusted by the file's mode or by Docker, so there is no second proof of identity here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.wire import frames
from swarmtrain.wire.frames import Message

_ERRORS: dict[int, type[SwarmtrainError]] = {
    kind.exit_code: kind for kind in SwarmtrainError.__subclasses__()
}
_ERRORS[ClusterError.exit_code] = ClusterError


class Link:
    """Requests and their replies over two binary streams.

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
            raise self._broken() from error

    def receive(self) -> Message | None:
        """The next message; None at the end of the connection."""
        header = self._exactly(4)
        if header is None:
            return None
        payload = self._exactly(frames.length(header))
        return None if payload is None else frames.unpack(payload)

    def request(self, **request: object) -> Iterator[Message]:
        """Send a request and yield its replies, the last of which holds ``done``.

        Raises:
            SwarmtrainError: the coordinator refused; the class that fits its exit code.
            ClusterError: the connection broke in the middle.
        """
        self.send(dict(request))
        while True:
            reply = self.receive()
            if reply is None:
                raise self._broken()
            if "error" in reply:
                kind = _ERRORS.get(reply.get("exit", 3), ClusterError)
                raise kind(reply["error"], reply.get("hint", ""))
            yield reply
            if "done" in reply:
                return

    def _broken(self) -> ClusterError:
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
