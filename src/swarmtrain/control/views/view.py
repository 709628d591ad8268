"""A run as people see it: the status document turned into words and rows. Pure.

Screens print what these functions return; nothing here knows a terminal, so every word is tested as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmtrain.control.files.union import FileVersion
from swarmtrain.control.views.format import (
    NOTHING,
    age,
    duration,
    name,
    number,
    one_line,
    ranks,
    size,
    step_time,
)
from swarmtrain.control.views.logs import clock_time
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.protocol.status import Status
from swarmtrain.wire.plural import counted, plural

_WORTH_SAYING = 0.01  # of the time of a run
UNREACHABLE = "unreachable"
AT_REST = "ended"  # how, it would have to be started to say


@dataclass(frozen=True)
class Table:
    """Rows under headings; every row is as long as the headings."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


# ---- one line --------------------------------------------------------------------------------------------------------


def took(status: Status, now: float) -> float | None:
    """Seconds from submission until the end, or until now by the run's clock; None where nobody knows."""
    if status.created is None or (status.ended is None and status.has_ended):
        return None
    return float((status.ended or status.now or now) - status.created)


def event_text(event: Event) -> str:
    """An event's words on one line."""
    return one_line(event.text)


def state(status: Status) -> str:
    """The state in a word: ``healing`` from a failure until every rank has made a step again."""
    return "healing" if status.healing and not status.has_ended else status.state


def is_or_has(status: Status) -> str:
    """A run's state after its name: ``is running``, ``failed``."""
    return ("" if status.has_ended else "is ") + state(status)


def headline(status: Status, now: float) -> str:
    """A run in one line: ``digits.1 is running: generation 2, 3 ranks, step 120 of epoch 4, loss 0.1, for 20 s``."""
    word, reason = state(status), status.reason
    parts = []
    if word == "healing":
        reason = status.healing or ""
        parts += waiting(status, now)
    if status.generation:
        parts.append(f"generation {status.generation}")
        parts.append(counted(status.world_size, "rank"))
    if status.step is not None:
        epoch = f" (epoch {status.epoch})" if status.epoch is not None else ""
        parts.append(f"step {status.step}{epoch}")
    if status.loss is not None:
        parts.append(f"training loss {number(status.loss)}")
    if status.step_seconds and not status.has_ended:
        parts.append(f"{step_time(status.step_seconds)} a step")
    if (seconds := took(status, now)) is not None:
        parts.append(f"{'after' if status.has_ended else 'for'} {duration(seconds)}")
    why = f" ({one_line(reason)})" if reason else ""
    return f"{status.run} {is_or_has(status)}{why}" + (f": {', '.join(parts)}" if parts else "")


def waiting(status: Status, now: float) -> list[str]:
    """That a run which has begun is short of nodes, and for how long it waits."""
    if status.state != "starting" or not status.deadline:
        return []
    left = status.deadline - (status.now or now)
    return [f"waiting for nodes, at most {duration(left)} more"] if left > 0 else []


def missing_ranks(status: Status, wanted: Sequence[int]) -> str:
    """That a run has no such ranks, with those it has; empty where it has them, or nobody knows yet."""
    there = [worker.rank for worker in status.workers]
    missing = [rank for rank in wanted if rank not in there]
    if not there or not missing:
        return ""
    return (
        f"{status.run} has no {plural(len(missing), 'rank')} {ranks(missing)}; its ranks are {ranks(there)}"
    )


# ---- healing ---------------------------------------------------------------------------------------------------------


def cost(status: Status) -> str:
    """What failures and changes of the group have cost: ``2 restarts, 5.3 s and 12 steps lost``; empty for nothing."""
    planned = sum(each.planned for each in status.recoveries)
    happened = [counted(status.restarts, "restart")] if status.restarts else []
    happened += [counted(planned, "planned change")] if planned else []
    if not happened:
        return ""
    lost = duration(status.lost_seconds)
    if status.lost_steps:
        lost += f" and {counted(status.lost_steps, 'step')}"
    return f"{', '.join(happened)}, {lost} lost"


def recoveries(status: Status, last: int = 5) -> list[str]:
    """What befell the run and how it went on: a line each for the ``last`` ones."""
    found = status.recoveries
    lines = [f"{clock_time(each.time)}  {one_line(each.text)}" for each in found[-last:]]
    if len(found) > last:
        lines.insert(0, f"({len(found) - last} before these: swarmtrain events {status.run})")
    return lines


def troubles(status: Status) -> list[str]:
    """What does not work now although the training goes on: a line each."""
    failing = sorted(status.snapshots_failing.items())
    return [f"{node} writes no snapshots: {one_line(why)}" for node, why in failing]


# ---- tables ----------------------------------------------------------------------------------------------------------

RUN_COLUMNS = ("RUN", "STATE", "RESTARTS", "ON", "RANKS", "STEP", "LOSS", "AGE", "TOOK")


def run_row(run: str, on: str, status: Status, now: float) -> tuple[str, ...]:
    """A line of ``swarmtrain ps``; of a run that does not answer only the state is known."""
    if status.state in (UNREACHABLE, AT_REST):
        return (run, status.state, NOTHING, on, *[NOTHING] * 5)
    return (
        run,
        state(status),
        str(status.restarts),
        on,
        str(status.world_size or NOTHING),
        number(status.step),
        number(status.loss),
        NOTHING if status.created is None else age((status.now or now) - status.created),
        duration(took(status, now)),
    )


def members(status: Status, joined: Sequence[NodeJoined] = ()) -> Table:
    """The nodes of a run.

    Args:
        joined: the events of their joining, which know a node's address when its agent has gone.
    """
    table = Table(("NODE", "STATE", "RANKS", "ADDRESS", "INTERFACE", "GPUS"))
    known = {event.node: event for event in joined}
    for member in status.members:
        told = known.get(member.node)
        table.rows.append(
            (
                member.node,
                member.state,
                ranks(member.ranks),
                member.address or (told.address if told is not None else "") or NOTHING,
                member.interface or (told.interface if told is not None else "") or NOTHING,
                number(told.gpus if member.gpus is None and told is not None else member.gpus),
            )
        )
    return table


def workers(status: Status) -> Table:
    """The ranks of a run."""
    table = Table(("RANK", "NODE", "STATE", "PID", "STEP", "EXIT"))
    for worker in status.workers:
        table.rows.append(
            (
                str(worker.rank),
                worker.node,
                worker.state,
                number(worker.pid),
                number(worker.step),
                worker.exit or NOTHING,
            )
        )
    return table


def _generation(snapshot: Snapshot) -> str:
    """Which generation a snapshot is of, and of which run, as far as it tells."""
    return f"{snapshot.generation} of {snapshot.run}" if snapshot.run else number(snapshot.generation)


def files(found: Sequence[FileVersion], *, recursive: bool) -> Table:
    """The files of all nodes; directories only where what lies in them is not there, too."""
    filled = {parent for each in found for parent in _parents(each.path)} if recursive else set[str]()
    table = Table(("SIZE", "CHANGED", "NODES", "PATH"))
    for each in found:
        if each.path in filled:
            continue
        nodes = [*map(name, each.nodes), *(f"+ {name(node)}" for node in each.kept)]
        older = "" if each.newest else "  (older)"
        leads = f" -> {name(each.link)}" if each.link else ""
        table.rows.append(
            (
                NOTHING if each.directory or each.link else size(each.bytes),
                clock_time(each.mtime),
                ", ".join(nodes),
                f"{name(each.path)}{'/' * each.directory}{leads}{older}",
            )
        )
    return table


def _parents(path: str) -> list[str]:
    """The directories that a path lies in."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]


def snapshots(found: Sequence[Snapshot]) -> Table:
    """Every copy of a run's snapshots."""
    table = Table(("STEP", "EPOCH", "GENERATION", "NODE", "TIER", "RANKS", "SIZE", "AGE", "COMPLETE"))
    for each in found:
        table.rows.append(
            (
                str(each.step),
                number(each.epoch),
                _generation(each),
                each.node,
                each.tier,
                number(each.world_size),
                size(each.bytes),
                NOTHING if each.age is None else age(each.age),
                f"no: {each.damage}" if each.damage else "yes",
            )
        )
    return table


def time_spent(status: Status) -> str:
    """Where a run's time went, in a sentence; empty where nobody knows."""
    spent = status.goodput
    if spent is None or spent.total <= 0:
        return ""
    words = {
        "start": "start",
        "lost": "steps made again",
        "recovering": "recovering",
        "evaluation": "evaluation",
        "snapshot": "snapshots",
        "data": "waiting for data",
        "other": "what else the script does",
    }
    parts = {word: getattr(spent, name) for name, word in words.items()}
    shown = [
        f"{word} {duration(each)}" for word, each in parts.items() if each >= _WORTH_SAYING * spent.total
    ]
    rest = f"; besides: {', '.join(shown)}" if shown else ""
    return f"{spent.ratio:.0%} of {duration(spent.total)} went into steps that counted{rest}"
