"""The worker group of a node: its workers, one generation at a time, and what they wrote that is on its way.

session.py brings the coordinator's orders; what comes of them goes back through the uplink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from swarmtrain.agent import machine
from swarmtrain.agent.choices import Choices, Settings
from swarmtrain.agent.environment import NodeEnvironment, WorkerAssignment
from swarmtrain.agent.measure.connections import peers_of
from swarmtrain.agent.measure.measuring import NodeMeasuring
from swarmtrain.agent.run_directories import RunDirectories
from swarmtrain.agent.sharing.shared import SharedFiles
from swarmtrain.agent.uplink import Background, Uplink
from swarmtrain.agent.worker_group import memory
from swarmtrain.agent.worker_group.delivery import Delivery
from swarmtrain.agent.worker_group.segments import Segments
from swarmtrain.agent.worker_group.signs import Signs
from swarmtrain.agent.worker_group.spawner import Life, SpawnerProcess
from swarmtrain.agent.worker_group.spawner_command import SpawnerCommand, StartedSpawner
from swarmtrain.agent.worker_group.stacks import fitting
from swarmtrain.agent.worker_group.tails import Key
from swarmtrain.agent.worker_group.workers import Workers, in_brief
from swarmtrain.errors import SwarmtrainError, in_short
from swarmtrain.protocol.from_agent import Drained, Idle, StacksReport, Warm, WorkerReport
from swarmtrain.protocol.to_agent import AskStacks, StartWorkers
from swarmtrain.wire.run_spec import RunSecret, RunSpec

# seconds that a run that is over waits for a disk on which its directories are still being made
_PREPARING = 10.0
_SETTLING = 60.0  # and for what is said of the files that its workers have left: a later run goes by that
_STACKS = 1 << 20  # characters of all stacks together: what a message has room for
_LOOK_AGAIN = 1.0  # seconds between two looks of an agent that leaves at how its workers end


class WorkerGroup:
    """What one node does for a run.

    Args:
        choices: what holds for all generations here, such as their environment.

    Attributes:
        directories: where the run is on this node; None before the first welcome.
        delivery: of what its workers wrote.
        files: that its workers wrote, and other nodes have or are to have.
    """

    def __init__(
        self, task: RunSpec, secret: RunSecret, settings: Settings, choices: Choices, uplink: Uplink
    ) -> None:
        self._secret, self._settings, self._uplink, self._choices = secret, settings, uplink, choices
        self._measuring: asyncio.Task[None] | None = None
        self._peers: dict[str, str] = {}  # the generation's other nodes, by their addresses
        self._background = Background(uplink.fail)
        command = SpawnerCommand.of(task, choices.env, settings.storage.root)
        self.spawner = SpawnerProcess(command, uplink.note, uplink.trouble, self._background)
        self._workers_of = partial(Workers, task, choices.env, self._worker_changed, self._background)
        # Those of the last generation that this node was told to begin, with all that is true of it alone.
        self._workers = self._workers_of()
        self.segments = Segments(lambda: self.directories.memory if self.directories is not None else None)
        self._gpus = partial(machine.gpu_use, choices.env) if choices.gpus else tuple
        self._signs = Signs(self._workers)  # of their life, while they make no steps
        self.delivery = Delivery(self._background)
        self.files = SharedFiles.of(task, secret.token, uplink, lambda: self.idle)
        self.directories: RunDirectories | None = None
        self._prepared = asyncio.Event()  # the directories and the code are there
        self._preparing: asyncio.Task[None] | None = None  # or are about to be
        self._settling: asyncio.Task[None] | None = None  # the files of a generation that has ended

    async def open(self, spawner: StartedSpawner | None = None) -> None:
        """Take the spawner that was started, or start it; it imports what workers need."""
        await self.spawner.open(spawner)
        self._watching = self._background.run(self.segments.watch())
        self._background.run(self._warm_up())

    async def close(self) -> None:
        """End whatever still runs."""
        self._workers.stop(0.0)
        self.files.close()
        await self.spawner.close()
        self._watching.cancel()
        if self._measuring is not None:
            self._measuring.cancel()
        self.segments.clear(all_of_them=False)  # what the spawner itself held until now

    async def _warm_up(self) -> None:
        await self.spawner.warm.wait()
        await self._prepared.wait()
        self._uplink.post(Warm())

    # ---- how it stands ---------------------------------------------------------------------------------------

    @property
    def workers(self) -> Workers:
        """Those of the newest generation."""
        return self._workers

    @property
    def generation(self) -> int:
        """The last one that this node was told to begin; 0 before the first."""
        return self._workers.generation

    @property
    def idle(self) -> bool:
        """No worker is left, and none is about to start."""
        return self._workers.done.is_set()

    @property
    def warm(self) -> bool:
        """Workers could start at once."""
        return self.spawner.warm.is_set() and self._prepared.is_set()

    @property
    def begun(self) -> bool:
        """Every worker has made a step."""
        return self._workers.begun()

    @property
    def has_peers(self) -> bool:
        """Workers of other nodes train with those of this one."""
        return self._workers.nodes > 1

    @property
    def is_busy(self) -> bool:
        """Some worker is in a phase without steps: it starts, evaluates or saves."""
        return self._workers.is_busy()

    @property
    def usual(self) -> float:
        """Seconds within which a step is usual."""
        return self._workers.usual()

    def states(self) -> list[WorkerReport]:
        """What is known of each worker, for a coordinator that is joined; together it fits into a message."""
        return in_brief(self._workers.states.values())

    def progress(self) -> object:
        """What is another value once a worker has come on or has written something."""
        return [pulse[:4] for pulse in self._workers.pulses()], self.delivery.tails.written()

    def newest_sign(self) -> float:
        """Monotonic time of the newest sign of life of a worker that makes no steps."""
        return self._signs.newest()

    def say_again(self) -> None:
        """Say what has happened since the words of joining were written, when nobody could be told."""
        for state in self._workers.states.values():
            self._uplink.post(state)
        if self.idle:
            self._say_idle(self.generation)
        if self.warm:
            self._uplink.post(Warm())

    def beat(self) -> None:
        """Say that this node lives, and how its workers get on."""
        pulses = self._workers.pulses()
        signs = [self._signs.of(pulse.rank) for pulse in pulses]
        told = zip(pulses, signs, strict=True)
        self._uplink.beat([pulse._replace(lived_ago=ago, sign=sign) for pulse, (ago, sign) in told])

    # ---- its place -------------------------------------------------------------------------------------------

    def welcomed(self, directories: RunDirectories, offsets: dict[Key, int]) -> None:
        """The coordinator has said where this node is in the run.

        It may be another one, or have lost what it had: whatever this node's disk has beyond its offsets goes to it.

        Args:
            offsets: how much of each file the coordinator has.
        """
        fresh = self.directories is None
        self.directories = directories
        self.delivery.known(offsets)
        if fresh:
            self._preparing = self._background.run(self._prepare(directories))
        if self.delivery.past.is_set():
            self.delivery.resume(directories.output)
        self._deliver()

    async def _prepare(self, directories: RunDirectories) -> None:
        """Lay out this node's directories and the user's code, while other nodes are still on their way.

        In a thread, since it may take a slow disk longer than an agent may be silent.
        """
        try:
            kept = await asyncio.to_thread(directories.lay_out, self._settings.code, self._secret.submission)
        except (OSError, SwarmtrainError) as error:
            self._uplink.trouble(in_short(error))
            self.delivery.resume(directories.output)  # a disk that is full can still be read
            return
        if kept:
            self._uplink.note("kept", f"kept what the run had written over the code: {', '.join(kept[:5])}")
        self.delivery.resume(directories.output)
        await self.files.open(directories.work, directories.shared)
        self._prepared.set()
        place, tails = self._settings.storage.root, self.delivery.tails
        measuring = NodeMeasuring(directories.output, place, tails, self._choices, lambda: self._peers)
        self._measuring = self._background.run(measuring.run())

    # ---- one generation --------------------------------------------------------------------------------------

    def start(self, start: StartWorkers) -> None:
        """Begin a generation; an old one, or one that is begun already, is not begun again.

        From here on it is the current one, so that an order to stop it may follow at once.
        """
        if start.generation <= self.generation or not self._workers.done.is_set():
            return
        self._workers.release()
        self._peers = peers_of(self._settings.node, start.addresses)
        self._workers = self._workers_of(start.generation, start.nodes)
        self._signs = Signs(self._workers, spinning=start.backend == "nccl", gpus=self._gpus)
        self._background.run(self._start(self._workers, start))
        self._background.run(self._finish(self._workers))
        self._deliver()
        self._background.run(self._signs.watch(lambda: self._uplink.channel is None))

    async def _start(self, workers: Workers, start: StartWorkers) -> None:
        await self._prepared.wait()
        await self.files.begin(self._secret.fence(start.generation), start.first_ranks)
        life = await self.spawner.life()
        if workers.ordered.is_set() or workers.done.is_set():  # its end was ordered before it began
            workers.abandon()
            return
        try:
            for kind, rank, path in self._begin(workers, life, start):
                self.delivery.tails.watch((kind, workers.generation, rank), path)
        except OSError as error:
            self._uplink.trouble(f"workers cannot be started: {error}")

    def _begin(self, workers: Workers, life: Life, start: StartWorkers) -> list[tuple[str, int, Path]]:
        """Start the workers of a generation; returns what `Workers.begin` does. Raises OSError."""
        directories, choice = self.directories, self._uplink.choice
        assert directories is not None and choice is not None, "a generation begins after the welcome"
        parts = [
            WorkerAssignment(
                generation=start.generation,
                fence=self._secret.fence(start.generation),
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
        node = NodeEnvironment(
            run=self._secret.run,
            name=directories.node,
            interface=choice.interface,
            backend=start.backend,
            snapshots=str(directories.snapshots),
            memory=str(directories.memory_snapshots),
            submission=self._secret.submission,
        )
        memory.lay_out(directories.memory, self._secret.submission)
        return workers.begin(life, parts, node, directories.work, directories.output, directories.memory)

    async def _finish(self, workers: Workers) -> None:
        """When all workers of a generation are gone, say so."""
        await workers.done.wait()
        self._settling = self._background.run(self.files.ended(well=workers.ended_well()))
        self.segments.clear(all_of_them=False)
        if self._uplink.channel is not None:  # else the coordinator learns of it when this agent joins again
            self._say_idle(workers.generation)

    def stop(self, generation: int, grace: float, how: str) -> None:
        """End the workers of a generation, as `Workers.stop` does."""
        if generation == self.generation:
            self._workers.stop(grace, how)

    def kill(self) -> None:
        """End the workers, whatever the generation; this agent stays."""
        self._workers.stop(0.0, "kill")

    async def leave(self, answer: float, grace: float) -> None:
        """End the workers as the coordinator orders it within ``answer`` seconds, else by SIGTERM and ``grace``.

        Returns when they have gone, also those whose start was on its way.
        """
        await _within(answer, self._workers.ordered.wait(), self._workers.done.wait())
        while not (workers := self._workers).done.is_set():
            if not workers.ordered.is_set():  # also where a pause that they were asked for was taken back
                workers.stop(grace)
            await _within(_LOOK_AGAIN, workers.done.wait())

    def pause(self, generation: int, on: bool) -> None:
        """Ask the workers of a generation to save and leave, or take it back."""
        if generation == self.generation:
            self._workers.pause(on)

    def look(self, question: AskStacks) -> None:
        """Find out what the workers of a generation are doing, for a coordinator or a person that sees no progress."""
        if question.generation == self.generation:
            self._background.run(self._answer_stacks(self._workers, self._signs, question.children))

    async def _answer_stacks(self, workers: Workers, signs: Signs, children: bool) -> None:
        pids = workers.pids()
        found = await signs.evidence(pids, below=children)
        answer = StacksReport(workers.generation, fitting(found, _STACKS))
        with suppress(ConnectionError):  # nobody waits for it any more
            await self._uplink.send(answer)

    async def end(self) -> None:
        """The run is over: end the workers, and leave nothing of it on this node but its files."""
        self._workers.stop(0.0, "kill")
        await self._workers.done.wait()
        await asyncio.sleep(0)  # until _finish has gone on
        if self._settling is not None:
            await asyncio.wait([self._settling], timeout=_SETTLING)
        await self.clear()

    async def clear(self) -> None:
        """The workers are gone and nobody starts others here: leave nothing in memory."""
        if self._preparing is not None:  # or what is removed now would be made again
            await asyncio.wait([self._preparing], timeout=_PREPARING)
        self.segments.clear(all_of_them=True)
        if self.directories is not None:
            self.directories.clear_memory()

    def _worker_changed(self, state: WorkerReport) -> None:
        if state.state == "exited":
            self.delivery.tails.close(state.generation, state.rank)
            self.beat()  # how far it came, before how it ended
        self._uplink.post(state)

    def _say_idle(self, generation: int) -> None:
        self._uplink.post(Idle(generation, self._uplink.free_port()))

    def _deliver(self) -> None:
        self.delivery.begin(self._workers.done.wait, lambda: self._uplink.post(Drained(self.generation)))


async def _within(seconds: float, *waits: Awaitable[Any]) -> None:
    """Until one of these has happened; at most for so long."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
