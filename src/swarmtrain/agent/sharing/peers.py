"""Contents of files, from one agent to another: asked for by their hash, so that no path ever crosses the wire.

A peer connects, proves itself as towards the coordinator, and asks for a hash from an offset on. What follows is the
size, and the bytes themselves: who pulls knows by the hash that they are what it asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from swarmtrain.errors import ChannelError
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, initiate
from swarmtrain.wire.door import Door
from swarmtrain.wire.frames import Message

PIECE = 1 << 20
_STILL = 20.0  # seconds without a byte after which a peer is given up
_ONES = 16  # peers that are served at one time

Locate = Callable[[str], "Path | None"]


class Rate:
    """At most so many bytes a second, over some tenths of a second.

    Args:
        limit: bytes a second; 0: as fast as it goes.
    """

    def __init__(self, limit: float = 0.0) -> None:
        self.limit = limit
        self._due = 0.0

    async def spend(self, count: int) -> None:
        """Wait until so many bytes may follow those before them."""
        if self.limit > 0:
            now = time.monotonic()
            self._due = max(self._due, now - 0.1) + count / self.limit
            if self._due > now:
                await asyncio.sleep(self._due - now)


class PeerServer:
    """Serves the contents that this node holds.

    Args:
        locate: the file that has a content, by its hash; None where there is none.
    """

    def __init__(self, token: str, locate: Locate) -> None:
        self._locate = locate
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
            message: Message | None = await self._door.admit(channel)
            while message is not None:
                async with self._slots:
                    await self._answer(channel, message)
                message = await channel.receive(PIECE)
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self._door.refuse(channel, error)
        finally:
            channel.close()

    async def _answer(self, channel: Channel, message: Message) -> None:
        content, offset = message.get("content"), message.get("offset")
        if not isinstance(content, str) or type(offset) is not int or offset < 0:
            raise ChannelError("a peer asked for what makes no sense")
        found = self._locate(content)
        try:
            file = await asyncio.to_thread(_open, found) if found is not None else None
        except OSError:
            file = None
        if file is None:
            await channel.send({"size": -1})
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            await channel.send({"size": size})
            file.seek(offset)
            left = size - offset
            while left > 0:
                piece = await asyncio.to_thread(file.read, min(PIECE, left))
                if not piece:
                    raise ConnectionError(f"{found} has become shorter while it was sent")
                left -= len(piece)
                await asyncio.wait_for(channel.send_bytes(piece), _STILL)


def _open(path: Path) -> BinaryIO:
    """A file that is none of those that lead elsewhere. Raises OSError."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


async def pull(
    token: str, peers: Sequence[str], content: str, size: int, target: Path, rate: Rate | None = None
) -> None:
    """Have a content as a file, from whichever of the peers has it.

    What has come is kept beside the target: another try, of this peer or of the next, goes on from there.

    Args:
        peers: their addresses, of which the first is asked first.
        content: the SHA-256 of its bytes.
        target: is there whole when this returns.

    Raises:
        ConnectionError: none of them has it, or it is not what it should be. OSError: the disk does not take it.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for peer in peers:
        try:
            await _pull(token, peer, content, size, part, rate or Rate())
        except (ConnectionError, ChannelError, TimeoutError, asyncio.TimeoutError) as error:
            reasons.append(f"{peer}: {error or 'it has fallen silent'}")
            continue
        await asyncio.to_thread(part.replace, target)
        return
    raise ConnectionError("; ".join(reasons) or "nobody has it")


async def _pull(token: str, peer: str, content: str, size: int, part: Path, rate: Rate) -> None:
    try:
        channel = Channel(*await sockets.dial(peer))
    except OSError as error:
        raise ConnectionError(str(error)) from error
    try:
        await initiate(channel, token)
        with part.open("ab") as file:
            digest = await asyncio.to_thread(_digest_of, part)
            have = file.tell()
            if have > size:
                raise ConnectionError(_torn(part))
            await channel.send({"content": content, "offset": have})
            answer = await asyncio.wait_for(channel.receive(), _STILL)
            if answer is None or answer.get("size") != size:
                raise ConnectionError("it does not have it any more")
            while have < size:
                piece = await asyncio.wait_for(channel.receive_bytes(min(PIECE, size - have)), _STILL)
                if not piece:
                    raise ConnectionError("it hung up")
                have += len(piece)
                await asyncio.to_thread(_add, file, digest, piece)
                await rate.spend(len(piece))
            await asyncio.to_thread(_flush, file)
        if digest.hexdigest() != content:
            raise ConnectionError(_torn(part))
    finally:
        channel.close()


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
