"""A run as its published dashboard holds it: over the run's network, by the reader's key, and without Docker.

What a page asks is asked through `RunHandle`, as everywhere; what would change the run is refused here, and once more
by its coordinator, which knows that this is a reader.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import NoReturn

from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ChannelError, RequestError, in_short
from swarmtrain.launchers.base import Run, parse_handle
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import Join
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.wire import sockets
from swarmtrain.wire.channel import Channel, initiate, relay
from swarmtrain.wire.frames import MAX_FRAME
from swarmtrain.wire.link import Link


class ReadingLauncher:
    """The way to one run's coordinator; for any thread.

    Args:
        address: the coordinator's, host and port.
        key: the reader's.
    """

    name = "swarm"

    def __init__(self, run: Run, address: str, key: str) -> None:
        self.say: Callable[[str], None] = lambda text: None
        self._run, self._address, self._key = run, address, key
        self._loop = asyncio.new_event_loop()
        # A loop holds what it runs weakly: a relay that nobody else knows is collected while it waits.
        self._relays: set[Future[None]] = set()
        threading.Thread(target=self._loop.run_forever, name="relays", daemon=True).start()

    def runs(self) -> list[Run]:
        """The one that there is."""
        return [self._run]

    def connect(self, run: Run) -> Link:
        """See Launcher. That nobody is there turns out when something is asked."""
        ours, theirs = socket.socketpair()
        why: list[str] = []
        relaying = asyncio.run_coroutine_threadsafe(self._relay(theirs, why), self._loop)
        self._relays.add(relaying)
        relaying.add_done_callback(self._relays.discard)

        def hang_up() -> None:
            try:
                ours.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is already
            ours.close()

        return Link(ours.makefile("rb"), ours.makefile("wb"), hang_up, lambda: "".join(why))

    async def _relay(self, theirs: socket.socket, why: list[str]) -> None:
        theirs.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=theirs, limit=MAX_FRAME)
        try:
            coordinator = Channel(*await sockets.dial(self._address))
            try:
                await initiate(coordinator, self._key, as_reader=True)
                await coordinator.send(dump(Join("client")))
                await relay(Channel(reader, writer), coordinator)
            finally:
                coordinator.close()
        except (OSError, ChannelError, TimeoutError, asyncio.TimeoutError) as error:
            reason = in_short(error) or "it does not answer"
            why.append(
                f"{reason}; a coordinator goes an hour after the end of its run, and "
                f"`swarmtrain dashboard {self._run.id}` starts it again"
            )
        finally:
            writer.close()

    def may_answer(self, run: Run) -> bool:
        """See Launcher: to connect is cheap here."""
        return True

    def left(self, run: Run) -> Status | None:
        """See Launcher: nothing is known without asking."""
        return None

    def trouble(self, run: Run) -> Obstacle:
        """See Launcher: Docker is out of reach here."""
        return Obstacle()

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        """See Launcher: Docker is out of reach here."""
        return ""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Whatever would change a run, or lead to one of its nodes."""
        raise RequestError("a published page only reads", "ask where Docker is at hand")

    check = submit = plan = reach = program = machines = resize = recover = kill = refuse = remove = _refuse


class PublishedRuns:
    """The one run that a published page shows, for its questions by name."""

    def __init__(self, launcher: ReadingLauncher) -> None:
        (run,) = launcher.runs()
        self._handle = RunHandle(run, launcher)

    def get(self, handle: str) -> RunHandle:
        """See KnownRuns."""
        job, number = parse_handle(handle)
        run = self._handle.run
        if job != run.job or number not in (None, run.number):
            raise RequestError(f"{handle} is not shown here", f"{run.id} is what is published")
        return self._handle

    def runs(self) -> list[RunHandle]:
        """See KnownRuns."""
        return [self._handle]
