"""What befell a run and how it went on: for people one line a recovery, for decisions what its failures have in common.

All of it is in the run's state (state.py): here are the events by which it gets there, and the words.
"""

from __future__ import annotations

import re
from dataclasses import replace

from swarmtrain.coordinator.core.state import RunState
from swarmtrain.protocol.facts import Attempt, Failure, Incident
from swarmtrain.protocol.journal.events import GenerationEnded, Recovered
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Recovery
from swarmtrain.wire.plural import counted

# What differs between two failures that are the same: addresses of objects and of machines, process ids, paths of
# temporary files, measured numbers and times. Small whole numbers stay: an index, a shape, a line tell failures apart.
_CHANGING = re.compile(
    r"0x[0-9a-fA-F]+"
    r"|(?<![\w.])\d+\.\d+\.\d+\.\d+(?:\]?:\d+)?"  # [10.0.1.3]:34538
    r"|\[[0-9a-fA-F:]*:[0-9a-fA-F:.]+(?:%\w+)?\](?::\d+)?"  # [fe80::1%eth0]:34538
    r"|(?<=port )\d+|(?<=port: )\d+|(?<=port=)\d+"
    r"|(?<=pid )\d+|(?<=pid: )\d+|(?<=pid=)\d+|(?<=pid\(s\) )[\d, ]+|(?<=process )\d+"
    r"|/(?:tmp|dev/shm|var/tmp|proc)/[^\s'\",:;)]+"
    r"|\b[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\b"  # of a run, a device, a file
    r"|(?<=tensor\()[^()]*"
    r"|\d{4}-\d\d-\d\d|\d+:\d\d:\d\d"
    r"|[-+]?\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+"
    r"|\d+(?= ?(?:ms|s|sec|seconds|milliseconds|min|minutes)\b)"
    r"|\d{5,}",
    re.IGNORECASE,
)


def signature(failure: Failure) -> str:
    """A failure in words that are the same when the same thing happens again."""
    return _CHANGING.sub("#", failure.summary)[:500]


def sentence(incident: Incident, nodes: int, step: int | None, seconds: float, saves: bool = True) -> str:
    """One recovery, for a person.

    Args:
        nodes: on how many the run went on.
        step: from which; None where nobody tells.
        seconds: between the last step before and the first one after.
        saves: the program takes snapshots.
    """
    at = f" at step {incident.step}" if incident.step is not None else ""
    where = f"on {counted(nodes, 'node')}"
    after = f"after {seconds:.1f} s"
    lost = _origin(step, saves) == 0 and incident.step
    steps = f"; {counted(lost, 'step')} lost" if lost else ""
    if step is None and not saves:
        own = " but for what it saves by itself" if steps else ""
        return f"{incident.what}{at}; begun anew {where} {after}: the script takes no snapshots{steps}{own}"
    if lost:
        return f"{incident.what}{at}; begun anew {where} {after}: no snapshot had been taken{steps}"
    origin = f" from step {step}" if step is not None else ""
    return f"{incident.what}{at}; continued {where}{origin} {after}"


def _origin(step: int | None, saves: bool) -> int | None:
    """The step that a generation went on from; None where that is not known."""
    return 0 if step is None and not saves else step


def generation_ended(
    state: RunState, incident: Incident, text: str, attempt: Attempt | None = None, wait: float = 0.0
) -> GenerationEnded:
    """The event of an incident; one that befalls a run before it has gone on from another prolongs that.

    Args:
        text: of the event.
        attempt: how the generation failed; None where it did not.
        wait: seconds before the next generation may form.
    """
    if state.incident is not None:
        incident = replace(incident, since=state.incident.since, step=state.incident.step)
    return GenerationEnded(text=text, incident=incident, attempt=attempt, wait=round(wait, 3))


def recovered(
    incident: Incident, begun: float, nodes: int, step: int | None, generation: int, saves: bool
) -> Recovered:
    """The event of every rank's having made a step again.

    Args:
        begun: Unix time of that.
        nodes, step, saves: as in `sentence`.
    """
    seconds = max(0.0, begun - incident.since)
    return Recovered(
        text=sentence(incident, nodes, step, seconds, saves),
        seconds=round(seconds, 3),
        at_step=incident.step,
        from_step=_origin(step, saves),
        nodes=nodes,
        planned=incident.planned,
        generation=generation,
    )


class Summary(Struct):
    """How often a run went on, and what that cost; as the status document has it."""

    restarts: int
    lost_seconds: float
    lost_steps: int
    recoveries: list[Recovery]
    healing: str | None


def summary(state: RunState, now: float) -> Summary:
    """What befell a run so far.

    Args:
        now: Unix time by the run's clock.
    """
    lost = sum(event.seconds for event in state.recoveries)
    if state.incident is not None:
        lost += max(0.0, (now if state.ended is None else state.ended) - state.incident.since)
    return Summary(
        restarts=len([event for event in state.recoveries if not event.planned]),
        lost_seconds=round(lost, 3),
        lost_steps=sum(_steps_lost(event) for event in state.recoveries),
        recoveries=[Recovery(each.time, each.text, each.seconds, each.planned) for each in state.recoveries],
        healing=state.incident.what if state.incident is not None else None,
    )


def _steps_lost(event: Recovered) -> int:
    at, origin = event.at_step, event.from_step
    return max(0, at - origin) if at is not None and origin is not None else 0
