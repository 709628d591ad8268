"""Where faults can happen: from inside of a node through its agent, and from outside as the place allows.

    place = place_of(client.get("digits"))
    undo = place.inflict(fault, "node1", status)

The outside is the launcher's (`launchers.base.Machines`); that of a lab is handed in by the command line, which knows
the lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from swarmtrain.control.chaos.faults import KINDS, Fault
from swarmtrain.control.chaos.inside import HeldFault
from swarmtrain.errors import ClusterError
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.launchers.base import Machines, Undo

INSIDE = ("kill-worker", "stop-worker", "fill-disk", "corrupt-snapshot")


class Saboteur(Protocol):
    """What `control.chaos.execution` needs of a place."""

    @property
    def kinds(self) -> Sequence[str]:
        """The faults that work here."""
        ...

    @property
    def mix(self) -> Sequence[str]:
        """Those of them that a random plan does."""
        ...

    def check(self, fault: Fault) -> None:
        """Refuse what cannot happen here, before anything does. Raises ClusterError."""
        ...

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """Those of the run's nodes that this kind of fault can hit."""
        ...

    def inflict(self, fault: Fault, target: str, status: Status) -> Undo | None:
        """Do it, and return what undoes it.

        Args:
            target: a rank or a node of the run, as text.
            status: the run's status document.

        Raises:
            SwarmtrainError: it could not be done.
        """
        ...


class FaultSite:
    """A run in its place."""

    def __init__(self, handle: RunHandle, machines: Machines) -> None:
        self._handle, self._machines = handle, machines
        self.kinds = tuple(kind for kind in KINDS if kind in INSIDE or kind in machines.kinds)
        self.mix = tuple(kind for kind in KINDS if kind in machines.mix)
        self._command: list[str] = []

    def check(self, fault: Fault) -> None:
        """See Saboteur.check."""
        if fault.kind not in self.kinds:
            raise ClusterError(
                f"{fault.kind} does not work on {self._handle.run.on} here", self._machines.hint
            )
        if fault.kind not in INSIDE:
            self._machines.check(fault.kind, fault.target)

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """See Saboteur.nodes."""
        return nodes if kind in INSIDE else self._machines.nodes(kind, nodes)

    def inflict(self, fault: Fault, target: str, status: Status) -> Undo | None:
        """See Saboteur.inflict."""
        if fault.kind not in INSIDE:
            self._machines.check(fault.kind, target)
            return self._machines.kinds[fault.kind](target, fault.rate)
        node, words = _inside(fault, target, status)
        self._command = self._command or self._handle.launcher.program(self._handle.run)
        held = HeldFault(self._handle, node, [*self._command, "sabotage", *words])
        held.wait_until_done()
        if fault.seconds is not None:
            return held.release
        held.let_go()
        return None


def place_of(handle: RunHandle, machines: Machines | None = None) -> FaultSite:
    """The place that a run is in.

    Args:
        machines: its nodes from outside; by default what its launcher offers.
    """
    return FaultSite(handle, machines or handle.launcher.machines(handle.run))


def _inside(fault: Fault, target: str, status: Status) -> tuple[str, list[str]]:
    """The node, and the arguments of ``sabotage`` there (see agent.services.sabotage)."""
    lasts = [] if fault.seconds is None else [f"{fault.seconds:g}"]
    if fault.kind == "fill-disk":
        return target, ["fill", str(fault.leave), str(fault.limit), *lasts]
    if fault.kind == "corrupt-snapshot":
        return target, ["corrupt"]
    worker = next((each for each in status.workers if str(each.rank) == target), None)
    if worker is None or not worker.pid or worker.state != "running":
        raise ClusterError(f"rank {target} does not run")
    verb = fault.kind.removesuffix("-worker")
    return worker.node, [verb, str(worker.pid), *lasts]
