"""What somebody may ask for who only reads a run: a published dashboard, which has come by the reader's key."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.errors import RequestError
from swarmtrain.protocol.replies import Done, RunReply
from swarmtrain.protocol.requests import READING, ClientRequest
from swarmtrain.wire.channel import Channel, reader_key


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
