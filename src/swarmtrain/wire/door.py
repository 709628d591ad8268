"""The door of who listens on the run's network: who comes in, within what time, and how many may stand before it.

Anybody on that network can connect. Whoever knows the run's token has proved it within milliseconds; so when too many
stand at the door, the one that has stood there longest goes, not the one that comes: silent connections keep no agent
out, however many there are. The coordinator has one for agents and clients, and an agent for its peers.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import Counter
from collections.abc import Callable

from swarmtrain.errors import ChannelError, in_short
from swarmtrain.wire.channel import OPENING_SECONDS, Channel, accept
from swarmtrain.wire.clock import MACHINE, Clock
from swarmtrain.wire.frames import Message

_AT_THE_DOOR = 64  # connections that may be proving themselves at one time
_OF_ONE_ADDRESS = 8  # of these
_QUIET_SECONDS = 60.0  # between two words about those who were turned away: noise must not fill the disk


class Door:
    """Lets in who knows the token.

    Args:
        tell: is told once that somebody was turned away.
        clock: of this machine.
        readers: who knows the reader's key comes in, too.
    """

    def __init__(
        self,
        token: str,
        tell: Callable[[str], object] = lambda text: None,
        clock: Clock = MACHINE,
        *,
        readers: bool = False,
    ) -> None:
        self._token, self._tell, self._clock, self._readers = token, tell, clock, readers
        self._waiting: dict[Channel, str] = {}  # and their addresses, the oldest first
        self._refused = 0  # since this was last said
        self._said: float | None = None  # monotonic time of that

    async def admit(self, channel: Channel) -> Message:
        """The first message of a peer that has proved itself. One deadline holds for all that comes before it.

        Raises:
            ChannelError: it did not. TimeoutError: it took too long. ConnectionError: it went away.
        """
        self._make_room(channel.address)
        self._waiting[channel] = channel.address
        try:
            message = await asyncio.wait_for(self._opened(channel), OPENING_SECONDS)
        finally:
            self._waiting.pop(channel, None)
        if message is None:
            raise ChannelError("it closed the connection before it joined")
        try:
            channel.keep_alive()
        except OSError as error:  # it has just gone, or had to make room
            raise ConnectionError("it closed the connection as it joined") from error
        return message

    async def _opened(self, channel: Channel) -> Message | None:
        await accept(channel, self._token, readers=self._readers)
        return await channel.receive()

    def _make_room(self, address: str) -> None:
        """Let the oldest go: of this address if it has many, else of the one that has the most.

        A Unix socket has no addresses, and nobody but its owner can open it.
        """
        many = Counter(self._waiting.values())
        crowd = address if address and many[address] >= _OF_ONE_ADDRESS else ""
        if not crowd and len(self._waiting) >= _AT_THE_DOOR:
            crowd = many.most_common(1)[0][0]
        elif not crowd:
            return
        oldest = next(channel for channel, its in self._waiting.items() if its == crowd)
        del self._waiting[oldest]
        oldest.abort()

    def refuse(self, channel: Channel, error: Exception) -> None:
        """Say who was turned away and why; of many, once a minute how many they were."""
        self._refused += 1
        now = self._clock.monotonic()
        if self._said is not None and now - self._said < _QUIET_SECONDS:
            return
        who = channel.address or "a local process"
        which = f"a connection from {who}"
        if self._refused > 1:
            which = f"{self._refused} connections, the last from {who}"
        text = f"refused {which}: {in_short(error) or 'it did not prove itself in time'}"
        print(text, file=sys.stderr, flush=True)
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        if self._said is None:
            self._tell(text)
        self._said, self._refused = now, 0
