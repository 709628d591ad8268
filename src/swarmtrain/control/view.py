"""A run as people see it: the status document turned into words, rows and a summary. Pure.

Screens print what these functions return; nothing here knows a terminal, so every word is tested as text.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swarmtrain.control.logs import clock_time
from swarmtrain.control.result import ENDED, Event, Status
from swarmtrain.control.say import NOTHING, age, count, duration, number, one_line, ranks, size, step_time
from swarmtrain.wire.snapshots import Snapshot
from swarmtrain.wire.task import GENERATIONS

UNREACHABLE = "unreachable"
_HASH_LETTERS = 12


@dataclass(frozen=True)
class Table:
    """Rows under headings; every row is as long as the headings."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


# ---- one line --------------------------------------------------------------------------------------------------------


def took(status: Status, now: float) -> float | None:
    """Seconds from submission until the end, or until now; None where nobody knows."""
    created, ended = status.get("created"), status.get("ended")
    if created is None or (ended is None and status["state"] in ENDED):
        return None
    return float((ended or now) - created)


def event_text(event: Event) -> str:
    """An event's words on one line."""
    return one_line(event.get("text", ""))


def state(status: Status) -> str:
    """The state in a word: ``healing`` from a failure until every rank has made a step again."""
    return "healing" if status.get("healing") and status["state"] not in ENDED else str(status["state"])


def is_or_has(status: Status) -> str:
    """A run's state after its name: ``is running``, ``failed``."""
    return ("" if status["state"] in ENDED else "is ") + state(status)


def headline(status: Status, now: float) -> str:
    """A run in one line: ``digits.1 is running: generation 2, 3 ranks, step 120 of epoch 4, loss 0.1, for 20 s``."""
    word, reason = state(status), status.get("reason")
    parts = []
    if word == "healing":
        reason = status["healing"]
        parts += _waiting(status, now)
    if status.get("generation"):
        parts.append(f"generation {status['generation']}")
        parts.append(count(status.get("world_size") or 0, "rank"))
    if status.get("step") is not None:
        epoch = f" (epoch {status['epoch']})" if status.get("epoch") is not None else ""
        parts.append(f"step {status['step']}{epoch}")
    if status.get("loss") is not None:
        parts.append(f"training loss {number(status['loss'])}")
    if status.get("step_seconds") and status["state"] not in ENDED:
        parts.append(f"{step_time(status['step_seconds'])} a step")
    if (seconds := took(status, now)) is not None:
        parts.append(f"{'after' if status['state'] in ENDED else 'for'} {duration(seconds)}")
    why = f" ({one_line(reason)})" if reason else ""
    return f"{status['run']} {is_or_has(status)}{why}" + (f": {', '.join(parts)}" if parts else "")


def _waiting(status: Status, now: float) -> list[str]:
    """That a run which has begun is short of nodes, and for how long it waits."""
    if status["state"] != "starting" or not status.get("deadline"):
        return []
    left = status["deadline"] - (status.get("now") or now)
    return [f"waiting for nodes, at most {duration(left)} more"] if left > 0 else []


def missing_ranks(status: Status, wanted: Sequence[int]) -> str:
    """That a run has no such ranks, with those it has; empty where it has them, or nobody knows yet."""
    there = [worker["rank"] for worker in status.get("workers") or ()]
    missing = [rank for rank in wanted if rank not in there]
    if not there or not missing:
        return ""
    which = "rank" if len(missing) == 1 else "ranks"
    return f"{status['run']} has no {which} {ranks(missing)}; its ranks are {ranks(there)}"


# ---- healing ---------------------------------------------------------------------------------------------------------


def cost(status: Status) -> str:
    """What failures and changes of the group have cost: ``2 restarts, 5.3 s and 12 steps lost``; empty for nothing."""
    restarts = status.get("restarts") or 0
    planned = sum(bool(each["planned"]) for each in status.get("recoveries") or ())
    happened = [count(restarts, "restart")] if restarts else []
    happened += [count(planned, "planned change")] if planned else []
    if not happened:
        return ""
    lost = duration(status.get("lost_seconds") or 0.0)
    if steps := status.get("lost_steps"):
        lost += f" and {count(steps, 'step')}"
    return f"{', '.join(happened)}, {lost} lost"


def recoveries(status: Status, last: int = 5) -> list[str]:
    """What befell the run and how it went on: a line each for the ``last`` ones, then what it all cost."""
    found = status.get("recoveries") or []
    lines = [f"{clock_time(each['t'])}  {event_text(each)}" for each in found[-last:]]
    if len(found) > last:
        lines.insert(0, f"({len(found) - last} before these: swarmtrain events {status['run']})")
    return [*lines, f"in all: {cost(status)}"] if lines else []


# ---- tables ----------------------------------------------------------------------------------------------------------

RUN_COLUMNS = ("RUN", "STATE", "RESTARTS", "ON", "RANKS", "STEP", "LOSS", "AGE", "TOOK")


def run_row(run: str, on: str, status: Status | None, now: float) -> tuple[str, ...]:
    """A line of ``swarmtrain ps``; ``status`` is None for a run that does not answer."""
    if status is None:
        return (run, UNREACHABLE, NOTHING, on, *[NOTHING] * 5)
    created = status.get("created")
    return (
        run,
        state(status),
        str(status.get("restarts") or 0),
        on,
        str(status.get("world_size") or NOTHING),
        number(status.get("step")),
        number(status.get("loss")),
        NOTHING if created is None else age(now - created),
        duration(took(status, now)),
    )


def members(status: Status, joined: Sequence[Event] = ()) -> Table:
    """The nodes of a run.

    Args:
        joined: the events of their joining, which know a node's address when its agent has gone.
    """
    table = Table(("NODE", "STATE", "RANKS", "ADDRESS", "INTERFACE", "GPUS"))
    known = {event.get("node"): event for event in joined}
    for each in status.get("members") or ():
        member = {**known.get(each["node"], {}), **each}
        table.rows.append(
            (
                member["node"],
                member["state"],
                ranks(member.get("ranks") or ()),
                member.get("address") or NOTHING,
                member.get("interface") or NOTHING,
                number(member.get("gpus")),
            )
        )
    return table


def workers(status: Status) -> Table:
    """The ranks of a run."""
    table = Table(("RANK", "NODE", "STATE", "PID", "STEP", "EXIT"))
    for worker in status.get("workers") or ():
        table.rows.append(
            (
                str(worker["rank"]),
                worker["node"],
                worker["state"],
                number(worker.get("pid")),
                number(worker.get("step")),
                str(worker.get("exit") or NOTHING),
            )
        )
    return table


def _generation(fence: int) -> str:
    """A generation's number; of a run that went on in another's directories, that run's, too."""
    run, generation = divmod(fence, GENERATIONS)
    return f"{generation} of run {run}" if run else str(generation)


def snapshots(found: Sequence[Snapshot], now: float) -> Table:
    """Every copy of a run's snapshots."""
    table = Table(("STEP", "EPOCH", "GENERATION", "NODE", "TIER", "RANKS", "SIZE", "AGE", "COMPLETE"))
    for each in found:
        table.rows.append(
            (
                str(each.step),
                number(each.epoch),
                _generation(each.generation),
                each.node,
                each.tier,
                number(each.world_size),
                size(each.bytes),
                age(now - each.time) if each.time else NOTHING,
                f"no: {each.damage}" if each.damage else "yes",
            )
        )
    return table


# ---- the end ---------------------------------------------------------------------------------------------------------


def summary(status: Status, now: float) -> list[str]:
    """What there is to say when a run has ended: one headed line a fact, and how to get the snapshot."""
    facts = [("steps", _steps(status)), ("healed", cost(status))]
    for name, value in (status.get("eval") or {}).items():
        facts.append((f"evaluation {name}" if name == "loss" else name, number(value)))
    facts.append(("training loss", number(status["loss"]) if status.get("loss") is not None else ""))
    facts += [("nodes", _nodes(status)), ("weights", _weights(status)), ("snapshot", _snapshot(status))]
    facts = [(name, text) for name, text in facts if text]
    width = max((len(name) for name, _ in facts), default=0)
    title = f"{status['run']} {status['state']} in {duration(took(status, now))}"
    reason = f": {one_line(status['reason'])}" if status.get("reason") else ""
    lines = [title + reason, *(f"  {name:<{width}}  {text}" for name, text in facts)]
    if path := snapshot_path(status):
        lines.append(f"  {'fetch it':<{width}}  swarmtrain fetch {status['run']} {path}{_from(status)}")
    return lines


def failure(status: Status) -> list[str]:
    """Why a run failed, and is not tried again; the evidence whole, what followed, and what had been healed before."""
    cause = status.get("cause") or {}
    if not cause:
        return [f"{status['run']} failed: {status.get('reason') or 'no reason is known'}"]
    sentence, reason = _sentence(cause), one_line(status.get("reason") or "")
    lines = [f"{status['run']} failed: {reason if reason.startswith(sentence) else sentence}"]
    if evidence := (cause.get("traceback") or "").rstrip("\n"):
        lines += ["", *evidence.split("\n")]
    elif cause.get("log"):
        lines += ["", "its last lines:", *cause["log"]]
    if others := cause.get("others") or []:
        lines += ["", "what followed:", *(f"  {_sentence(other)}" for other in others)]
    if before := cost(status):
        lines += ["", f"before that: {before}"]
    return lines


def where_the_rest_is(status: Status) -> str:
    """The command that shows the output of the rank that failed; empty where no rank has begun."""
    if not status.get("generation"):
        return ""
    rank = (status.get("cause") or {}).get("rank")
    return f"swarmtrain logs {status['run']}" + ("" if rank is None else f" --rank {rank}")


def snapshot_path(status: Status) -> str:
    """The snapshot as `fetch` takes it: relative to the node's working directory, or to the one above."""
    snapshot = status.get("snapshot") or {}
    path = str(snapshot.get("path") or "")
    directories = (status.get("directories") or {}).get(snapshot.get("node")) or {}
    work = str(directories.get("work") or "")
    if path.startswith("/") and work:
        for base in (work, posixpath.dirname(work)):
            if path.startswith(f"{base}/"):
                return path.removeprefix(f"{base}/")
    return path


def weights_agree(status: Status) -> bool | None:
    """Whether every rank ended with the same weights; None when they did not say."""
    hashes = status.get("weights") or {}
    if not hashes or len(hashes) < (status.get("world_size") or 0):
        return None
    return len(set(hashes.values())) == 1


def _steps(status: Status) -> str:
    if status.get("step") is None:
        return ""
    details = []
    if status.get("epoch") is not None:
        details.append(f"epoch {status['epoch']}")
    if status.get("step_seconds"):
        details.append(f"{step_time(status['step_seconds'])} a step")
    return str(status["step"]) + (f" ({', '.join(details)})" if details else "")


def _nodes(status: Status) -> str:
    nodes = list(dict.fromkeys(worker["node"] for worker in status.get("workers") or ()))
    if not nodes:
        return ""
    generation = status.get("generation") or 1
    return f"{', '.join(nodes)} ({count(status.get('world_size') or 0, 'rank')}, generation {generation})"


def _weights(status: Status) -> str:
    agree = weights_agree(status)
    if agree is None:
        return ""
    hashes = status["weights"]
    if agree:
        return f"equal on {_all(len(hashes))} ({next(iter(hashes.values()))[:_HASH_LETTERS]})"
    shown = ", ".join(f"rank {rank} {digest[:_HASH_LETTERS]}" for rank, digest in hashes.items())
    return f"DIFFERENT between ranks: {shown}"


def _all(amount: int) -> str:
    return "the one rank" if amount == 1 else f"all {amount} ranks"


def _snapshot(status: Status) -> str:
    snapshot = status.get("snapshot") or {}
    if not snapshot.get("path"):
        return ""
    details = f" ({size(snapshot['bytes'])})" if snapshot.get("bytes") else ""
    return f"step {number(snapshot.get('step'))} on {snapshot.get('node') or NOTHING}: {snapshot_path(status)}{details}"


def _from(status: Status) -> str:
    """What `fetch` needs to hear where the snapshot is not on the node of rank 0, its own first choice."""
    node = status["snapshot"].get("node")
    first = next((worker["node"] for worker in status.get("workers") or () if worker["rank"] == 0), node)
    return "" if node == first else f" --node {node}"


def _sentence(failure: dict[str, Any]) -> str:
    """Where it happened, and what; as the coordinator says it, with which a run's reason begins."""
    summary = one_line(failure.get("summary", ""))
    if not failure.get("node"):
        return summary
    return f"{who(failure)}{' ' if summary.startswith('was lost') else ': '}{summary}"


def who(failure: dict[str, Any]) -> str:
    """Whom a failure befell: ``rank 1 on lab-2``, or the whole node."""
    node = failure.get("node") or "an unknown node"
    return str(node) if failure.get("rank") is None else f"rank {failure['rank']} on {node}"
