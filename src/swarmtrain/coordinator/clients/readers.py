"""What somebody may ask for who only reads a run: a published dashboard, which has come by the reader's key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol.replies import Done, RunReply
from swarmtrain.protocol.requests import READING, ClientRequest
from swarmtrain.wire.channel import Channel, reader_key

MOST = 128  # at a time: what a run writes is told to each anew, by the process that leads the run


class ReaderSeats:
    """How many readers are here. One instance a coordinator."""

    def __init__(self) -> None:
        self._taken = 0

    @contextmanager
    def seat(self, channel: Channel) -> Iterator[None]:
        """A place for a client while it is here; of those who are no readers nobody is counted.

        Raises:
            ClusterError: there is none left.
        """
        if channel.is_reader and self._taken >= MOST:
            raise ClusterError(f"{MOST} readers of this run are here already", "close pages that show it")
        self._taken += channel.is_reader
        try:
            yield
        finally:
            self._taken -= channel.is_reader


def allowed(request: ClientRequest, channel: Channel) -> ClientRequest:
    """A request that whoever asks may make.

    Raises:
        RequestError: a reader asks for more than reading.
    """
    if channel.is_reader and not isinstance(request, READING):
        raise RequestError("who only reads this run may not ask for that", "ask where Docker is at hand")
    return request


async def key(run: RunController) -> AsyncIterator[RunReply]:
    """The key of readers."""
    yield RunReply(reader_key=reader_key(run.secret.token), done=Done())
