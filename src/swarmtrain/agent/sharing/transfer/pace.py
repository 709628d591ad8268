"""How much of a link copies may take while gradients travel on it. Used by peers.py, on the side that sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

# Bytes. Much less would not get on: where gradients fill a link's queue, even a byte waits for a tenth of a second.
PIECE = 1 << 20


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

    @contextlib.asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """At most `PIECE` bytes may go, within the block: it ends when the peer has them."""
        loop = asyncio.get_running_loop()
        async with self._one:
            began = loop.time()
            yield
            await asyncio.sleep((loop.time() - began) * (1 / self._share - 1))
