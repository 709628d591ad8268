"""Signs of life of workers that make no steps: processor time, bytes, processes that come and go, GPUs, stacks.

group.py looks for them, and only while steps stand. A rank that waits in a collective of gloo's shows none of them. On
NCCL it spins, and so does a kernel on its GPU, which reads next to nothing of its memory. So there a GPU counts whose
memory is in use, and processor time of a rank in no collective: its GPU has no kernel, or torch has recorded the
end of all that it has begun, where others use that GPU, too, or it is a part of one that tells nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from swarmtrain.agent.machine import GpuUse
from swarmtrain.agent.worker_group.flight import flights
from swarmtrain.agent.worker_group.stacks import children, stacks, stopped
from swarmtrain.agent.worker_group.usage import Tree, sign, tree
from swarmtrain.agent.worker_group.workers import Workers
from swarmtrain.protocol.evidence.seen import StackReport
from swarmtrain.wire.machine.processes import halted

WINDOW = 10.0  # seconds between two looks
# seconds between looks at the stacks where nothing else moves; and without a step before the first
_STACKS = 30.0
# of a worker that spins: it is at the same line most of the time, and seconds between them
_DUMPS, _APART = 5, 0.3
# Percent: below the one a GPU has no kernel that waits, which shows 100; from the other on it computes.
_WAITS, _COMPUTES = 50, 5


def gpu_sign(use: GpuUse | None, worked: bool, *, spinning: bool) -> str:
    """What a worker's GPU shows, in words; empty where it proves nothing.

    Args:
        use: None where it is not known.
        worked: its processes have used processor time.
        spinning: it would wait for others by spinning.
    """
    if use is None:
        return ""
    if use.memory >= _COMPUTES or (use.kernels > 0 and not spinning):
        return "GPU use"
    return "processor time beside an idle GPU" if worked and use.kernels < _WAITS else ""


class Signs:
    """The signs of life of one generation's workers on a node.

    Args:
        spinning: they wait for each other by spinning (NCCL).
        gpus: what those that they see do, in the order of local ranks. Blocks.
    """

    def __init__(
        self, workers: Workers, *, spinning: bool = False, gpus: Callable[[], Sequence[GpuUse | None]] = tuple
    ) -> None:
        self._workers, self._spinning, self._gpus = workers, spinning, gpus
        self._asking = asyncio.Lock()  # for stacks, which come through one file a worker
        self._trees: dict[int, tuple[float, Tree]] = {}
        self._dumps: dict[int, str] = {}
        self._dumped = 0.0
        self._last: dict[int, tuple[float, str]] = {}

    def of(self, rank: int) -> tuple[float | None, str]:
        """For a rank's pulse: seconds since its last sign, None where none was seen; and what it was."""
        when, what = self._last.get(rank, (None, ""))
        return None if when is None else round(time.monotonic() - when, 3), what

    def newest(self) -> float:
        """Monotonic time of the last sign of any worker; 0 where none was seen."""
        return max((when for when, _ in self._last.values()), default=0.0)

    async def watch(self, alone: Callable[[], bool]) -> None:
        """Look again and again, until the workers are gone, whenever they make no steps and that may matter.

        Args:
            alone: whether there is no coordinator.
        """
        while not self._workers.done.is_set():
            try:
                await asyncio.wait_for(self._workers.done.wait(), WINDOW)
            except (TimeoutError, asyncio.TimeoutError):
                pass
            stood, pids = self._workers.stood(), self._workers.pids()
            if pids and stood >= WINDOW and (self._workers.is_watched() or alone()):
                usual = self._workers.usual()
                told = self._workers.is_busy() or not usual  # of a phase, or nothing that could be missed
                await self.look(pids, 0.0 if told else stood - 10 * usual)
            else:
                self._trees.clear()
                self._dumps.clear()

    async def look(self, pids: Mapping[int, int], stood: float) -> None:
        """Look at what has moved since the last look.

        Args:
            pids: of the workers, by rank.
            stood: for how many seconds no step was made, less what is usual; 0 where the workers say why.
        """
        now = time.monotonic()
        before, self._trees = self._trees, await self._sample(pids)
        signs = {
            rank: sign(before[rank][1], found, now - before[rank][0], pids[rank] if self._spinning else None)
            for rank, (_, found) in self._trees.items()
            if rank in before
        }
        moved = {rank: (now, what) for rank, what in signs.items() if what}
        self._last |= moved
        if moved or len(signs) < len(pids):
            return  # one that moves is one that the others may wait for
        used = dict(enumerate(await asyncio.to_thread(self._gpus)))
        worked: dict[int, int] = {}
        for rank, (_, found) in self._trees.items():
            if sign(before[rank][1], found, now - before[rank][0]) == "processor time":
                worked[rank] = pids[rank]
            use = used.get(self._workers.states[rank].local_rank)
            if what := gpu_sign(use, rank in worked, spinning=self._spinning):
                moved[rank] = (now, what)
        if not moved and self._spinning:
            outside = await self._outside_collectives(worked)
            moved = dict.fromkeys(outside, (now, "processor time outside of collectives"))
        self._last |= moved
        if not moved and stood >= _STACKS and (self._spinning or now - self._dumped >= _STACKS):
            await self._look_at_stacks(pids)

    async def stacks(self, pids: Mapping[int, int]) -> dict[int, str]:
        """Ask workers for the stacks of their threads. What it takes them to answer is no sign of life."""
        async with self._asking:
            found = await stacks(pids, self._workers.stack_files())
        self._trees.clear()
        return found

    async def evidence(self, pids: Mapping[int, int], *, below: bool) -> dict[int, StackReport]:
        """What workers do, and what torch has recorded of them.

        Args:
            below: also the processes that they have forked.
        """
        files = self._workers.stack_files()
        async with self._asking:
            dumps, recorded = await asyncio.gather(stacks(pids, files), flights(pids, files))
            forked = dict.fromkeys(pids, (dict[int, str](), 0))
            if below:
                asked = await asyncio.gather(*(children(pid, files.get(rank)) for rank, pid in pids.items()))
                forked = dict(zip(pids, asked, strict=True))
        self._trees = await self._sample(pids)  # a person may ask again and again
        return {
            rank: StackReport(dumps[rank], stopped(pid), halted(pid), recorded[rank], *forked[rank])
            for rank, pid in pids.items()
        }

    async def _outside_collectives(self, pids: Mapping[int, int]) -> list[int]:
        """The ranks among these of which torch has recorded that each collective they have begun is over."""
        told = await flights(pids, self._workers.stack_files())
        return [
            rank
            for rank, report in told.items()
            if report.records and all(record.done for record in report.records)
        ]

    async def _look_at_stacks(self, pids: Mapping[int, int]) -> None:
        self._dumped = time.monotonic()
        for _ in range(_DUMPS if self._spinning else 1):
            dumps = {rank: dump for rank, dump in (await self.stacks(pids)).items() if dump}
            changed = [rank for rank, dump in dumps.items() if dump != self._dumps.get(rank, dump)]
            self._dumps |= dumps
            self._last |= dict.fromkeys(changed, (time.monotonic(), "a changing stack"))
            if changed:
                break
            await asyncio.sleep(_APART)
        self._trees = await self._sample(pids)

    async def _sample(self, pids: Mapping[int, int]) -> dict[int, tuple[float, Tree]]:
        return await asyncio.to_thread(
            lambda: {rank: (time.monotonic(), tree(pid)) for rank, pid in pids.items()}
        )
