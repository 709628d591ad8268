"""This node's share of the run: its workers, one generation at a time, and what they wrote that is on its way.

Session.py brings the coordinator's orders; what comes of them goes back through the line.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from swarmtrain.agent import machine, memory
from swarmtrain.agent.choices import Choices, Settings
from swarmtrain.agent.environment import Node, Part
from swarmtrain.agent.home import Home
from swarmtrain.agent.line import Background, Line
from swarmtrain.agent.pump import Key, Pump
from swarmtrain.agent.segments import Segments
from swarmtrain.agent.signs import Signs
from swarmtrain.agent.spawner import Life, Spawner
from swarmtrain.agent.stacks import halted, stopped
from swarmtrain.agent.workers import Workers
from swarmtrain.errors import SwarmtrainError, in_short
from swarmtrain.protocol.from_agent import Drained, Idle, StackReport, StacksReport, Warm, WorkerReport
from swarmtrain.protocol.to_agent import StartWorkers
from swarmtrain.wire.task import Task, Ticket

# seconds that a run that is over waits for a disk on which its directories are still being made
_PREPARING = 10.0
_DELIVERY = 5.0  # seconds in which an agent that is about to go delivers what its workers wrote


class Share:
    """What one node does for a run.

    Args:
        choices: what holds for all generations here, such as their environment.

    Attributes:
        home: its directories; None before the first welcome.
        workers: those of the last generation that this node was told to begin, with all that is true of it alone.
        signs: of their life, while they make no steps.
        drained: no worker is left, and everything that was ever written here has arrived at the coordinator that
            this agent is joined to.
    """

    def __init__(self, task: Task, ticket: Ticket, settings: Settings, choices: Choices, line: Line) -> None:
        self._ticket, self._settings, self._line = ticket, settings, line
        start = "cold" if task.kind == "command" else task.start
        self.spawner = Spawner(start, choices.env, line.note, line.trouble)
        self._workers_of = partial(Workers, task, choices.env, self._worker_changed)
        self.workers = self._workers_of()
        self.segments = Segments(lambda: self.home.memory if self.home is not None else None)
        self._gpus = partial(machine.gpu_use, choices.env) if choices.gpus else tuple
        self.signs = Signs(self.workers)
        self.pump = Pump()
        self.home: Home | None = None
        self._prepared = asyncio.Event()  # the directories and the code are there
        self._preparing: asyncio.Task[None] | None = None  # or are about to be
        self._known: dict[Key, int] = {}  # how much of each file the coordinator has, when it was last asked
        self._past = asyncio.Event()  # what an agent before this one has left to deliver is on its way, too
        self._delivery: asyncio.Task[None] | None = None  # waits until everything has arrived
        self.drained = False
        self._background = Background()

    async def open(self) -> None:
        """Start the spawner, which begins to import what workers need."""
        await self.spawner.open(self._settings.storage.root)
        self._watching = asyncio.ensure_future(self.segments.watch())
        self._background.run(self._warm_up())

    async def close(self) -> None:
        """End whatever still runs."""
        self.workers.stop(0.0)
        await self.spawner.close()
        self._watching.cancel()
        self.segments.clear(all_of_them=False)  # what the spawner itself held until now

    async def _warm_up(self) -> None:
        await self.spawner.warm.wait()
        await self._prepared.wait()
        self._line.post(Warm())

    # ---- how it stands ---------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The last one that this node was told to begin; 0 before the first."""
        return self.workers.generation

    @property
    def idle(self) -> bool:
        """No worker is left, and none is about to start."""
        return self.workers.done.is_set()

    @property
    def warm(self) -> bool:
        """Workers could start at once."""
        return self.spawner.warm.is_set() and self._prepared.is_set()

    async def delivered(self) -> None:
        """Wait until everything that was ever written here has arrived, for some seconds at most."""
        waited, until = None, time.monotonic() + _DELIVERY
        while self._delivery is not None and self._delivery is not waited:
            waited = self._delivery
            await asyncio.wait([waited], timeout=max(0.0, until - time.monotonic()))
            # A connection that was made meanwhile has begun another one.

    def say_again(self) -> None:
        """Say what has happened since the words of joining were written, when nobody could be told."""
        for state in self.workers.states.values():
            self._line.post(state)
        if self.idle:
            self._say_idle(self.generation)
        if self.warm:
            self._line.post(Warm())

    def beat(self) -> None:
        """Say that this node lives, and how its workers get on."""
        pulses = self.workers.pulses()
        signs = [self.signs.of(pulse.rank) for pulse in pulses]
        told = zip(pulses, signs, strict=True)
        self._line.beat([pulse._replace(lived_ago=ago, sign=sign) for pulse, (ago, sign) in told])

    # ---- its place -------------------------------------------------------------------------------------------

    def welcomed(self, home: Home, offsets: dict[Key, int]) -> None:
        """The coordinator has said where this node is in the run.

        It may be another one, or have lost what it had: whatever this node's disk has beyond its offsets goes to it.

        Args:
            offsets: how much of each file the coordinator has.
        """
        fresh = self.home is None
        self.home, self._known = home, offsets
        if fresh:
            self._preparing = asyncio.ensure_future(self._prepare(home))
        if self._past.is_set():
            self._deliver_the_past(home)
        self._deliver()

    async def _prepare(self, home: Home) -> None:
        """Lay out this node's directories and the user's code, while other nodes are still on their way.

        In a thread, since it may take a slow disk longer than an agent may be silent.
        """
        try:
            kept = await asyncio.to_thread(home.lay_out, self._settings.code, self._ticket.submission)
        except (OSError, SwarmtrainError) as error:
            self._line.trouble(in_short(error))
            self._deliver_the_past(home)  # a disk that is full can still be read
            return
        if kept:
            self._line.note("kept", f"kept what the run had written over the code: {', '.join(kept[:5])}")
        self._deliver_the_past(home)
        self._prepared.set()

    # ---- one generation --------------------------------------------------------------------------------------

    def start(self, start: StartWorkers) -> None:
        """Begin a generation; an old one, or one that is begun already, is not begun again.

        From here on it is the current one, so that an order to stop it may follow at once.
        """
        if start.generation <= self.generation or not self.workers.done.is_set():
            return
        self.workers.release()
        self.workers = self._workers_of(start.generation, start.nodes)
        self.signs = Signs(self.workers, spinning=start.backend == "nccl", gpus=self._gpus)
        self._background.run(self._start(self.workers, start))
        self._background.run(self._finish(self.workers))
        self._deliver()
        self._background.run(self.signs.watch(lambda: self._line.channel is None))

    async def _start(self, workers: Workers, start: StartWorkers) -> None:
        await self._prepared.wait()
        life = await self.spawner.life()
        if workers.ordered.is_set() or workers.done.is_set():  # its end was ordered before it began
            workers.abandon()
            return
        try:
            for kind, rank, path in self._begin(workers, life, start):
                self.pump.watch((kind, workers.generation, rank), path)
        except OSError as error:
            self._line.trouble(f"workers cannot be started: {error}")

    def _begin(self, workers: Workers, life: Life, start: StartWorkers) -> list[tuple[str, int, Path]]:
        """Start the workers of a generation; returns what `Workers.begin` does. Raises OSError."""
        home, choice = self.home, self._line.choice
        assert home is not None and choice is not None, "a generation begins after the welcome"
        parts = [
            Part(
                generation=start.generation,
                fence=self._ticket.fence(start.generation),
                rank=rank,
                local_rank=local_rank,
                local_world_size=len(start.ranks),
                group_rank=start.group_rank,
                nodes=start.nodes,
                world_size=start.world_size,
                master_address=start.master.address,
                master_port=start.master.port,
            )
            for local_rank, rank in enumerate(start.ranks)
        ]
        node = Node(
            run=self._ticket.run,
            name=home.node,
            interface=choice.interface,
            backend=start.backend,
            snapshots=str(home.snapshots),
            memory=str(home.memory_snapshots),
            submission=self._ticket.submission,
        )
        memory.lay_out(home.memory, self._ticket.submission)
        return workers.begin(life, parts, node, home.work, home.output, home.memory)

    async def _finish(self, workers: Workers) -> None:
        """When all workers of a generation are gone, say so."""
        await workers.done.wait()
        self.segments.clear(all_of_them=False)
        if self._line.channel is not None:  # else the coordinator learns of it when this agent joins again
            self._say_idle(workers.generation)

    def stop(self, generation: int, grace: float, how: str) -> None:
        """End the workers of a generation, as `Workers.stop` does."""
        if generation == self.generation:
            self.workers.stop(grace, how)

    def pause(self, generation: int, on: bool) -> None:
        """Ask the workers of a generation to save and leave, or take it back."""
        if generation == self.generation:
            self.workers.pause(on)

    def look(self, generation: int) -> None:
        """Find out what the workers of a generation are doing, for a coordinator that sees no progress."""
        if generation == self.generation:
            self._background.run(self._answer_stacks(self.workers, self.signs))

    async def _answer_stacks(self, workers: Workers, signs: Signs) -> None:
        pids = workers.pids()
        found = {
            rank: StackReport(text, stopped(pids[rank]), halted(pids[rank]))
            for rank, text in (await signs.stacks(pids)).items()
        }
        await self._line.send(StacksReport(workers.generation, found))

    async def end(self) -> None:
        """The run is over: end the workers, and leave nothing of it on this node but its files."""
        self.workers.stop(0.0, "kill")
        await self.workers.done.wait()
        await self.clear()

    async def clear(self) -> None:
        """The workers are gone and nobody starts others here: leave nothing in memory."""
        if self._preparing is not None:  # or what is removed now would be made again
            await asyncio.wait([self._preparing], timeout=_PREPARING)
        self.segments.clear(all_of_them=True)
        if self.home is not None:
            self.home.clear_memory()

    def _worker_changed(self, state: WorkerReport) -> None:
        if state.state == "exited":
            self.pump.close(state.generation, state.rank)
            self.beat()  # how far it came, before how it ended
        self._line.post(state)

    def _say_idle(self, generation: int) -> None:
        self._line.post(Idle(generation, self._line.free_port()))

    # ---- what its workers wrote ------------------------------------------------------------------------------

    def _deliver_the_past(self, home: Home) -> None:
        """Begin to carry what the coordinator does not have, also of workers of an agent before this one."""
        for path in home.output.glob("g*-r*.*"):
            kind = {".out": "output", ".metrics": "metrics"}.get(path.suffix)
            generation, _, rank = path.stem[1:].partition("-r")
            if kind is None or not generation.isdecimal() or not rank.isdecimal():
                continue
            self.pump.resume((kind, int(generation), int(rank)), path)
        self.pump.rewind(self._known)
        self._past.set()

    def _deliver(self) -> None:
        """Say when everything has arrived; what was said before was true of less, or of another coordinator."""
        self.drained = False
        if self._delivery is not None:
            self._delivery.cancel()
        self._delivery = asyncio.ensure_future(self._delivered())

    async def _delivered(self) -> None:
        await self.workers.done.wait()
        await self._past.wait()
        await self.pump.drained()
        self.drained = True
        self._line.post(Drained(self.generation))
