"""The agent's end of the spawner: the process is started, told what to start, heard, and started again when it dies.

Whoever asks for workers takes the *life* that there is, and speaks to that one alone: the workers of a generation end
with the life that started them, and nothing of an older one reaches those of a newer. The other end is
worker/spawner.py; what is said, protocol/spawner.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from swarmtrain.agent.uplink import Background
from swarmtrain.agent.worker_group.spawner_command import SpawnerCommand, StartedSpawner
from swarmtrain.agent.worker_group.usage import Tree, sign, tree
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.spawner import (
    FROM_SPAWNER,
    FromSpawner,
    Ping,
    Pong,
    SignalWorker,
    Spawned,
    SpawnerReady,
    SpawnFailed,
    SpawnWorker,
    StopWorker,
    ToSpawner,
    WorkerExited,
)
from swarmtrain.wire.machine.processes import began, descendants, kill_all


class Orphaned(NamedTuple):
    """A worker has ended with its spawner, which could not say so."""

    key: str


Fate = Spawned | SpawnFailed | WorkerExited | Orphaned  # what becomes of a worker
Listener = Callable[[Fate], None]

_SHORT_SECONDS = 5.0  # a life that may have ended of something that is still there
_SHORT_LIVES = 4  # so many of them in a row are a trouble of this node
_AGAIN_SECONDS = 0.5  # before the next life after a short one, and twice as long after each more
# A spawner that imports torch from a slow disk answers nothing for minutes, but reads. One that was stopped, or waits
# for a disk that is no more, does nothing at all.
_LOOK_SECONDS = 10.0  # between two looks at one that is owed an answer
_STILL_SECONDS = 60.0  # without an answer or a sign of life after which it stands still
_END_SECONDS = 0.01  # between two looks whether one that has closed its end has gone
_DYING_SECONDS = 10.0  # until what even SIGKILL does not end is given up


class Life:
    """One spawner process, from its start until nothing that it has started is left.

    Args:
        process: the guard, which ends when nothing is left of the tree below it.
        on_ready: is told how the imports went.

    Attributes:
        stood_still: it was ended for doing nothing at all while something was wanted of it.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_ready: Callable[[SpawnerReady], None],
    ) -> None:
        self._process, self._on_ready = process, on_ready
        self._reader, self._writer = streams
        self._listeners: dict[str, Listener] = {}
        self._pids: dict[str, int] = {}  # of the workers that it has started
        self._owed = {"ready"}  # what it was asked for and has not said yet
        self._answers = True  # to the question whether it is there
        self._ended = False
        self.stood_still = False

    def spawn(self, order: SpawnWorker, listener: Listener) -> None:
        """Ask for a worker. The listener hears what becomes of it, also when this life ends."""
        self._listeners[order.key] = listener
        if self._ended:
            asyncio.get_running_loop().call_soon(self._bury)
        else:
            self._ask(order)

    def stop(self, key: str, grace: float) -> None:
        """Ask a worker to end, and what it has started after it, if it is there still."""
        self._ask(StopWorker(key, grace))

    def signal(self, key: str, number: int) -> None:
        """Signal a worker and all that it has started, if it is there still."""
        self._ask(SignalWorker(key, int(number)))

    def _ask(self, order: SpawnWorker | StopWorker | SignalWorker) -> None:
        if order.key in self._listeners and not self._ended:
            self._owed.add(order.key)
            self._tell(order)

    async def run(self) -> str:
        """Hear it to its end; how it ended, in words."""
        hearing = asyncio.ensure_future(self._hear_out())
        watching = asyncio.ensure_future(self._watch())
        await asyncio.wait([hearing, watching], return_when=asyncio.FIRST_COMPLETED)
        if self.stood_still:
            await self._kill_all()
        await asyncio.wait([hearing], timeout=_DYING_SECONDS if self.stood_still else None)
        for task in (hearing, watching):
            task.cancel()
        self._ended = True
        self._writer.close()
        self._bury()
        if self.stood_still:
            return f"showed no sign of life for {_STILL_SECONDS:.0f} s while it was asked for something, and was killed"
        code = hearing.result()
        return f"was killed by {_name(-code)}" if code < 0 else f"ended with exit code {code}"

    async def _hear_out(self) -> int:
        try:
            while line := await self._reader.readline():
                self._hear(FROM_SPAWNER.load(json.loads(line)))
        except (OSError, ValueError, ChannelError) as error:  # it died with requests that it had not read
            print(f"spawner: {error!r}", file=sys.stderr, flush=True)
            self._process.kill()
        self._owed.add("end")
        while (code := self._process.poll()) is None:
            await asyncio.sleep(_END_SECONDS)
        return code

    async def _watch(self) -> None:
        """Until it stands still: asked for something, it neither does it nor says that it is there, nor does anything.

        One of which nothing is wanted may stand: its workers train all the same. Time is counted by looks, since this
        process may be frozen, too.
        """
        before: Tree = {}
        still = 0.0
        while still < _STILL_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._answers:
                before, still = {}, 0.0
                if self._is_asked():
                    self._answers = False
                    self._tell(Ping())
                continue
            now = await asyncio.to_thread(tree, self._process.pid, tuple(self._pids.values()))
            moved = not before or sign(before, now, _LOOK_SECONDS)
            before, still = now, 0.0 if moved else still + _LOOK_SECONDS
        self.stood_still = True

    def _is_asked(self) -> bool:
        """Whether anything is wanted of it, also by a worker that has gone, of which it has not told."""
        gone = any(not began(pid) for pid in self._pids.values())
        return bool(self._owed) or gone or self._writer.is_closing()

    async def _kill_all(self) -> None:
        """Kill it and everything that it has started, which its end alone would not do as it should."""
        patience = time.monotonic() + _DYING_SECONDS
        while (below := descendants(self._process.pid)) and time.monotonic() < patience:
            kill_all(below)
            await asyncio.sleep(0.02)
        self._process.kill()

    def hang_up(self) -> None:
        """It ends when nobody is at this end, and ends everything that it has started."""
        self._writer.close()

    def _hear(self, said: FromSpawner) -> None:
        self._answers = True
        if isinstance(said, Pong):
            return
        if isinstance(said, SpawnerReady):
            self._owed.discard("ready")
            self._on_ready(said)
            return
        listener = self._listeners.get(said.key)
        self._owed.discard(said.key)
        if isinstance(said, Spawned):
            self._pids[said.key] = said.pid
        else:
            self._listeners.pop(said.key, None)
            self._pids.pop(said.key, None)
        if listener is not None:
            listener(said)

    def _bury(self) -> None:
        """Its workers ended with it."""
        while self._listeners:
            key, listener = self._listeners.popitem()
            listener(Orphaned(key))

    def _tell(self, message: ToSpawner) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(dump(message)).encode() + b"\n")


class SpawnerProcess:
    """This node's spawner: always one life of it, or soon the next.

    Args:
        command: what starts one.
        on_note: called with a kind and a sentence for the journal.
        on_trouble: called with a sentence when it cannot be kept alive.
        background: in which it is kept alive.
    """

    def __init__(
        self,
        command: SpawnerCommand,
        on_note: Callable[[str, str], None],
        on_trouble: Callable[[str], None],
        background: Background,
    ) -> None:
        self._command = command
        self._on_note, self._on_trouble, self._background = on_note, on_trouble, background
        self._life: Life | None = None
        self._begun = asyncio.Event()  # a life has begun; another is put in its place when that one has ended
        self._keeping: asyncio.Task[None] | None = None
        self._closing = False
        self.warm = asyncio.Event()  # it has imported what it will, or has failed to

    async def open(self, started: StartedSpawner | None = None) -> None:
        """Begin to listen to the one that was started, or to one that is now.

        Raises:
            OSError: as `SpawnerCommand.begin`.
        """
        life = await self._begin(started)
        self._keeping = self._background.run(self._keep(life))

    async def life(self) -> Life:
        """The present life; waits while there is none."""
        while self._life is None:
            await self._begun.wait()
        return self._life

    async def close(self) -> None:
        """End it, and with it whatever still runs."""
        self._closing = True
        if self._life is not None:
            self._life.hang_up()
        if self._keeping is not None:
            if self._life is None:
                self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def _keep(self, life: Life) -> None:
        """Put another life in the place of each that ends."""
        short = 0
        while True:
            since = time.monotonic()
            how = await life.run()
            self._life, self._begun = None, asyncio.Event()
            if self._closing:
                return
            is_short = life.stood_still or time.monotonic() - since < _SHORT_SECONDS
            short = short + 1 if is_short else 0
            self._on_note("spawner", f"the process that starts the workers {how}; it is started again")
            if short >= _SHORT_LIVES:
                self._on_trouble(f"the process that starts the workers {how}, {short} times in a row")
            await asyncio.sleep(_AGAIN_SECONDS * (2 ** (short - 1)) if short > 1 else 0)
            life = await self._begin_at_last()

    async def _begin_at_last(self) -> Life:
        while True:
            try:
                return await self._begin()
            except OSError as error:
                self._on_trouble(f"the process that starts the workers cannot be started: {error}")
                await asyncio.sleep(_SHORT_SECONDS)

    async def _begin(self, started: StartedSpawner | None = None) -> Life:
        """Listen to this one, or to one that is started now."""
        started = started or self._command.begin()
        started.connection.setblocking(False)
        try:
            streams = await asyncio.open_unix_connection(sock=started.connection)
        except BaseException:
            started.connection.close()  # which ends it
            raise
        self._life = Life(started.process, streams, self._ready)
        self._begun.set()
        return self._life

    def _ready(self, said: SpawnerReady) -> None:
        self.warm.set()
        if said.torch:
            self._on_note("warm", imported(said))
        elif said.error:
            self._on_note("cold", f"workers start cold, as torch could not be imported ahead: {said.error}")


def imported(said: SpawnerReady) -> str:
    """Which versions workers are forked with; diagnosis/versions.py reads it again, to tell where nodes differ."""
    python = ".".join(map(str, sys.version_info[:3]))  # the spawner runs with the agent's own
    nccl = f", NCCL {said.nccl}" if said.nccl else ""
    return f"torch {said.torch}{nccl} is imported in Python {python}; workers are forked"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
