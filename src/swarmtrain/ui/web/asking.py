"""The questions that the page asks of runs, each over a connection that is kept for the next one.

A page asks every second, and a connection costs a `docker exec` where a run is on a Swarm.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from swarmtrain.control.handle import RunHandle
from swarmtrain.control.look.series import SeriesRange
from swarmtrain.errors import ChannelError, ClusterError, Refused, SwarmtrainError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.replies import RunReply
from swarmtrain.protocol.requests import RunRequest
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.status import Status
from swarmtrain.wire.link import Link

_IDLE_SECONDS = 30.0  # without a question, after which a connection is closed: the archive of a run goes then
_AT_ONCE = 8  # runs that are asked at a time how they are


class KeptLink:
    """One connection to a run's coordinator. For any thread; one question at a time."""

    def __init__(self, handle: RunHandle) -> None:
        self.handle = handle
        self._link: Link | None = None
        self._asking = threading.Lock()
        self._idle: threading.Timer | None = None

    def ask(self, request: RunRequest) -> list[RunReply]:
        """All replies to a request.

        A connection that has broken since the last question is opened again.

        Raises:
            ClusterError: the coordinator is away, or refuses. ChannelError: it answers what makes no sense.
        """
        with self._asking:
            self._rest()
            is_old = self._link is not None
            try:
                return self._once(request)
            except Refused:
                raise
            except (ClusterError, ChannelError):
                self._hang_up()
                if not is_old:
                    raise
                return self._once(request)
            finally:
                self._idle = threading.Timer(_IDLE_SECONDS, self.close)
                self._idle.daemon = True
                self._idle.start()

    def close(self) -> None:
        """Hang up; a question that is being asked fails."""
        self._rest()
        self._hang_up()

    def _once(self, request: RunRequest) -> list[RunReply]:
        if self._link is None:
            self._link = self.handle.launcher.connect(self.handle.run)
        return list(ask(self._link, request))

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class KnownRuns(Protocol):
    """Where runs are found: the `Client`, or what a published page is given."""

    def get(self, handle: str) -> RunHandle:
        """The run of a name. Raises RequestError where there is none."""
        ...

    def runs(self) -> list[RunHandle]:
        """All of them, oldest first."""
        ...


class Runs:
    """The runs that the page may ask for, by name. For any thread."""

    def __init__(self, client: KnownRuns) -> None:
        self._client = client
        self._links: dict[str, KeptLink] = {}
        self._choosing = threading.Lock()

    def get(self, name: str) -> RunHandle:
        """A run, whose full name is looked up once.

        Raises:
            RequestError: there is none.
        """
        return self._kept(name).handle

    def all(self) -> list[tuple[RunHandle, Status | None]]:
        """Every run that is kept, the newest first, with how it is; None of one that cannot be asked."""
        handles = self._client.runs()[::-1]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(zip(handles, pool.map(_glance, handles), strict=True))

    def series(self, name: str, names: Sequence[str], within: SeriesRange, *, points: bool) -> list[Series]:
        """What was measured of a run; see `RunHandle.series`."""
        replies = self._kept(name).ask(within.request(names, points=points))
        return [reply.series for reply in replies if reply.series is not None]

    def close(self) -> None:
        """Hang up everywhere."""
        with self._choosing:
            for each in self._links.values():
                each.close()

    def _kept(self, name: str) -> KeptLink:
        with self._choosing:
            if (known := self._links.get(name)) is None:
                handle = self._client.get(name)
                known = self._links.setdefault(handle.id, KeptLink(handle))
            return known


def _glance(handle: RunHandle) -> Status | None:
    try:
        return handle.glance()
    except SwarmtrainError:
        return None
