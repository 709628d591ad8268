"""Contents of files, served to other agents: asked for by their hashes, so that no path ever crosses the wire.

A peer connects, proves itself as towards the coordinator, and asks for some contents by their hashes, for the first
from an offset on. What follows is the size of each and how many bytes of it come now, and these, as many as are let go
at one time: who pulls (pulling.py) asks for the next, which says that it has them, and knows by the hash that they are
what it asked for. What a generation waits for comes at once, what can wait at a pace (pace.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from swarmtrain.agent.sharing.transfer.pace import PIECE, Pace
from swarmtrain.agent.sharing.walk import read_content
from swarmtrain.errors import ChannelError
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.door import Door
from swarmtrain.wire.frames import Message

AT_ONCE = 4 << 20  # bytes of an answer; they may all be in memory where a disk is slow
MOST_ASKED = 100  # contents in one question
QUESTION = 16 << 10  # bytes of a question or an answer
STILL = 20.0  # seconds without a byte after which a peer is given up
SMALL = 64 << 10  # bytes of a file that is read and sent with others
_ONES = 16  # peers that are served at one time, besides those that can wait

Locate = Callable[[str], "Path | None"]


class PeerServer:
    """Serves the contents that this node holds.

    Args:
        locate: the file that has a content, by its hash; None where there is none.
        pace: of what can wait.
    """

    def __init__(self, token: str, locate: Locate, pace: Pace) -> None:
        self._locate, self._pace = locate, pace
        self._door = Door(token)
        self._server: asyncio.Server | None = None
        self._slots = asyncio.Semaphore(_ONES)
        self.address = ""

    async def listen(self, address: str) -> None:
        """Listen on an address of this machine, on any port. Raises OSError."""
        if self._server is None or self.address.rpartition(":")[0] != address:
            self.close()
            self._server = await sockets.serve(f"{address}:0", self._serve)
            self.address = f"{address}:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel, contents = Channel(reader, writer), _OpenContents(self._locate)
        try:
            message: Message | None = await self._door.admit(channel)
            while message is not None:
                message = await self._answer(channel, contents, Question.of(message))
        except (ChannelError, OSError, TimeoutError, asyncio.TimeoutError) as error:
            self._door.refuse(channel, error)
        finally:
            contents.close()
            channel.close()

    async def _answer(self, channel: Channel, contents: _OpenContents, asked: Question) -> Message | None:
        """Send what was asked for, or a piece of it; the next message."""
        if not asked.can_wait:
            async with self._slots:
                await _send(channel, contents, asked, AT_ONCE)
            return await channel.receive(QUESTION)
        async with self._pace.piece():
            await _send(channel, contents, asked, PIECE)
            return await asyncio.wait_for(channel.receive(QUESTION), STILL)


class _Part(NamedTuple):
    """What goes now of a file.

    Attributes:
        size: the file's; -1 where there is none.
        coming: how many bytes.
        content: these, where the file is small.
        file, offset: where they are, where it is not.
    """

    size: int
    coming: int
    content: bytes = b""
    file: BinaryIO | None = None
    offset: int = 0


class _OpenContents:
    """What one peer has: a file of which it has a part stays open between its questions, as it may be replaced."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._held: tuple[str, BinaryIO] | None = None

    def parts(self, asked: Question, most: int) -> list[_Part]:
        """What goes now of what was asked for: small files while they fit, and one that is not, or as much as fits.

        In a thread. No more than one file stays open. Raises OSError.
        """
        parts, offset = list[_Part](), asked.offset
        for content in asked.contents:
            file = self._open(content)
            if file is None:
                parts.append(_Part(-1, 0))
                continue
            size = os.fstat(file.fileno()).st_size
            if offset or size > min(most, SMALL):
                self._hold(content, file)
                coming = max(0, min(most, size - offset))
                if coming or not parts:
                    parts.append(_Part(size, coming, file=file, offset=offset))
                break
            with file:
                parts.append(_Part(size, size, _read(file, 0, size)))
            most -= size
        return parts

    def _open(self, content: str) -> BinaryIO | None:
        """The file that has it."""
        if self._held is not None and self._held[0] == content:
            return self._held[1]
        path = self._locate(content)
        try:
            return read_content(path) if path is not None else None
        except OSError:
            return None

    def _hold(self, content: str, file: BinaryIO) -> None:
        if self._held is not None and self._held[1] is not file:
            self._held[1].close()
        self._held = (content, file)

    def close(self) -> None:
        """The peer has gone."""
        if self._held is not None:
            self._held[1].close()


async def _send(channel: Channel, contents: _OpenContents, asked: Question, most: int) -> None:
    parts = await asyncio.to_thread(contents.parts, asked, most)
    await channel.send({"files": [[part.size, part.coming] for part in parts]})
    await _send_bytes(channel, b"".join(part.content for part in parts))
    last = parts[-1]
    left = last.coming if last.file is not None else 0
    while left > 0 and last.file is not None:
        at = last.offset + last.coming - left
        piece = await asyncio.to_thread(_read, last.file, at, min(PIECE, left))
        left -= len(piece)
        await _send_bytes(channel, piece)


async def _send_bytes(channel: Channel, data: bytes) -> None:
    await asyncio.wait_for(channel.send_bytes(data), STILL)


def _read(file: BinaryIO, offset: int, most: int) -> bytes:
    """So many bytes of a file. Raises ConnectionError: it has fewer."""
    file.seek(offset)
    piece = file.read(most)
    if len(piece) < most:
        raise ConnectionError(f"{file.name} has become shorter while it was sent")
    return piece


class Question(NamedTuple):
    """What a peer asks for: contents, the first from an offset on, now or when there is time."""

    contents: list[str]
    offset: int
    can_wait: bool

    @staticmethod
    def of(message: Message) -> Question:
        """Read one. Raises ChannelError."""
        contents, offset, can_wait = (message.get(key) for key in Question._fields)
        if (
            not isinstance(contents, list)
            or not 0 < len(contents) <= MOST_ASKED
            or not all(isinstance(each, str) for each in contents)
            or type(offset) is not int
            or offset < 0
            or not isinstance(can_wait, bool)
        ):
            raise ChannelError("a peer asked for what makes no sense")
        return Question(contents, offset, can_wait)
