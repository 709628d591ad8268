"""What the three launchers have in common: the protocol, and the words for a run and its place.

A launcher gets one coordinator and N agents to their places and finds them again; everything else about a run is
asked of its coordinator. `control/` is the only caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from swarmtrain.errors import RequestError
from swarmtrain.protocol.requests import KILLED
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.wire.link import Link
from swarmtrain.wire.run_spec import Resumption

if TYPE_CHECKING:
    from swarmtrain.job import LoadedJob
    from swarmtrain.job.origin import Origin
    from swarmtrain.payload.code import Code
    from swarmtrain.swarm.plan import Plan


@dataclass(frozen=True, order=True)
class Run:
    """One submission of a job, as a launcher finds it.

    Attributes:
        on: ``local``, ``docker`` or ``swarm``.
        created: Unix time.
        origin: where it comes from; None: nobody wrote it down.
        live: False only where the launcher knows without asking.
        rests: it has ended, and its coordinator has gone since.
        refused: it never began, and only its record is left.
        killed: why a client did that, where the launcher knows without asking; empty where none did.
        ended: when it did, as Unix time.
    """

    job: str
    number: int
    on: str = field(compare=False)
    created: float = field(compare=False, default=0.0)
    origin: Origin | None = field(compare=False, default=None, repr=False)
    live: bool = field(compare=False, default=True, kw_only=True)
    rests: bool = field(compare=False, default=False, kw_only=True)
    refused: bool = field(compare=False, default=False, kw_only=True)
    killed: str = field(compare=False, default="", kw_only=True)
    ended: float = field(compare=False, default=0.0, kw_only=True)

    @property
    def id(self) -> str:
        """Its name on every screen: ``digits.3``."""
        return f"{self.job}.{self.number}"

    @property
    def stack(self) -> str:
        """Its name where dots are not allowed: ``digits-3``."""
        return f"{self.job}-{self.number}"


@dataclass(frozen=True)
class Notice:
    """Something that was chosen for the user, and why; printed before a run starts."""

    text: str


@dataclass(frozen=True)
class Checked:
    """A job that fits its place. `check` returns it and `submit` takes it; each launcher has one with what it found."""

    job: LoadedJob
    notices: tuple[Notice, ...]  # what was chosen for the user
    sent: Code  # what goes to the nodes


Undo = Callable[[], object]
Act = Callable[[str, str], "Undo | None"]  # on a node, with the rate of a slow link


class Machines(Protocol):
    """A run's nodes from outside, for faults on purpose: what is done to a node, by the fault's name."""

    kinds: Mapping[str, Act]
    hint: str  # what to do where a fault does not work here

    @property
    def mix(self) -> Sequence[str]:
        """The faults that a random plan does here, those from inside of a node among them."""
        ...

    def nodes(self, kind: str, nodes: Sequence[str]) -> Sequence[str]:
        """Those of the run's nodes that this kind of fault can hit."""
        ...

    def check(self, kind: str, node: str) -> None:
        """Refuse a fault that works here but not on this node, which may be ``random``. Raises ClusterError."""
        ...


class Launcher(Protocol):
    """How processes get to their place."""

    name: str
    say: Callable[[str], None]  # is told what takes a while

    def check(self, job: LoadedJob) -> Checked:
        """Refuse, before anything changes, what cannot work here.

        Raises:
            RequestError: wrong anywhere. ClusterError: wrong on this cluster.
        """
        ...

    def submit(self, checked: Checked, run: Run, resume: Resumption | None = None) -> None:
        """Start the coordinator and the agents of ``run``; return as soon as they are on their way.

        Args:
            checked: what `check` has returned a moment ago.
            resume: what this one goes on from; None: a fresh start.
        """
        ...

    def plan(self, job: LoadedJob, *, is_plain: bool = False) -> Plan:
        """The stack that `submit` would deploy for the job's next run, with its files; nothing changes.

        Args:
            is_plain: stock torchrun in one service a node instead, with nothing of ours.

        Raises:
            RequestError: wrong anywhere, or this launcher deploys no stack. ClusterError: wrong on this cluster.
        """
        ...

    def runs(self) -> list[Run]:
        """Every run that is still kept, oldest first. Cheap; empty where the launcher has nothing to say."""
        ...

    def connect(self, run: Run) -> Link:
        """A link to the run's coordinator, or to its archive when the coordinator has gone; it may have to be started.

        Raises:
            ClusterError: it cannot be reached (yet); the message says what is known of it.
        """
        ...

    def may_answer(self, run: Run) -> bool:
        """Whether there is any sign of a coordinator that was just started: whether it is worth while to connect.

        Far cheaper than a vain `connect`, and not always right. Raises ClusterError.
        """
        ...

    def left(self, run: Run) -> Status | None:
        """The last status document of a run that rests, without starting anything for it.

        None: it cannot be read from here.
        """
        ...

    def trouble(self, run: Run) -> Obstacle:
        """What keeps the run's processes from their place, if anything does."""
        ...

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        """Why nodes whose agents are started may never have joined, in a sentence; empty where nothing is known.

        Args:
            heard: the nodes that have joined.
        """
        ...

    def reach(self, run: Run, node: str) -> None:
        """Make a node's files reachable through the coordinator after its agent has ended (for ``fetch``)."""
        ...

    def program(self, run: Run) -> list[str]:
        """The command that starts a part of the bundle beside the workers of a run's nodes, but for the part."""
        ...

    def machines(self, run: Run) -> Machines:
        """The run's nodes from outside, for faults on purpose."""
        ...

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Start agents, or tell some to go, until there are ``nodes``; it does not wait for those that start.

        Args:
            busy: the nodes that train; the others go first, where that can be chosen.

        Raises:
            ClusterError: this run's nodes cannot be another number.
        """
        ...

    def recover(self, run: Run, node: str) -> None:
        """Start the coordinator on another machine, since its own is gone; it takes the journal from the agents.

        Raises:
            ClusterError: it may still live where it was, it cannot go there, or it cannot move at all.
        """
        ...

    def kill(self, run: Run, reason: str = KILLED) -> None:
        """End what still runs of it, when its coordinator does not answer; keep what is on disk.

        That it was stopped so, and why, is written into its journal as soon as somebody can.
        """
        ...

    def refuse(self, run: Run, reason: str) -> None:
        """End a run that cannot get to its place; of what it has, only what tells of it may stay.

        Args:
            reason: what `trouble` says of it from now on.
        """
        ...

    def remove(self, run: Run) -> None:
        """Remove the run's processes and empty its directories on every node."""
        ...


def no_stack(on: str) -> RequestError:
    """What a launcher says that deploys no stack."""
    return RequestError(
        f"only a run on a Swarm has a stack, and this one would be on {on}", "plan with --on swarm"
    )


_ID = re.compile(r"(?P<job>[a-z0-9][-a-z0-9]*)(?:\.(?P<number>[1-9][0-9]{0,8}))?")


def parse_handle(handle: str) -> tuple[str, int | None]:
    """``digits`` as ("digits", None), ``digits.3`` as ("digits", 3).

    Raises:
        RequestError: it is neither.
    """
    match = _ID.fullmatch(handle)
    if match is None:
        raise RequestError(f"{handle!r} is not the name of a run", "names look like `digits` or `digits.3`")
    return match["job"], int(match["number"]) if match["number"] else None
