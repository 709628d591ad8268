"""Sees what this node's workers make in /dev/shm, so that nothing of it is left when they have gone.

The kernel does not tell who made a file there. But whoever makes one has it in hands: so each new name is looked at,
and it counts as the workers' if processes below this agent hold it and no other process does, or if torch has named it
by the number of one of them. Not seen is what is made and let go of within a look, as a file is that is written and
closed; of Python's shared memory its own tracker sees to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from swarmtrain.wire.disk import segments
from swarmtrain.wire.machine.processes import descendants

_LOOK_SECONDS = 0.5
_LOOKS = 15  # at a name that nobody holds
_REST = 10.0  # times as long as a look has taken, until the next
_TORCH = re.compile(r"torch_(\d+)_")
# What libraries name by chance, so that nobody looks for it again: it goes with its generation. Names that a script
# chooses may be there for its next start, and stay until the run ends.
_NAMELESS = re.compile(r"torch_\d+_|psm_[0-9a-f]|sem\.|__KMP_REGISTERED_LIB_")


class Segments:
    """What the workers below this process have made in shared memory.

    Args:
        memory: where it is written down; None while that is not known.
    """

    def __init__(self, memory: Callable[[], Path | None]) -> None:
        self._memory = memory
        self._known = _names()  # what others have made before
        self._waiting: dict[str, int] = {}  # names that nobody held, by how often they were looked at
        self._ours: dict[str, int] = {}

    async def watch(self) -> None:
        """Look for as long as this is not cancelled."""
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(_LOOK_SECONDS, _REST * (time.monotonic() - began - 0.001)))

    async def look(self) -> None:
        """Look at what is new."""
        names = _names()
        self._known &= names
        self._ours = {name: each for name, each in self._ours.items() if segments.identity(name) == each}
        if fresh := {name: segments.identity(name) for name in names - self._known - self._ours.keys()}:
            await self._judge(fresh)

    def clear(self, *, all_of_them: bool) -> None:
        """The workers have gone: remove what they have left, or what nobody will look for again."""
        memory = self._memory()
        known = (segments.noted(memory) if memory is not None else {}) | self._ours
        segments.remove(
            {name: inode for name, inode in known.items() if all_of_them or _NAMELESS.match(name)}
        )

    async def _judge(self, fresh: dict[str, int]) -> None:
        below = set(descendants(os.getpid()))
        unknown: dict[str, int] = {}
        for name, inode in fresh.items():
            named = _TORCH.match(name)
            if not inode:
                self._known.add(name)  # somebody else's, or none any more
            elif named:
                self._settle(name, inode, ours=int(named[1]) in below)
            else:
                unknown[name] = inode
        held = await asyncio.to_thread(_held, unknown.values(), below) if unknown else {}
        for name, inode in unknown.items():
            pids = held[inode]
            looks = self._waiting[name] = self._waiting.get(name, 0) + 1
            if pids or looks >= _LOOKS:
                self._settle(name, inode, ours=bool(pids) and pids <= below)

    def _settle(self, name: str, inode: int, *, ours: bool) -> None:
        self._waiting.pop(name, None)
        if not ours:
            self._known.add(name)
            return
        self._ours[name] = inode
        if (memory := self._memory()) is not None:
            with contextlib.suppress(OSError):  # it is full, too: what this agent itself knows still goes
                segments.note(memory, name, inode)


def _held(inodes: Iterable[int], below: set[int]) -> dict[int, set[int]]:
    """Who holds these files. Others than those below are asked only of what these hold, since they are many."""
    held = segments.holders(inodes, below)
    return held | segments.holders([inode for inode, pids in held.items() if pids])


def _names() -> set[str]:
    try:
        return set(os.listdir(segments.SHARED))  # noqa: PTH208 - quick, as it is often asked
    except OSError:
        return set()
