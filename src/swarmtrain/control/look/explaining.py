"""Asking what is wrong with a run: of its coordinator, or of what is left where there is none.

Some things only the client can see: that a file lies here and did not travel, and why a run never got to its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from swarmtrain.control import startup
from swarmtrain.control.stopping import status_over
from swarmtrain.errors import ChannelError, ClusterError, Refused
from swarmtrain.protocol.ask import ask, event_of
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.requests import EventsRequest, ExplainRequest
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link


class Explained(NamedTuple):
    """A run, and what is wrong with it."""

    status: Status
    diagnosis: Diagnosis


def ask_why(launcher: Launcher, run: Run) -> Explained:
    """How a run is, and what is wrong with it.

    Raises:
        ClusterError: neither coordinator nor archive answers, and its launcher knows of no reason.
    """
    try:
        with launcher.connect(run) as link:
            status = startup.explained(launcher, run, status_over(link))
            return Explained(status, diagnosis_over(link, status))
    except ClusterError:
        if (known := startup.end_of(launcher, run)) is None:
            raise
        return Explained(known, diagnosis_of(known, ()))


def diagnosis_over(link: Link, status: Status) -> Diagnosis:
    """What is wrong with a run of this status, asked for over a link."""
    if status.cause is None or not status.cause.hint:  # else it is this client that knows more
        try:
            found = [reply.diagnosis for reply in ask(link, ExplainRequest()) if reply.diagnosis is not None]
            return found[0]
        except (Refused, ChannelError, IndexError):
            pass  # it is of a version that was never asked so
    return diagnosis_of(status, _events(link))


def diagnosis_of(status: Status, events: Iterable[Event]) -> Diagnosis:
    """What is wrong with it as far as a client can say, where no coordinator does."""
    from swarmtrain.diagnosis.case import Case
    from swarmtrain.diagnosis.diagnose import diagnose

    return diagnose(Case.of(status, list(events)))


def _events(link: Link) -> Iterator[Event]:
    for reply in ask(link, EventsRequest()):
        if (event := event_of(reply)) is not None:
            yield event
