"""The client's side of a request: it is asked over a link, and its replies are read."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.errors import ChannelError, Refused, RequestError, Stopped, SwarmtrainError, TrainingError
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.replies import ErrorReply, RunReply
from swarmtrain.protocol.requests import R, Request
from swarmtrain.wire.link import Link
from swarmtrain.wire.names import PROTOCOL_VERSION

# What is raised for a refusal, by its exit code.
_ERRORS: dict[int, type[SwarmtrainError]] = {
    kind.exit_code: kind for kind in (TrainingError, RequestError, Refused, Stopped)
}


def ask(link: Link, request: Request[R]) -> Iterator[R]:
    """Send a request now, and return its replies as they come; the last of them is done.

    Raises:
        ClusterError: the coordinator is gone. Of the replies, also:
        SwarmtrainError: the coordinator refused; the class that fits its exit code, `Refused` for 3.
        ChannelError: it answered what makes no sense.
    """
    link.send({**dump(request), "swarmtrain": PROTOCOL_VERSION})
    return _replies(link, request)


def _replies(link: Link, request: Request[R]) -> Iterator[R]:
    while True:
        message = link.receive()
        if message is None:
            raise link.broken()
        reply = load(request.replies, message, "the coordinator's reply")
        if reply.error is not None:
            raise error_of(reply.error)
        yield reply
        if reply.done is not None:
            return


def event_of(reply: RunReply) -> Event | None:
    """The event that a reply tells of.

    Raises:
        ChannelError: it is none.
    """
    if reply.event is None:
        return None
    try:
        return events.load(reply.event)
    except (KeyError, TypeError, ValueError) as error:
        raise ChannelError("the coordinator told of an event that makes no sense") from error


def error_of(refusal: ErrorReply) -> SwarmtrainError:
    """What is raised for a refusal."""
    return _ERRORS.get(refusal.exit, Refused)(refusal.error, refusal.hint)
