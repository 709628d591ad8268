"""The agent's end of the spawner: the process is started, told what to start, heard, and started again when it dies.

Whoever asks for workers takes the *life* that there is, and speaks to that one alone: the workers of a generation end
with the life that started them, and nothing of an older one reaches those of a newer. The other end, and what is said,
is worker/spawner.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from swarmtrain.wire.frames import Message

SPAWNER_FD = "SWARMTRAIN_SPAWNER_FD"

# what becomes of a worker ("started", "exited", "failed"), and more of it
Listener = Callable[[str, Message], None]

_SHORT_SECONDS = 5.0  # a life that may have ended of something that is still there
_SHORT_LIVES = 4  # so many of them in a row are a trouble of this node
_AGAIN_SECONDS = 0.5  # before the next life after a short one, and twice as long after each more


class Life:
    """One spawner process, from its start until nothing that it has started is left.

    Args:
        process: the guard, which ends when nothing is left of the tree below it.
        on_ready: is told how the imports went.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_ready: Callable[[Message], None],
    ) -> None:
        self._process, self._on_ready = process, on_ready
        self._reader, self._writer = streams
        self._listeners: dict[str, Listener] = {}
        self._ended = False

    def spawn(self, key: str, request: Message, listener: Listener) -> None:
        """Ask for a worker. The listener hears what becomes of it, also when this life ends."""
        self._listeners[key] = listener
        if self._ended:
            asyncio.get_running_loop().call_soon(self._bury)
        else:
            self._tell({"spawn": {"key": key, **request}})

    def stop(self, key: str, grace: float) -> None:
        """Ask a worker to end, and what it has started after it, if it is there still."""
        if key in self._listeners and not self._ended:
            self._tell({"stop": {"key": key, "grace": grace}})

    def signal(self, key: str, number: int) -> None:
        """Signal a worker and all that it has started, if it is there still."""
        if key in self._listeners and not self._ended:
            self._tell({"signal": {"key": key, "signal": int(number)}})

    async def run(self) -> int:
        """Hear it to its end; its exit code, negative for the number of a signal."""
        try:
            while line := await self._reader.readline():
                ((what, fields),) = json.loads(line).items()
                self._hear(what, fields)
        except (OSError, ValueError) as error:  # it died with requests that it had not read
            print(f"spawner: {error!r}", file=sys.stderr, flush=True)
            self.kill()
        code = await self._process.wait()
        self._ended = True
        self._writer.close()
        self._bury()
        return code

    def hang_up(self) -> None:
        """It ends when nobody is at this end, and ends everything that it has started."""
        self._writer.close()

    def kill(self) -> None:
        """End it at once, and everything that it has started."""
        if self._process.returncode is None:
            self._process.kill()

    def _hear(self, what: str, fields: Message) -> None:
        if what == "ready":
            self._on_ready(fields)
            return
        listener = self._listeners.get(fields["key"])
        if what in ("exited", "failed"):
            self._listeners.pop(fields["key"], None)
        if listener is not None:
            listener(what, fields)

    def _bury(self) -> None:
        """Its workers ended with it."""
        while self._listeners:
            key, listener = self._listeners.popitem()
            listener("exited", {"key": key, "code": None, "signal": int(signal.SIGKILL), "orphaned": True})

    def _tell(self, message: Message) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")


class Spawner:
    """This node's spawner: always one life of it, or soon the next.

    Args:
        start: ``warm`` to import torch first, else ``cold``.
        env: its environment, and so every worker's.
        on_note: called with a kind and a sentence for the journal.
        on_trouble: called with a sentence when it cannot be kept alive.
    """

    def __init__(
        self,
        start: str,
        env: Mapping[str, str],
        on_note: Callable[[str, str], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._start, self._env = start, dict(env)
        self._on_note, self._on_trouble = on_note, on_trouble
        self._life: Life | None = None
        self._begun = asyncio.Event()  # a life has begun; another is put in its place when that one has ended
        self._keeping: asyncio.Task[None] | None = None
        self._closing = False
        self.warm = asyncio.Event()  # it has imported what it will, or has failed to

    async def open(self, directory: Path) -> None:
        """Start it. It begins at once to import what workers will need.

        Raises:
            OSError: there is no such directory, or no memory for another process.
        """
        life = await self._begin(directory)
        self._keeping = asyncio.ensure_future(self._keep(life, directory))

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

    async def _keep(self, life: Life, directory: Path) -> None:
        """Put another life in the place of each that ends."""
        short = 0
        while True:
            began = time.monotonic()
            code = await life.run()
            self._life, self._begun = None, asyncio.Event()
            if self._closing:
                return
            short = short + 1 if time.monotonic() - began < _SHORT_SECONDS else 0
            how = f"was killed by {_name(-code)}" if code < 0 else f"ended with exit code {code}"
            self._on_note("spawner", f"the process that starts the workers {how}; it is started again")
            if short >= _SHORT_LIVES:
                self._on_trouble(f"the process that starts the workers {how}, {short} times in a row")
            await asyncio.sleep(_AGAIN_SECONDS * (2 ** (short - 1)) if short > 1 else 0)
            life = await self._begin_at_last(directory)

    async def _begin_at_last(self, directory: Path) -> Life:
        while True:
            try:
                return await self._begin(directory)
            except OSError as error:
                self._on_trouble(f"the process that starts the workers cannot be started: {error}")
                await asyncio.sleep(_SHORT_SECONDS)

    async def _begin(self, directory: Path) -> Life:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                *entrance("spawner"),
                f"--{self._start}",
                " " * 1024,  # room for the command lines that its forks show: see worker/processes.py
                env=self._env | {SPAWNER_FD: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                cwd=directory,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._life = Life(process, await asyncio.open_unix_connection(sock=ours), self._ready)
        self._begun.set()
        return self._life

    def _ready(self, fields: Message) -> None:
        self.warm.set()
        if fields["torch"]:
            self._on_note("warm", f"torch {fields['torch']} is imported; workers are forked")
        elif fields["error"]:
            error = fields["error"]
            self._on_note("cold", f"workers start cold, as torch could not be imported ahead: {error}")


def bundle() -> str:
    """The zip that this process runs from; empty when it runs from an installed package."""
    path = sys.argv[0]
    return os.path.abspath(path) if path.endswith(".zip") else ""  # noqa: PTH100 - argv[0] may be relative


def entrance(what: str) -> list[str]:
    """The command that starts another part of the bundle the way this one was started."""
    return [sys.executable, bundle(), what] if bundle() else [sys.executable, "-m", "swarmtrain.inside", what]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
