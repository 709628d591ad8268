"""Contents of files, from other agents (peers.py): many on one connection, and on the disk for good many at a time.

What comes is written beside its place. A content is in its place when the disk has it: so one that lies there is whole,
also after the power has gone. A part that lies beside one is where the next try goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from swarmtrain.agent.sharing.transfer.pace import PIECE
from swarmtrain.agent.sharing.transfer.peers import MOST_ASKED, QUESTION, SMALL, STILL, Question
from swarmtrain.errors import ChannelError
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, initiate

_TURN = 600.0  # seconds in which it comes to a piece that can wait: others may be before it
_SYNCED_AT_ONCE = 500  # contents that the disk is asked to have, and the most that are lost by a power cut
_CHANGED = "it has changed while it was copied"
_SYNCING = 16  # at one time: a disk that has a journal writes it once for all of them

T = TypeVar("T")


@dataclass
class WantedContent:
    """A content that is to come.

    Attributes:
        sha256: of its bytes.
        target: is there whole when it has come.
        peers: addresses of who has it, the first is asked first.
        reasons: why those that were asked did not give it.
    """

    sha256: str
    size: int
    target: Path
    peers: list[str]
    reasons: list[str] = field(default_factory=list)

    @property
    def part(self) -> Path:
        """What has come of it."""
        return self.target.with_name(f"{self.target.name}.part")

    def have(self) -> int:
        """Bytes that have come."""
        try:
            return self.part.stat().st_size
        except OSError:
            return 0


async def pull(
    token: str,
    wanted: Iterable[WantedContent],
    *,
    can_wait: bool = False,
    came: Callable[[WantedContent], object] = lambda each: None,
) -> None:
    """Have contents as files, each from whichever of its peers has it.

    What has come is kept: another try, of this peer or of the next, goes on from there.

    Args:
        token: the run's.
        can_wait: others have the link first.
        came: is told of each.

    Raises:
        ConnectionError: nobody has one of them, or it is not what it should be. OSError: the disk does not take it.
    """
    left = {each.sha256: each for each in wanted}
    done = _Done(came)
    try:
        while left:
            first = next(iter(left.values()))
            if not first.peers:
                raise ConnectionError("; ".join(first.reasons) or "nobody has it")
            peer = first.peers[0]
            mine = [each for each in left.values() if each.peers and each.peers[0] == peer]
            try:
                await _PeerConnection(token, peer, done, can_wait=can_wait).pull(mine)
            except (ConnectionError, ChannelError, TimeoutError, asyncio.TimeoutError) as error:
                for each in mine:
                    each.reasons.append(f"{peer}: {error or 'it has fallen silent'}")
            for each in mine:  # whoever did not give it is not asked again
                each.peers = each.peers[1:]
            left = {sha256: each for sha256, each in left.items() if sha256 not in done.sha256s}
    finally:
        await _in_thread(done.settle)


class _Done:
    """Contents that have come, of which the disk has not been asked to have the newest yet."""

    def __init__(self, came: Callable[[WantedContent], object]) -> None:
        self._came = came
        self._waiting: list[WantedContent] = []
        self.sha256s: set[str] = set()

    async def add(self, each: WantedContent) -> None:
        """One has come, and is what it should be. Raises OSError."""
        self._waiting.append(each)
        self.sha256s.add(each.sha256)
        self._came(each)
        if len(self._waiting) >= _SYNCED_AT_ONCE:
            await _in_thread(self.settle)

    def settle(self) -> None:
        """Have the disk have them, and put each in its place. Raises OSError."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1:
            with ThreadPoolExecutor(_SYNCING) as several:
                list(several.map(_sync, (each.part for each in waiting)))
        elif waiting:
            _sync(waiting[0].part)
        for each in waiting:
            each.part.replace(each.target)


class _PeerConnection:
    """One connection to a peer."""

    def __init__(self, token: str, peer: str, done: _Done, *, can_wait: bool) -> None:
        self._token, self._peer, self._done, self._can_wait = token, peer, done, can_wait
        self._writing: asyncio.Future[None] | None = None

    async def pull(self, wanted: Sequence[WantedContent]) -> None:
        """Have what this peer has of it. Raises ConnectionError, ChannelError, TimeoutError, OSError."""
        try:
            channel = Channel(*await sockets.dial(self._peer))
        except OSError as error:
            raise ConnectionError(str(error)) from error
        channel.keep_alive()
        try:
            await initiate(channel, self._token)
            # What has come in part is asked for alone: only of the first one that is asked for a part is sent.
            begun = [each for each in wanted if each.have()]
            fresh = {each.sha256: each for each in wanted if each not in begun}
            for each in begun:
                await self._pull_one(channel, each)
            while fresh:
                await self._pull_some(channel, fresh)
            if self._writing is not None:
                await self._writing
        finally:
            channel.close()
            if self._writing is not None:
                await asyncio.wait([self._writing])

    async def _pull_some(self, channel: Channel, wanted: dict[str, WantedContent]) -> None:
        """Ask for as many as fit into a question; those about which that was answered are not wanted any more."""
        asked = list(wanted.values())[:MOST_ASKED]
        told = await self._ask(channel, [each.sha256 for each in asked], 0)
        whole = list[tuple[WantedContent, bytes]]()
        for each, (size, coming) in zip(asked, told, strict=False):
            del wanted[each.sha256]
            if size != each.size:
                each.reasons.append(f"{self._peer}: it does not have it any more")
            elif coming == size <= SMALL:
                whole.append((each, await self._receive(channel, size)))
            else:
                async with _Incoming(each) as incoming:
                    await self._take(channel, incoming, coming)
                    await self._go_on(channel, incoming)  # if there is more, it is the last one
        if self._writing is not None:
            await self._writing
        self._writing = asyncio.ensure_future(self._write(whole))  # while the next ones come

    async def _write(self, whole: Sequence[tuple[WantedContent, bytes]]) -> None:
        """Small contents have come. Raises OSError."""
        good = [each for each in whole if hashlib.sha256(each[1]).hexdigest() == each[0].sha256]
        await _in_thread(_write_all, good)
        for each, _ in good:
            await self._done.add(each)
        for each, content in whole:
            if (each, content) not in good:
                each.reasons.append(f"{self._peer}: {_CHANGED}")

    async def _receive(self, channel: Channel, size: int) -> bytes:
        pieces, left = list[bytes](), size
        while left > 0:
            pieces.append(await self._some(channel, left))
            left -= len(pieces[-1])
        return b"".join(pieces)

    async def _pull_one(self, channel: Channel, each: WantedContent) -> None:
        async with _Incoming(each) as incoming:
            await self._go_on(channel, incoming)

    async def _go_on(self, channel: Channel, incoming: _Incoming) -> None:
        """Have the rest of a content."""
        each = incoming.wanted
        while (have := incoming.have) < each.size:
            told = await self._ask(channel, [each.sha256], have)
            size, coming = told[0]
            if size != each.size or not 0 < coming <= size - have:
                each.reasons.append(f"{self._peer}: it does not have it any more")
                return
            await self._take(channel, incoming, coming)
        await self._finish(incoming)

    async def _finish(self, incoming: _Incoming) -> None:
        if incoming.is_whole():
            await self._done.add(incoming.wanted)
        else:
            incoming.discard()
            incoming.wanted.reasons.append(f"{self._peer}: {_CHANGED}")

    async def _ask(self, channel: Channel, contents: list[str], offset: int) -> list[tuple[int, int]]:
        """Ask for contents: the size of each of the first ones, and how many bytes of it come now."""
        await channel.send(Question(contents, offset, self._can_wait)._asdict())
        answer = await asyncio.wait_for(channel.receive(QUESTION), _TURN if self._can_wait else STILL)
        files = answer.get("files") if answer is not None else None
        if not isinstance(files, list) or not 0 < len(files) <= len(contents):
            raise ConnectionError("it hung up")
        return [_told(each) for each in files]

    async def _take(self, channel: Channel, incoming: _Incoming, left: int) -> None:
        """Write down bytes as they come."""
        while left > 0:
            piece = await self._some(channel, left)
            left -= len(piece)
            await incoming.add(piece)

    async def _some(self, channel: Channel, left: int) -> bytes:
        piece = await asyncio.wait_for(channel.receive_bytes(min(PIECE, left)), STILL)
        if not piece:
            raise ConnectionError("it hung up")
        return piece


class _Incoming:
    """A content that comes, and goes into a file beside its place."""

    def __init__(self, wanted: WantedContent) -> None:
        self.wanted, self.have = wanted, 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    async def __aenter__(self) -> _Incoming:
        await _in_thread(self._open)
        return self

    async def __aexit__(self, *ended: object) -> None:
        assert self._file is not None, "it was entered"
        self._file.close()

    def _open(self) -> None:
        part = self.wanted.part
        part.parent.mkdir(parents=True, exist_ok=True)
        self._file = part.open("ab")
        self.have = self._file.tell()
        if self.have:
            with part.open("rb") as before:
                while piece := before.read(PIECE):
                    self._digest.update(piece)

    async def add(self, piece: bytes) -> None:
        """Some more of it has come. Raises OSError."""
        await _in_thread(self._add, piece)
        self.have += len(piece)

    def _add(self, piece: bytes) -> None:
        assert self._file is not None, "it was entered"
        self._file.write(piece)
        self._file.flush()
        self._digest.update(piece)

    def is_whole(self) -> bool:
        """Whether what has come is what was asked for."""
        return self._digest.hexdigest() == self.wanted.sha256

    def discard(self) -> None:
        """What has come is of no use: begin anew."""
        with contextlib.suppress(OSError):
            self.wanted.part.unlink()


def _told(each: object) -> tuple[int, int]:
    """What a peer says of one content. Raises ChannelError."""
    if isinstance(each, list) and len(each) == 2 and all(type(number) is int for number in each):
        size, coming = each
        if 0 <= coming <= max(0, size):
            return size, coming
    raise ChannelError("a peer answered what makes no sense")


def _write_all(whole: Iterable[tuple[WantedContent, bytes]]) -> None:
    for each, content in whole:
        each.part.parent.mkdir(parents=True, exist_ok=True)
        each.part.write_bytes(content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Have a thread do it; who is cancelled meanwhile waits for it, so that nobody else does it at the same time."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
