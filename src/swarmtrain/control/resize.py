"""Another number of nodes for a run that trains: the coordinator is told, and the launcher brings agents or takes them.

Nothing of the training is lost: its group changes only once every rank has saved. To grow, agents are started and the
group takes them in when they are ready. To shrink, the group goes on with fewer first, and the agents that are left
over go then. A script that cannot save and pause is left alone: its group changes when it starts again for another
reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmtrain.control import startup
from swarmtrain.control.views.narration import Narration
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import ResizeRequest
from swarmtrain.protocol.status import Status
from swarmtrain.wire.plural import counted

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle

Tell = Callable[[str], None]

_LOOK_SECONDS = 0.5
_UNKNOWN_SECONDS = 30.0  # for a training to say whether it can pause
_TROUBLE_SECONDS = 10.0  # that a place for a node is missing before nobody waits for it


class Resize:
    """One change of a run's number of nodes.

    Args:
        tell: is told what happens, in sentences.
    """

    def __init__(self, handle: RunHandle, nodes: int, tell: Tell) -> None:
        self._handle, self._nodes, self._tell = handle, nodes, tell
        self._seen = 0
        self._narration = Narration()
        self._trouble = startup.Persistence(_TROUBLE_SECONDS)

    def begin(self) -> Status:
        """Tell the coordinator, and start the agents that are missing.

        Raises:
            RequestError: the job does not allow this number. ClusterError: the run has ended, or is out of reach.
        """
        self._seen = max((event.seq for event in self._handle.events()), default=0)
        with self._handle.launcher.connect(self._handle.run) as link:
            (reply,) = ask(link, ResizeRequest(self._nodes))
        status = reply.status or self._handle.status()
        if self._nodes >= len(training(status)):
            self._bring(status)
        return status

    def finish(self) -> Status:
        """Wait until the run trains with so many nodes, and until those that are left over have gone.

        Raises:
            ClusterError: there is no place for so many, or the run has ended.
        """
        began = time.monotonic()
        while not is_settled(status := self._look(), self._nodes):
            if why := postponed(status, time.monotonic() - began):
                later = f"it goes on with {counted(self._nodes, 'node')} when it starts again"
                self._tell(f"{why}; {later}")
                return status
            time.sleep(_LOOK_SECONDS)
        self._bring(status)
        # Swarm chooses who goes. Where that is one that trains, another takes its part first.
        while not (is_settled(status := self._look(), self._nodes) and len(present(status)) <= self._nodes):
            time.sleep(_LOOK_SECONDS)
        return status

    def _look(self) -> Status:
        """The status of now; what has happened is told. Raises ClusterError when waiting is of no use."""
        status = self._handle.status()
        for event in self._handle.events(after=self._seen):
            self._seen = event.seq
            if said := self._narration.tell(event):
                self._tell(said.text)
        if status.has_ended:
            raise ClusterError(f"{self._handle.id} has ended meanwhile: {status.state}")
        missing = startup.trouble_of(self._handle.launcher, self._handle.run)
        reason = self._trouble.certain(missing, time.monotonic())
        if reason and len(training(status)) < self._nodes:
            raise ClusterError(
                f"{self._handle.id} goes on with {counted(len(training(status)), 'node')}: {reason}",
                "it takes more as soon as there is a place for them",
            )
        return status

    def _bring(self, status: Status) -> None:
        self._handle.launcher.resize(self._handle.run, self._nodes, training(status))


def training(status: Status) -> set[str]:
    """The nodes that take part."""
    return {worker.node for worker in status.workers}


def present(status: Status) -> set[str]:
    """The nodes whose agents are there, whether they train or not."""
    there = ("joined", "running", "leaving")
    return {member.node for member in status.members if member.state in there}


def is_settled(status: Status, nodes: int) -> bool:
    """Whether the run trains with so many nodes."""
    return status.state == "running" and not status.healing and len(training(status)) == nodes


def postponed(status: Status, waited: float) -> str:
    """Why the group does not change now; empty where it does, or may."""
    if status.state != "running" or status.healing:
        return ""
    if status.can_pause is False:
        return "its script cannot save and pause, so nothing is changed now"
    if status.can_pause is None and waited > _UNKNOWN_SECONDS:
        return "nobody tells whether its script can save and pause, so nothing is changed now"
    return ""
