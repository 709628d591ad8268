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

from swarmtrain.agent.sharing.peers import pull
from swarmtrain.agent.sharing.store import Store
from swarmtrain.agent.uplink import Background
from swarmtrain.protocol.shared_files import BringShared, SetVersion, SharedBrought, SharedFile

# seconds until a copy that has failed is tried again: twice as many each time
_PAUSE, _PAUSE_MOST = 1.0, 60.0


@dataclass
class Bringing:
    """What becomes of the order.

    Attributes:
        number: the order's.
        files, size: that came from others; bytes.
        aside: paths of files that were in the way.
        failed: what could not be brought, in sentences.
    """

    number: int
    files: int = 0
    size: int = 0
    aside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
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
            can_wait: as in `peers.pull`.
        """
        size = sum(file.size for file in missing.values())
        try:
            room = await asyncio.to_thread(store.room) if missing else size
        except OSError as error:
            self.failed.append(str(error))
            return False
        if size > room:
            self.failed.append(f"{size / 1e6:.0f} MB do not fit on the disk, where a tenth stays free")
            return False
        for sha256, file in missing.items():
            peers = sources.get(sha256, [])
            try:
                await pull(token, peers, sha256, file.size, store.path(sha256), can_wait=can_wait)
            except OSError as error:
                self.failed.append(f"{file.name}: {error}")
                return False
            self.files += 1
            self.size += file.size
        return True

    def told(self, directory: str = "") -> SharedBrought:
        """For the coordinator.

        Args:
            directory: where what was in the way lies now.
        """
        seconds = round(time.monotonic() - self._began, 3)
        directory = directory if self.aside else ""
        return SharedBrought(self.number, self.files, self.size, seconds, self.aside, directory, self.failed)


class CopyOrder(NamedTuple):
    """A version that is to be beside the working directory.

    Attributes:
        number: the order's.
        sources: the addresses of peers, by the hashes of what they have.
    """

    number: int
    version: SetVersion
    sources: Mapping[str, Sequence[str]]


class Copies:
    """What is copied here in the background: one set after the other, of each the newest version that was ordered.

    A set whose copy has failed rests for a while, whatever is ordered of it, and then is asked for: who has it may be
    found elsewhere by then, or have something newer.

    Args:
        copy: carry out an order; why it failed, or nothing.
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

    def pending(self) -> list[SetVersion]:
        """The versions that are on their way."""
        return [each.version for each in self._orders.values()]

    def order(self, said: BringShared) -> None:
        """Have these, too."""
        for version in said.versions:
            if version.path not in self._resting:
                self._orders[version.path] = CopyOrder(said.number, version, said.sources)
        if self._orders and (self._copying is None or self._copying.done()):
            self._copying = self._background.run(self._copy_all())

    def cancel(self) -> None:
        """Forget all of them."""
        for task in (*self._tasks, self._copying):
            if task is not None:
                task.cancel()
        for forgotten in (self._tasks, self._orders, self._failed, self._resting):
            forgotten.clear()

    async def _copy_all(self) -> None:
        while self._orders:
            path, order = next(iter(self._orders.items()))
            why = await self._copy(order)
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
