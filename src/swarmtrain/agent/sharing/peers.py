"""Contents of files, from one agent to another: asked for by their hash, so that no path ever crosses the wire.

A peer connects for one of them, proves itself as towards the coordinator, and asks for its hash from an offset on. What
follows is the size, how many bytes come now, and these: who pulls asks for the next, which says that it has them, and
knows by the hash that they are what it asked for. What a generation waits for comes at once, what can wait at a pace
(pace.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from swarmtrain.agent.sharing.pace import PIECE, Pace
from swarmtrain.agent.sharing.walk import read_plain
from swarmtrain.errors import ChannelError
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.door import Door
from swarmtrain.wire.frames import Message

_AT_ONCE = 4 << 20  # bytes of an answer; they may all be in memory where a disk is slow
_QUESTION = 4096  # bytes of a question or an answer
_STILL = 20.0  # seconds without a byte after which a peer is given up
_TURN = 600.0  # seconds in which it comes to a piece that can wait: others may be before it
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
        channel = Channel(reader, writer)
        try:
            asked = _Question.of(await self._door.admit(channel))
            file = await asyncio.to_thread(self._open, asked.content)
            if file is None:
                await channel.send({"size": -1, "coming": 0})
                return
            with file:  # held open: it may be replaced while it is sent
                while (message := await self._answer(channel, file, asked)) is not None:
                    asked = _Question.of(message)
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self._door.refuse(channel, error)
        finally:
            channel.close()

    async def _answer(self, channel: Channel, file: BinaryIO, asked: _Question) -> Message | None:
        """Send what was asked for, or a piece of it; the next message."""
        if not asked.can_wait:
            async with self._slots:
                await _send(channel, file, asked.offset, _AT_ONCE)
            return await channel.receive(_QUESTION)
        async with self._pace.piece():
            await _send(channel, file, asked.offset, PIECE)
            return await asyncio.wait_for(channel.receive(_QUESTION), _STILL)

    def _open(self, content: str) -> BinaryIO | None:
        """The file that has it, unless that is a link."""
        path = self._locate(content)
        if path is None:
            return None
        try:
            return read_plain(path)
        except OSError:
            return None


async def _send(channel: Channel, file: BinaryIO, offset: int, most: int) -> None:
    size = os.fstat(file.fileno()).st_size
    left = max(0, min(most, size - offset))
    await channel.send({"size": size, "coming": left})
    file.seek(offset)
    while left > 0:
        piece = await asyncio.to_thread(file.read, min(PIECE, left))
        if not piece:
            raise ConnectionError(f"{file.name} has become shorter while it was sent")
        left -= len(piece)
        await asyncio.wait_for(channel.send_bytes(piece), _STILL)


class _Question(NamedTuple):
    """What a peer asks for: some of a content, from an offset on, now or when there is time."""

    content: str
    offset: int
    can_wait: bool

    @staticmethod
    def of(message: Message) -> _Question:
        """Read one. Raises ChannelError."""
        content, offset, can_wait = (message.get(key) for key in _Question._fields)
        if (
            not isinstance(content, str)
            or type(offset) is not int
            or offset < 0
            or not isinstance(can_wait, bool)
        ):
            raise ChannelError("a peer asked for what makes no sense")
        return _Question(content, offset, can_wait)


async def pull(
    token: str, peers: Sequence[str], content: str, size: int, target: Path, *, can_wait: bool = False
) -> None:
    """Have a content as a file, from whichever of the peers has it.

    What has come is kept beside the target: another try, of this peer or of the next, goes on from there.

    Args:
        peers: their addresses, of which the first is asked first.
        content: the SHA-256 of its bytes.
        target: is there whole when this returns.
        can_wait: others have the link first.

    Raises:
        ConnectionError: none of them has it, or it is not what it should be. OSError: the disk does not take it.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for peer in peers:
        try:
            await _pull(token, peer, content, size, part, can_wait=can_wait)
        except (ConnectionError, ChannelError, TimeoutError, asyncio.TimeoutError) as error:
            reasons.append(f"{peer}: {error or 'it has fallen silent'}")
            continue
        await asyncio.to_thread(part.replace, target)
        return
    raise ConnectionError("; ".join(reasons) or "nobody has it")


async def _pull(token: str, peer: str, content: str, size: int, part: Path, *, can_wait: bool) -> None:
    try:
        channel = Channel(*await sockets.dial(peer))
    except OSError as error:
        raise ConnectionError(str(error)) from error
    channel.keep_alive()
    try:
        await initiate(channel, token)
        with part.open("ab") as file:
            digest = await asyncio.to_thread(_digest_of, part)
            if file.tell() > size:
                raise ConnectionError(_torn(part))
            while (have := file.tell()) < size:
                await channel.send(_Question(content, have, can_wait)._asdict())
                answer = await asyncio.wait_for(channel.receive(_QUESTION), _TURN if can_wait else _STILL)
                coming = answer.get("coming") if answer is not None and answer.get("size") == size else None
                if not isinstance(coming, int) or not 0 < coming <= size - have:
                    raise ConnectionError("it does not have it any more")
                await _take(channel, coming, file, digest)
            await asyncio.to_thread(_flush, file)
        if digest.hexdigest() != content:
            raise ConnectionError(_torn(part))
    finally:
        channel.close()


async def _take(channel: Channel, left: int, file: BinaryIO, digest: hashlib._Hash) -> None:
    """Write down bytes as they come."""
    while left > 0:
        piece = await asyncio.wait_for(channel.receive_bytes(min(PIECE, left)), _STILL)
        if not piece:
            raise ConnectionError("it hung up")
        left -= len(piece)
        await asyncio.to_thread(_add, file, digest, piece)


def _torn(part: Path) -> str:
    """What has come is of no use: begin anew."""
    with contextlib.suppress(OSError):
        part.unlink()
    return "it has changed while it was copied"


def _digest_of(part: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest


def _add(file: BinaryIO, digest: hashlib._Hash, piece: bytes) -> None:
    file.write(piece)
    digest.update(piece)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
