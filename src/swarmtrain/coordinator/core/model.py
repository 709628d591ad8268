"""The words in which decisions about a run are made: facts that go in, and what is to be done that comes out.

:func:`decide.decide` takes a `View` and a `Policy` and returns a `Decision`; the run makes the one and carries out the
other (run/controller.py). Times are seconds on one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from swarmtrain.coordinator.core.restart_policy import RestartPolicy
from swarmtrain.protocol.facts import Attempt, Outcome
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.run_spec import RunSpec


class Phase(str, Enum):
    """Where a run is in its life."""

    GATHERING = "gathering"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Policy(Struct):
    """What the job says about its members. Durations in seconds.

    Attributes:
        names: of the nodes, in the order of their ranks; empty where they are counted.
        first: the node that gets rank 0 when nodes are counted: the coordinator's own.
        last_call: for how long a run that could do with fewer waits for one more.
        lease: for how long a member may be out of touch while no step is made.
        lease_blind: the same where nobody tells of steps, and only the connection has fallen silent.
        lease_alone: the same for the only member of a generation, which can go on by itself: longer than the time
            after which its agent gives up training without a coordinator.
        node_timeout: for how long a run that has begun waits for enough nodes.
        delivery: for how long a run that ends waits for a node whose agent was lost, since its last word: enough for
            another agent to start there, and to bring what the workers wrote.
        stop_grace: for how long workers may save before they are killed, where nothing has failed.
        hang: for how long no step may be made, whatever else moves; None: as `auto_hang` says.
        hang_watched: whether hangs are looked for at all.
    """

    nodes_min: int
    nodes_max: int
    names: tuple[str, ...] = ()
    first: str = ""
    last_call: float = 3.0
    lease: float = 4.0
    lease_blind: float = 15.0
    lease_alone: float = 90.0
    node_timeout: float = 900.0
    delivery: float = 10.0
    stop_grace: float = 60.0
    hang: float | None = None
    hang_watched: bool = True
    restart: RestartPolicy = field(default_factory=RestartPolicy)

    @staticmethod
    def of(spec: RunSpec, node: str) -> Policy:
        """The policy of a job; ``node`` is the coordinator's own."""
        return Policy(
            spec.nodes_min,
            spec.nodes_max,
            spec.node_names,
            node,
            lease_alone=Policy.lease_alone if spec.restart else Policy.lease,
            node_timeout=spec.node_timeout,
            stop_grace=spec.stop_grace,
            hang=spec.hang_timeout or None,
            hang_watched=spec.hang_timeout != 0.0,
            restart=RestartPolicy(spec.restart, spec.max_restarts, spec.restart_window),
        )


@dataclass
class Candidate:
    """An agent that joined, as decisions see it: they read it, and change nothing.

    Attributes:
        port: free on that node a moment ago; for the master.
        heard: when it last said anything.
        idle: no worker is left there.
        drained: it has said, on this connection, that all that was ever written there has arrived.
        warm: it can start workers at once.
        leaving: it has been told to go, and goes when its workers are gone.
        gone: since when its connection is lost; in the future where it is expected back until then.
        settles: until when it is left out, since it has come back after so long that Swarm may be replacing it.
        incarnation: of the agent.
        backend: what would do for this node alone.
    """

    node: str
    slot: int
    workers: int
    address: str
    port: int
    joined: float
    heard: float = 0.0
    idle: bool = True
    drained: bool = True
    warm: bool = True
    leaving: bool = False
    gone: float | None = None
    settles: float = 0.0
    incarnation: str = ""
    backend: str = "gloo"


class Advance(Struct):
    """How the current generation gets on, as its workers' pulses tell.

    Attributes:
        stepped: when the last step was made; None before the first, or where steps are unknown.
        lived: when a rank last showed another sign of life, while no step was made; None where none was seen.
        usual: median seconds of a step; None while unknown.
        steps: how many were seen in this generation.
        busy: a rank is in a phase that makes no steps: starting, evaluating, saving.
        can_pause: every rank can save and pause when it is asked to.
        reports_phases: every rank says when it is busy; of others it is only known as far as it can be seen from
            outside.
    """

    stepped: float | None = None
    lived: float | None = None
    usual: float | None = None
    steps: int = 0
    busy: bool = False
    can_pause: bool = False
    reports_phases: bool = False


class Assignment(Struct):
    """One member's part in a generation."""

    node: str
    group_rank: int
    ranks: tuple[int, ...]


class Formation(Struct):
    """A generation, before it has a number."""

    assignments: tuple[Assignment, ...]
    master: Candidate

    @property
    def world_size(self) -> int:
        """All ranks together."""
        return sum(len(assignment.ranks) for assignment in self.assignments)


class View(Struct):
    """The facts that a decision is made on.

    Attributes:
        deadline: by which enough members must have gathered.
        generation: the number of the current one, 0 before the first.
        cut_off: whoever submitted the run went before all of it was started.
        failed: something failed that this generation does not survive.
        history: how generations failed, on this clock; the current one is its last once `failed`.
        finished: every worker of this generation has gone with its work done.
        left: since when every rank has left its last line of code, whether or not its process has ended; None: not.
        halted: a process of it is stopped by a signal, and will do nothing by itself.
        paused: every worker has saved its work and left, because it was asked to.
        taking_part: nodes of the current generation.
        stopping_until: when members that do not report their workers' end are left out.
        not_before: when the next generation may form.
        pausing_until: by when the workers should have paused, once they were asked to.
        no_pause_before: when they may be asked to, again.
        captured: when the workers were last asked for their stacks; None: not since the last step.
        saves: the program takes snapshots that all ranks agree on, so the group can change without a loss.
        wanted: how many nodes a person wants; None: as many as the job allows.
        full: the coordinator's disk takes nothing more of what workers write.
    """

    phase: Phase
    members: tuple[Candidate, ...]
    deadline: float
    generation: int = 0
    stop_asked: bool = False
    cut_off: bool = False
    failed: bool = False
    history: tuple[Attempt, ...] = ()
    finished: bool = False
    left: float | None = None
    halted: bool = False
    paused: bool = False
    taking_part: frozenset[str] = frozenset()
    stopping_until: float = 0.0
    not_before: float = 0.0
    advance: Advance = field(default_factory=Advance)
    pausing_until: float | None = None
    no_pause_before: float = 0.0
    captured: float | None = None
    saves: bool = False
    wanted: int | None = None
    full: bool = False


class Wait(Struct):
    """Nothing to do before ``until``, or before something happens."""

    until: float | None = None


class Form(Struct):
    """Start a generation."""

    formation: Formation


class MarkLost(Struct):
    """These members have been out of touch for too long while no step was made: the generation fails for them."""

    nodes: tuple[str, ...]


class CaptureStacks(Struct):
    """No step has been made for a good while: find out who does what, and say so."""


class Hang(Struct):
    """No step has been made for too long, and nothing else moves either: the generation fails."""

    limit: float


class Pause(Struct):
    """Ask the workers to save and leave, since the group changes."""

    why: str


class Unpause(Struct):
    """They did not: go on as before."""


class Stop(Struct):
    """Stop the workers of the current generation.

    Attributes:
        grace: seconds until those that are left are killed.
        how: ``term``, ``save`` or ``kill``, as `agent.worker_group.workers.Workers.stop` takes it.
    """

    why: str
    grace: float
    how: str


class Reform(Struct):
    """Prepare the next generation."""

    not_before: float = 0.0


class End(Struct):
    """The run is over."""

    outcome: Outcome
    reason: str = ""


Decision = Wait | Form | MarkLost | CaptureStacks | Hang | Pause | Unpause | Stop | Reform | End
