"""What people want of a run: it stops, goes on with other nodes, gets a note. Called by requests.py.

Nothing is decided here, as with what agents say (agents/messages.py): a wish is an event, and the run sees to it.
"""

from __future__ import annotations

from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.active_generation import SETTLE
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol.facts import Failure, Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import ResizeAsked, StopAsked, remark
from swarmtrain.wire.plural import counted, plural

_NOTES = ("chaos",)  # kinds of events that clients may write
_LONGEST_NOTE = 1000


def stop(run: RunController) -> None:
    """A person wants the run to stop."""
    if run.phase is not Phase.ENDED and not run.state.stop_asked:
        run.journal.append(StopAsked(text="asked to stop"))
        if run.phase is Phase.GATHERING:
            # what was written may be on its way
            run.current.stopping_until = run.journal.clock.monotonic() + SETTLE
        run.settle()


def refuse(run: RunController, reason: str) -> bool:
    """The launcher knows why this run cannot start: it fails for that reason, unless it has begun already."""
    if run.phase is Phase.ENDED or run.current.generation.number:
        return False
    run.current.fail(Failure("placement", "", run.journal.clock.now(), reason))
    run.settle()
    return True


def conclude(run: RunController, outcome: Outcome, reason: str) -> None:
    """Whoever has killed what led this run says how it ended, unless it had ended before."""
    if run.state.ended is None:
        if not run.journal.events:
            run.begin()
        run.end(outcome, reason)


def check_resize(run: RunController, nodes: int) -> None:
    """Whether a run can go on with this many nodes.

    Raises:
        ClusterError: it has ended. RequestError: its job does not allow it.
    """
    low, high = run.policy.nodes_min, run.policy.nodes_max
    if run.phase is Phase.ENDED:
        raise ClusterError(
            f"{run.secret.run} has ended: {status(run).state}",
            f"`swarmtrain run --resume --nodes {nodes}` goes on from there",
        )
    if run.policy.names:
        raise RequestError(
            f"{run.secret.run} cannot be resized: its job names its nodes, {', '.join(run.policy.names)}",
            "give the job a range, as nodes: 2..4, to resize it while it runs",
        )
    if not low <= nodes <= high:
        alone = f"{counted(low, 'node')} and no {plural(low, 'other')}"
        allowed = f"{low} to {high} nodes" if low < high else alone
        raise RequestError(
            f"{run.secret.run} cannot go on with {nodes}: its job allows {allowed}",
            "give the job a range, as nodes: 2..4, to resize it while it runs",
        )


def resize(run: RunController, nodes: int) -> None:
    """A person wants the run to go on with this many nodes, within what the job allows."""
    if run.phase is not Phase.ENDED and nodes != run.state.wanted:
        text = f"asked to go on with {counted(nodes, 'node')}"
        run.journal.append(ResizeAsked(text=text, nodes=nodes))
        run.settle()


def note(run: RunController, kind: str, text: str) -> Event:
    """Something a person writes into the journal.

    Raises:
        ClusterError: it is closed. RequestError: people write no events of this kind.
    """
    if kind not in _NOTES:
        raise RequestError(f"a client writes no event of kind {kind!r}", f"kinds: {', '.join(_NOTES)}")
    if run.phase is Phase.ENDED:
        raise ClusterError(f"{run.secret.run} has ended: its journal is closed")
    return run.journal.append(remark(kind, text[:_LONGEST_NOTE]))
