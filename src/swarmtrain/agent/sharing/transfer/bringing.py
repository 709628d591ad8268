"""Orders to have versions here, as they are carried out: what comes from peers for one, and what is told of it.

Where workers wait for it, an order is carried out once, and whoever gave it plans anew if it fails. What is copied in
the background is nobody's to plan: it is tried until it is here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swarmtrain.agent.sharing.store import Store
from swarmtrain.agent.sharing.transfer.pulling import WantedContent, pull
from swarmtrain.agent.uplink import Background
from swarmtrain.protocol.shared_files import BringShared, SetVersion, SharedBrought, SharedFile

# seconds until a copy that has failed is tried again: twice as many each time
_PAUSE, _PAUSE_MOST = 1.0, 60.0


@dataclass
class Bringing:
    """What becomes of the order.

    Attributes:
        number: the order's.
        path: of the set, where it is one.
        files, size: that came from others; bytes.
        aside: paths of files that were in the way.
        failed: what could not be brought, in sentences.
        lacks_room: the disk is too full for it.
    """

    number: int
    files: int = 0
    size: int = 0
    aside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    path: str = ""
    lacks_room: bool = False
    _began: float = field(default_factory=time.monotonic)

    async def pull(
        self,
        token: str,
        missing: Mapping[str, SharedFile],
        sources: Mapping[str, Sequence[str]],
        store: Store,
        *,
        can_wait: bool = False,
    ) -> bool:
        """Have contents in the store; whether all of them have come.

        Args:
            token: the run's.
            missing: by their hashes.
            sources: the addresses of peers, by the hashes of what they have.
            can_wait: as in `pulling.pull`.
        """
        size = sum(file.size for file in missing.values())
        try:
            room = await asyncio.to_thread(store.room) if missing else size
        except OSError as error:
            self.failed.append(str(error))
            return False
        if size > room:
            self.lacks_room = True
            self.failed.append(f"{size / 1e6:.0f} MB do not fit on the disk, where a tenth stays free")
            return False
        try:
            wanted = [
                WantedContent(sha256, file.size, store.path(sha256), list(sources.get(sha256, [])))
                for sha256, file in missing.items()
            ]
            await pull(token, wanted, can_wait=can_wait, came=self._came)
        except OSError as error:
            named = (file.name for file in missing.values() if not store.has(file.sha256))
            self.failed.append(f"{next(named, 'what has come')}: {error}")
            return False
        return True

    def _came(self, each: WantedContent) -> None:
        self.files += 1
        self.size += each.size

    def told(self, directory: str = "") -> SharedBrought:
        """For the coordinator.

        Args:
            directory: where what was in the way lies now.
        """
        seconds = round(time.monotonic() - self._began, 3)
        directory = directory if self.aside else ""
        counts = (self.number, self.files, self.size, seconds)
        return SharedBrought(*counts, self.aside, directory, self.failed, self.path)


LATER = "later"  # why a copy is not complete: one that was ordered, too, is to come first


class CopyOrder(NamedTuple):
    """A version that is to be beside the working directory.

    Attributes:
        number: the order's.
        sources: the addresses of peers, by the hashes of what they have.
        can_wait: others have the link first.
    """

    number: int
    version: SetVersion
    sources: Mapping[str, Sequence[str]]
    can_wait: bool = True


class Copies:
    """What is copied here in the background: one set after the other, of each the newest version that was ordered.

    A set whose copy has failed rests for a while, whatever is ordered of it, and then is asked for: who has it may be
    found elsewhere by then, or have something newer.

    Args:
        copy: carry out an order; why it failed, or nothing. It begins with `LATER` where another one is to come first.
        ask: for an order of the newest version of a set, by its path; it may be lost.
        say: that a set's copies fail, and why; once for each time that they begin to.
    """

    def __init__(
        self,
        background: Background,
        copy: Callable[[CopyOrder], Awaitable[str]],
        ask: Callable[[str], Awaitable[None]],
        say: Callable[[str, str], None],
    ) -> None:
        self._background, self._copy, self._ask, self._say = background, copy, ask, say
        self._orders: dict[str, CopyOrder] = {}
        self._failed: dict[str, int] = {}  # how often in a row
        self._resting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._copying: asyncio.Task[None] | None = None
        self._cancelled: asyncio.Task[None] | None = None  # which may not have ended yet

    def pending(self) -> list[SetVersion]:
        """The versions that are on their way."""
        return [each.version for each in self._orders.values()]

    def order(self, said: BringShared) -> None:
        """Have these, too; what is urgent at once, whatever has failed or is being copied slowly."""
        if said.urgent:
            self.cancel()
        for version in said.versions:
            if version.path not in self._resting:
                order = CopyOrder(said.number, version, said.sources, can_wait=not said.urgent)
                self._orders[version.path] = order
        if self._orders and (self._copying is None or self._copying.done()):
            before, self._cancelled = self._cancelled, None
            self._copying = self._background.run(self._copy_all(before))

    def coming(self) -> set[str]:
        """The paths of the sets of which copies are on their way, or have failed and are to be tried again."""
        return {*self._orders, *self._failed}

    def forget(self, path: str) -> None:
        """A set was deleted: nobody asks for a copy of it any more."""
        self._orders.pop(path, None)
        self._failed.pop(path, None)
        self._resting.discard(path)

    def cancel(self) -> None:
        """Forget all of them."""
        if self._copying is not None and not self._copying.done():
            self._cancelled, self._copying = self._copying, None
        for task in (*self._tasks, self._cancelled):
            if task is not None:
                task.cancel()
        for forgotten in (self._tasks, self._orders, self._failed, self._resting):
            forgotten.clear()

    async def cancelled(self) -> None:
        """The same, and wait until nothing is written any more."""
        self.cancel()
        if self._cancelled is not None:
            await asyncio.wait([self._cancelled])

    async def _copy_all(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # it was cancelled, and may still write
            await asyncio.wait([before])
        put_off = set[str]()
        while self._orders:
            path, order = next(iter(self._orders.items()))
            why = await self._copy(order)
            if why.startswith(LATER) and self._orders.keys() - put_off - {path}:
                put_off.add(path)
                if path in self._orders:
                    self._orders[path] = self._orders.pop(path)
                continue
            put_off.clear()
            if not why:
                self._failed.pop(path, None)
            elif path not in self._failed:
                self._say(path, why)
            if self._orders.get(path) is order or why:
                self._orders.pop(path, None)
            if why:
                self._failed[path] = self._failed.get(path, 0) + 1
                self._resting.add(path)
                task = self._background.run(self._rest(path))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _rest(self, path: str) -> None:
        """Wait, and ask, until something comes of it."""
        tries = self._failed[path]
        while self._failed.get(path) == tries:
            await asyncio.sleep(min(_PAUSE_MOST, _PAUSE * 2 ** min(tries - 1, 10)))
            if self._failed.get(path) == tries:
                self._resting.discard(path)
                await self._ask(path)
