"""A helper at work inside of a node: ``sabotage`` of the bundle, started by the node's agent as `exec` starts commands.

It holds a fault until its input ends. When this process dies, the connection breaks, the agent ends the helper, and
the helper undoes what it did: nothing stays broken because somebody's laptop was closed.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from swarmtrain.control.exec_session import Streams
from swarmtrain.errors import ClusterError, SwarmtrainError

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

_SECONDS = 30.0  # in which a helper starts, on a machine that is busy training, or lets go


class HeldFault:
    """One helper.

    Args:
        argv: its command line; it prints a line when it has done its work, and goes on as long as that lasts.
    """

    def __init__(self, handle: RunHandle, node: str, argv: Sequence[str]) -> None:
        self._handle, self._node, self._argv = handle, node, list(argv)
        self._source, self._sink = os.pipe()
        self._lock = threading.Lock()
        self._said, self._complained = _Heard(), _Heard()
        self._error: SwarmtrainError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sabotage on {node}", daemon=True)

    def wait_until_done(self) -> str:
        """Start it, and return what it says it has done.

        Raises:
            SwarmtrainError: it could not do it, or does not answer.
        """
        self._thread.start()
        self._said.heard.wait(_SECONDS)
        if self._said.text():
            return self._said.text()
        self.let_go()
        if self._error is not None:
            raise self._error
        raise ClusterError(self._complained.text() or f"{self._node} does not answer")

    def release(self) -> None:
        """Undo it, and wait until that is done. Raises ClusterError when the node does not answer."""
        self.let_go()
        if not self._ended.wait(_SECONDS):
            raise ClusterError(f"{self._node} does not answer; it undoes this itself when it can")

    def let_go(self) -> None:
        """End the helper's input; it undoes what it holds."""
        with self._lock:
            if self._sink >= 0:
                os.close(self._sink)
                self._sink = -1

    def _run(self) -> None:
        try:
            with os.fdopen(self._source, "rb", buffering=0) as source:
                streams = Streams(cast(BinaryIO, source), self._said, self._complained)
                self._handle.exec(self._argv, node=self._node, streams=streams)
                self.let_go()  # before the source is closed: somebody may be reading it
        except SwarmtrainError as error:
            self._error = error
        finally:
            self._ended.set()
            self._said.heard.set()


class _Heard(io.BytesIO):
    """Collects what a command prints, and says when a line has come."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        written = super().write(data)
        if b"\n" in data:
            self.heard.set()
        return written

    def text(self) -> str:
        return self.getvalue().decode(errors="replace").strip()
