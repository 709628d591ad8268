"""The agent: the life of one node's first process. It stays joined, does its part, and leaves in order.

Its start is in main.py, its sessions with the coordinator in session.py, what it does for the run in
worker_group/group.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from swarmtrain.agent.choices import Choices, Settings
from swarmtrain.agent.session import CoordinatorSession
from swarmtrain.agent.uplink import Background, Uplink
from swarmtrain.agent.worker_group.group import WorkerGroup
from swarmtrain.agent.worker_group.spawner_command import StartedSpawner
from swarmtrain.wire import sockets
from swarmtrain.wire.alive import beat
from swarmtrain.wire.machine.processes import halted
from swarmtrain.wire.run_spec import RunSecret, RunSpec

_BEAT_SECONDS = 0.5
_PULSE_SECONDS = 0.1  # until every worker has made a step, of which the run is told at once
_LEASE = 60.0
_LEASE_BUSY = 600.0  # while workers start, evaluate or save
_ANSWER = 3.0  # seconds in which a coordinator says what becomes of an agent that is told to leave
_LATE = 60.0  # seconds after the join deadline: a coordinator that has not come by then is not to come
_FORGOTTEN = 86_400.0  # seconds in which a person may move a coordinator whose machine is gone
_INIT_SECONDS = 10.0  # between two looks at the init
_TROUBLE = 20.0  # seconds after which an agent that cannot do its part is started anew, and tries again


class Agent:
    """One node's part in a run.

    Args:
        choices: what was chosen on this node.
        spawner: one that was started already; None: the agent starts its first one, too.
    """

    def __init__(
        self,
        task: RunSpec,
        secret: RunSecret,
        settings: Settings,
        choices: Choices,
        spawner: StartedSpawner | None = None,
    ) -> None:
        self._task, self._settings, self._spawner = task, settings, spawner
        self.uplink = Uplink(choices.notes)
        self.group = WorkerGroup(task, secret, settings, choices, self.uplink)
        self.session = CoordinatorSession(secret, settings, choices, self.group, self.uplink)
        self._background = Background(self.uplink.fail)
        self._exit_code = 0

    async def run(self) -> int:
        """Until the run is over; the exit code says whether to start again: 0 means no."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._background.run(self._leave()))
        await self.group.open(self._spawner)
        self._background.run(self._begin_anew())
        self._background.run(self._wake(os.getppid()))
        parts = (self.session.stay_joined(), self._tick(), self.uplink.failed())
        tasks = [asyncio.ensure_future(part) for part in parts]
        over = asyncio.ensure_future(self.session.over.wait())
        await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
        for each in tasks:
            if each.done():
                each.result()
            each.cancel()
        over.cancel()
        await self.group.close()
        if (channel := self.uplink.channel) is not None:
            channel.close()
            await channel.closed()
        return self._exit_code

    async def _tick(self) -> None:
        """The heartbeat; and the end of the workers when nobody has led them for too long and they stand still."""
        moved, told, begun = time.monotonic(), 0.0, False
        progress: object = None
        alone = 0.0
        while True:
            now = time.monotonic()
            progress, before = self.group.progress(), progress
            moved = self._last_move(moved, now, still=progress == before)
            begun, before_begun = self.group.begun, begun
            if now - told >= _BEAT_SECONDS or (begun and not before_begun):
                told = now
                beat()
                self.group.beat()
            if now - moved > self._patience():
                await self._give_up()
                moved = now
            pause = _BEAT_SECONDS if begun else _PULSE_SECONDS
            alone = alone + pause if self.uplink.channel is None and self.group.idle else 0.0
            if self._is_forgotten(alone):
                await self._go("nobody has led this node for too long: the run is over, or never began")
            await asyncio.sleep(pause)

    def _last_move(self, moved: float, now: float, *, still: bool) -> float:
        """When there last was a coordinator, or progress, or another sign of life of the workers; after ``moved``."""
        led = self.uplink.channel is not None
        return max(moved, self.group.newest_sign(), now if led or not still else 0.0)

    def _patience(self) -> float:
        """Seconds without a coordinator, progress or a sign of life after which the workers are stopped.

        A node that trains by itself has less: the coordinator may be where it begins another generation without it.
        """
        group = self.group
        if group.generation == 0:
            return max(_LEASE, self._task.join_deadline)
        if group.has_peers and not self._is_here() and group.is_busy:
            return _LEASE_BUSY
        return max(_LEASE, 2 * group.usual)

    def _is_forgotten(self, alone: float) -> bool:
        """Whether no coordinator is to come any more, after so many seconds without one and without workers.

        Somebody may have removed it, or its client was killed before it had started it. Nobody else would ever end this
        agent; after its exit with 0, neither Docker nor Swarm starts it again.
        """
        return alone > self._task.join_deadline + _LATE and (
            alone > _FORGOTTEN or not self.session.has_joined()
        )

    def _is_here(self) -> bool:
        """Whether the coordinator is a process on this machine."""
        return self._settings.coordinator.startswith(sockets.UNIX)

    async def _give_up(self) -> None:
        """Nobody leads and nothing moves: no worker may train on when another generation begins elsewhere.

        In a container the agent stays and joins again when it can. On one machine a coordinator that is gone for so
        long is gone for good, and so is the run.
        """
        if self._is_here():
            await self._go("no coordinator and no progress: the run is over")
        else:
            print("no coordinator and no progress: the workers are stopped", file=sys.stderr, flush=True)
            self.group.kill()

    async def _go(self, why: str) -> None:
        """End for good."""
        print(why, file=sys.stderr, flush=True)
        await self.group.end()
        self.session.over.set()

    async def _begin_anew(self) -> None:
        """What keeps this agent from its part, such as a full disk, may be gone later: let another one try."""
        await self.uplink.troubled.wait()
        await asyncio.sleep(_TROUBLE)
        self._exit_code = 1
        self.session.over.set()

    async def _wake(self, init: int) -> None:
        """An init that is stopped would neither start another agent nor end when this one has."""
        stopped = False
        while os.getppid() == init:
            before, stopped = stopped, halted(init)
            if stopped and before:  # not for the moment in which something below it is killed
                os.kill(init, signal.SIGCONT)
                self.uplink.note("keeper", "the process that keeps this node's agent was stopped; it goes on")
            await asyncio.sleep(_INIT_SECONDS)

    async def _leave(self) -> None:
        """Somebody stops this agent. The coordinator says how: the workers save and leave, or are ended."""
        self._exit_code = 143
        self.session.leave()
        await self.group.leave(_ANSWER if self.uplink.channel is not None else 0.0, self._task.stop_grace)
        await self.group.delivery.wait()
        await self.session.answered()
        await asyncio.sleep(0.05)
        await self.group.clear()
        self.session.over.set()


def lead(
    task: RunSpec, secret: RunSecret, settings: Settings, choices: Choices, spawner: StartedSpawner
) -> int:
    """The agent from here to its end; its exit code. See main.py, which has started the spawner."""

    async def run() -> int:
        return await Agent(task, secret, settings, choices, spawner).run()

    return asyncio.run(run())
