"""How much of a link copies may take while gradients travel on it. Used by peers.py, on the side that sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

LEAST, MOST = 16 << 10, 1 << 20  # bytes of a piece
BRIEF, LONG = 0.01, 0.04  # seconds that a piece takes: below the one they grow, above the other they shrink


class Pace:
    """Lets pieces go one at a time, each followed by a rest, so that the link is theirs for a share of the time.

    How fast a link is need not be known for that. The longer a piece takes, since the link is slow, or busy with
    gradients, the longer it is left alone. At no time do more bytes wait before it than those of one piece.

    Args:
        share: of the time, above 0; 1: no rest.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._one = asyncio.Lock()
        self._most = LEAST

    @contextlib.asynccontextmanager
    async def piece(self) -> AsyncIterator[int]:
        """The most bytes that may go now, within the block: it ends when the peer has them."""
        loop = asyncio.get_running_loop()
        async with self._one:
            began = loop.time()
            yield self._most
            took = loop.time() - began
            if took < BRIEF:
                self._most = min(2 * self._most, MOST)
            elif took > LONG:
                self._most = max(self._most // 2, LEAST)
            await asyncio.sleep(took * (1 / self._share - 1))
