"""Carries what workers write into their files to the coordinator, each byte exactly once.

Workers write straight into files on the node, so nothing they wrote is lost when a container or a connection dies.
A tail remembers how far the coordinator has confirmed a file; after a reconnect it goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from swarmtrain.protocol.from_agent import MeasuredPiece, MetricsPiece, OutputPiece
from swarmtrain.wire import frames

PIECE = 1 << 20  # bytes of a piece; a line that is longer is sent in several
_WINDOW = 4 * PIECE  # bytes that may be on their way unconfirmed
# Every look, and every message with its answer, takes processor time from the workers of a full machine: people read
# output as it comes, but metrics can wait for each other. benchmarks/step_overhead.py holds what it costs.
_INTERVAL = 0.2  # seconds between two looks at the files
_GATHER = {"output": 0.0, "metrics": 1.0, "measured": 1.0}  # seconds between two pieces of a file
_LATER = 5.0  # seconds until the coordinator, whose disk is full, is sent anything of a file again
_SHOW_SECONDS = 0.4  # between two looks at a line that goes on, such as a progress bar

Key = tuple[str, int, int]  # "output" or "metrics", generation, rank; or as `measured_key` makes it
Piece = Union[OutputPiece, MetricsPiece, MeasuredPiece]  # noqa: UP007 - a value


def measured_key(number: int) -> Key:
    """That of a file of what the node measures of itself, which is no worker's."""
    return "measured", number, -1


@dataclass
class _Tail:
    """How far a file has been carried.

    Attributes:
        sent: up to there it is on its way.
        confirmed: up to there the coordinator has it in its own file.
        whole: where the last whole line ends that was sent.
        due: monotonic time before which no further piece is sent, unless it is closed.
        shown: monotonic time at which a line was last sent that goes on.
        closed: its worker is gone, and what is there is all there will be.
        put_off: monotonic time before which nothing is sent, closed or not.
    """

    path: Path
    sent: int = 0
    confirmed: int = 0
    whole: int = 0
    due: float = 0.0
    shown: float = 0.0
    closed: bool = False
    put_off: float = 0.0


class Tails:
    """Those of all files of a node."""

    def __init__(self) -> None:
        self._tails: dict[Key, _Tail] = {}
        self._moved = asyncio.Event()
        self._pause: asyncio.Future[None] | None = None  # between two looks

    def watch(self, key: Key, path: Path) -> None:
        """Begin with a file, which need not exist yet."""
        self._tails[key] = _Tail(path)

    def resume(self, key: Key, path: Path) -> None:
        """Go on with a file that nobody writes any more; where that has begun, or it is still written, do nothing."""
        self._tails.setdefault(key, _Tail(path, closed=True))

    def close(self, generation: int, rank: int) -> None:
        """The worker is gone: its last line counts as whole even without a newline, and is sent again as such."""
        for (_, g, r), tail in self._tails.items():
            if (g, r) == (generation, rank):
                tail.closed = True
                tail.sent = max(tail.confirmed, min(tail.sent, tail.whole))
        self._moved.set()
        _end(self._pause)

    def confirm(self, key: Key, offset: int) -> None:
        """The coordinator has everything of a file up to ``offset``."""
        tail = self._tails.get(key)
        if tail is None:
            return
        if offset < tail.confirmed or offset > tail.sent:
            return
        tail.confirmed = offset
        self._moved.set()

    def put_off(self, key: Key) -> None:
        """The coordinator's disk is full: what it has not confirmed of a file goes there again, after a while."""
        tail = self._tails.get(key)
        if tail is not None:
            tail.sent = tail.whole = tail.confirmed
            tail.put_off = time.monotonic() + _LATER

    def let_go(self, key: Key) -> bool:
        """Carry a file no longer of which everything has come; whether it has."""
        tail = self._tails.get(key)
        if tail is None or (tail.closed and tail.confirmed >= _size(tail.path)):
            self._tails.pop(key, None)
            return True
        return False

    def rewind(self, offsets: dict[Key, int]) -> None:
        """A new connection: go on from what the coordinator has."""
        for key, tail in self._tails.items():
            tail.sent = tail.confirmed = tail.whole = offsets.get(key, 0)
        self._moved.set()

    def written(self) -> int:
        """Bytes in all files of workers together: it grows as long as they write."""
        return sum(_size(tail.path) for tail in self._of_workers())

    def _of_workers(self) -> list[_Tail]:
        """What nodes measure goes on for ever: nobody waits for its end."""
        return [tail for (kind, *_), tail in self._tails.items() if kind != "measured"]

    async def drained(self) -> None:
        """Wait until everything is confirmed that is there."""
        while self._behind():
            self._moved.clear()
            await self._moved.wait()

    async def run(self, send: Callable[[Piece], Awaitable[None]]) -> None:
        """Send pieces for as long as the connection lives.

        Args:
            send: carries one piece to the coordinator, waiting while it is slow; raises ConnectionError.
        """
        while True:
            busy = False
            now = time.monotonic()
            for key, tail in list(self._tails.items()):
                is_due = now >= tail.put_off and (tail.closed or now >= tail.due)
                if is_due and tail.sent - tail.confirmed < _WINDOW:
                    piece = _next(key, tail)
                    if piece is not None:
                        busy = True
                        if gather := _GATHER[key[0]]:  # the pieces of all ranks go at one time
                            tail.due = now - now % gather + gather
                        await send(piece)
            if not busy:
                loop = asyncio.get_running_loop()
                self._pause = loop.create_future()
                loop.call_later(_INTERVAL, _end, self._pause)
                await self._pause

    def _behind(self) -> bool:
        """Whether anything is not confirmed; files of which everything is, and all there will be, are let go of."""
        for key, tail in list(self._tails.items()):
            if key[0] != "measured" and tail.closed and tail.confirmed >= _size(tail.path):
                del self._tails[key]
        return any(tail.confirmed < _size(tail.path) for tail in self._of_workers())


def _end(pause: asyncio.Future[None] | None) -> None:
    if pause is not None and not pause.done():
        pause.set_result(None)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - asked many times a second, and pathlib takes thrice as long
    except FileNotFoundError:
        return 0


def _next(key: Key, tail: _Tail) -> Piece | None:
    """The next piece of a file, or None when there is nothing to send now.

    Whole lines are sent at once. What is there of one that goes on follows, a few times a second; of metrics, whose
    lines are written at once, never.
    """
    if _size(tail.path) <= tail.sent:
        return None
    with tail.path.open("rb") as file:
        file.seek(tail.sent)
        data = file.read(PIECE)
        at_end = file.tell() == os.fstat(file.fileno()).st_size
    kind, generation, rank = key
    cut = whole = data.rfind(b"\n") + 1
    last = tail.closed and at_end
    if last or (whole == 0 and len(data) == PIECE):
        cut = len(data)
    elif kind == "output" and whole < len(data) and time.monotonic() - tail.shown >= _SHOW_SECONDS:
        cut, tail.shown = len(data), time.monotonic()
    if cut == 0:
        return None
    if whole:
        tail.whole = tail.sent + whole
    offset, text = tail.sent, frames.text(data[:cut])
    tail.sent += cut
    if kind == "metrics":
        return MetricsPiece(generation, rank, offset, text, _boot())
    if kind == "measured":
        return MeasuredPiece(generation, offset, text, _boot())
    return OutputPiece(generation, rank, offset, text, last)


def _boot() -> float:
    """The Unix time at which monotonic time was 0, as this machine's clock has it now."""
    return round(time.time() - time.monotonic(), 3)
