"""Following a run: one stream of events, output and status, over as many connections as it takes.

The coordinator restarts in place, ssh and `docker exec` break, and none of that is the end of a run: the follower
connects again, asks for what it has not seen, and tells nothing twice. While the coordinator says that the run starts,
a `StartupWatch` watches for trouble that it cannot see.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from swarmtrain.control.startup import CannotStart, StartupWatch, explained
from swarmtrain.control.stopping import status_over
from swarmtrain.control.views.logs import Cursor
from swarmtrain.errors import ClusterError, Refused, in_short
from swarmtrain.protocol.ask import ask, event_of
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.replies import Line, RunReply
from swarmtrain.protocol.requests import WatchRequest
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link

# seconds without a word after which the coordinator is given up: a Docker daemon restarts in less
PATIENCE = 60.0
RETRY_SECONDS = 0.5
_REPLAY = 100_000  # lines that a new connection may repeat; what was told already is left out


class Update(NamedTuple):
    """What a watcher is told; the fields that say nothing are empty."""

    event: Event | None = None
    lines: Sequence[Line] = ()
    unfinished: Sequence[Line] | None = None  # lines that go on, in place of those that were told before
    status: Status | None = None
    note: str = ""  # a word about the connection itself


class Follower:
    """One watch of a run. Iterate it once.

    Args:
        after: leave out the events up to this number.
        output: tell the workers' output too.
        tail: begin with this many of the last lines; with all of them when None.
        unfinished: tell of lines that go on, too.
    """

    def __init__(
        self,
        launcher: Launcher,
        run: Run,
        *,
        after: int = 0,
        output: bool = True,
        tail: int | None = None,
        unfinished: bool = False,
    ) -> None:
        self._launcher = launcher
        self._run = run
        self._after = after
        self._output = output
        self._tail = tail
        self._unfinished = unfinished
        self._cursor = Cursor()
        self._begun: bool | None = None  # whether it had, by the last status; None before there is one
        self._link: Link | None = None
        self._abandoned = False

    @contextlib.contextmanager
    def at_most(self, seconds: float | None) -> Iterator[None]:
        """Abandon it after so many seconds; never, where they are None."""
        timer = threading.Timer(seconds or 0.0, self.abandon)
        timer.daemon = True
        if seconds is not None:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def abandon(self) -> None:
        """End the iteration, from any thread."""
        self._abandoned = True
        if self._link is not None:
            self._link.close()

    def __iter__(self) -> Iterator[Update]:
        """Updates until the run has ended.

        Raises:
            ClusterError: the run does not get to its place, or the coordinator stays away.
        """
        heard = time.monotonic()
        broken = False
        while not self._abandoned:
            try:
                for update in self._one_connection():
                    heard = time.monotonic()
                    if broken:
                        yield Update(note="the coordinator is back")
                        broken = False
                    yield update
                return
            except ClusterError as error:
                if self._abandoned:
                    return
                if isinstance(error, (CannotStart, Refused)) or time.monotonic() - heard >= PATIENCE:
                    raise
                if not broken:
                    yield Update(note=f"{in_short(error)}; training goes on, trying again")
                    broken = True
            self._cursor.rewind()
            self._tail = _REPLAY
            time.sleep(RETRY_SECONDS)

    def _one_connection(self) -> Iterator[Update]:
        with (
            self._launcher.connect(self._run) as link,
            StartupWatch(self._launcher, self._run, link.close) as startup_watch,
        ):
            self._link = link
            if self._abandoned:  # while it was connecting, when there was no link to close
                return
            request = WatchRequest(self._after, self._output, self._tail, self._unfinished)
            try:
                for reply in ask(link, request):
                    yield from self._updates(reply)
                    if self._begun:
                        startup_watch.rest()
                    elif self._begun is False:
                        startup_watch.look()
            except ClusterError as error:
                if startup_watch.reason and self._still_starts():
                    raise CannotStart(self._run, startup_watch.reason) from error
                raise

    def _still_starts(self) -> bool:
        """Whether the coordinator says so now: what we know may be old, where nobody has read on meanwhile."""
        with self._launcher.connect(self._run) as link:
            return not _has_begun(status_over(link))

    def _updates(self, reply: RunReply) -> Iterator[Update]:
        if (event := event_of(reply)) is not None and event.seq > self._after:
            self._after = event.seq
            yield Update(event=event)
        if reply.lines is not None and (lines := list(self._cursor.fresh(reply.lines))):
            yield Update(lines=lines)
        if reply.unfinished is not None:
            yield Update(unfinished=reply.unfinished)
        if (status := reply.status) is not None:
            self._begun = self._begun or _has_begun(status)
            yield Update(status=explained(self._launcher, self._run, status))


def _has_begun(status: Status) -> bool:
    """Whether a run has: also one that heals, and what Docker reports then is its coordinator's to heal."""
    return status.state != "starting" or status.generation > 0
