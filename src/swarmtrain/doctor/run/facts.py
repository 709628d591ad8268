"""What is known of a run that is examined. Values; `doctor.run.visits` tries, and the client has asked the rest."""

from __future__ import annotations

from dataclasses import dataclass

from swarmtrain.doctor.cluster.tried import TrialReports
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.evidence.seen import FlightFinding
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.probes.reports import PortReport
from swarmtrain.protocol.status import Member, Status

_GONE = ("left", "lost", "ended")


@dataclass(frozen=True)
class CoordinatorSays:
    """What a run's coordinator says of it.

    Args:
        events: of its journal.
        healthy: the diagnosis is no trouble.
        recorded: what torch's flight records say of the ranks together, where they could be asked.
    """

    status: Status
    diagnosis: Diagnosis
    events: tuple[Event, ...] = ()
    healthy: bool = True
    recorded: tuple[FlightFinding, ...] | None = None


@dataclass(frozen=True)
class RunFacts:
    """A run, what is said of it, and what was found on its nodes.

    Args:
        tried: nothing but its nodes' names where the run has ended.
        coordinator: its address in the run's network; empty where it was not tried.
    """

    said: CoordinatorSays
    tried: TrialReports
    coordinator: str = ""

    @property
    def status(self) -> Status:
        """How it is."""
        return self.said.status

    @property
    def unreached(self) -> list[PortReport]:
        """From where the coordinator does not answer under its name."""
        return [each for each in self.tried.ports if each.error]


def present(status: Status) -> list[Member]:
    """The nodes of a run on which something can be tried."""
    if status.has_ended:
        return []
    return [each for each in status.members if each.address and each.state not in _GONE]


def missing(status: Status) -> list[Member]:
    """Those that should be there and are not."""
    return [] if status.has_ended else [each for each in status.members if each.state == "lost"]
