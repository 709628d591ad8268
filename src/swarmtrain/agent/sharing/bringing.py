"""One order to have versions here, as it is carried out: what comes from peers for it, and what is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarmtrain.agent.sharing.peers import pull
from swarmtrain.agent.sharing.store import Store
from swarmtrain.protocol.shared_files import SharedBrought, SharedFile


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
            peers, target = sources.get(sha256, []), store.path(sha256)
            try:
                await pull(token, peers, sha256, file.size, target, can_wait=can_wait)
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
