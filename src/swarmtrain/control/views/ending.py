"""What is said of a run that has ended: a summary of what came of it, or why it failed. Pure."""

from __future__ import annotations

import posixpath

from swarmtrain.control.views import explanation, view
from swarmtrain.control.views.format import NOTHING, duration, number, one_line, size, step_time
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.status import SnapshotState, Status
from swarmtrain.wire.plural import counted, plural

_HASH_LETTERS = 12


def summary(status: Status, now: float) -> list[str]:
    """What there is to say when a run has ended: one headed line a fact, and how to get the snapshot."""
    facts = [("steps", _steps(status)), ("healed", view.cost(status))]
    for name, value in (status.eval or {}).items():
        facts.append((f"evaluation {name}" if name == "loss" else name, number(value)))
    facts.append(("training loss", number(status.loss) if status.loss is not None else ""))
    facts += [("nodes", _nodes(status)), ("weights", _weights(status)), ("snapshot", _snapshot(status))]
    facts.append(("NOT SAVED", one_line(status.unsaved)))
    facts = [(name, text) for name, text in facts if text]
    width = max((len(name) for name, _ in facts), default=0)
    title = f"{status.run} {status.state} in {duration(view.took(status, now))}"
    reason = f": {one_line(status.reason)}" if status.reason else ""
    lines = [title + reason]
    for name, text in facts:
        lines.append(f"  {name:<{width}}  {text}")
        if name == "healed":
            lines += [f"  {'':<{width}}  {each}" for each in view.recoveries(status)]
    if path := snapshot_path(status):
        lines.append(f"  {'fetch it':<{width}}  swarmtrain fetch {status.run} {path}{_from(status)}")
    return lines


def failure(status: Status, diagnosis: Diagnosis | None = None) -> list[str]:
    """Why a run failed, and is not tried again; the evidence whole, what followed, and what had been healed before.

    Args:
        diagnosis: what is wrong, where it could be asked: its cause, and what to try, come last.
    """
    cause = status.cause
    before = view.cost(status)
    healed = (
        ["", f"before that: {before}", *(f"  {each}" for each in view.recoveries(status))] if before else []
    )
    advice = explanation.advice(diagnosis) if diagnosis is not None else []
    if cause is None:
        return [f"{status.run} failed: {status.reason or 'no reason is known'}", *healed, *advice]
    sentence, reason = _sentence(cause), one_line(status.reason)
    lines = [f"{status.run} failed: {reason if reason.startswith(sentence) else sentence}"]
    if evidence := cause.traceback.rstrip("\n"):
        lines += ["", *evidence.split("\n")]
    elif cause.log:
        lines += ["", "its last lines:", *cause.log]
    if cause.hint and diagnosis is None:
        lines += ["", f"hint: {cause.hint}"]
    if cause.others:
        lines += ["", "what followed:", *(f"  {_sentence(other)}" for other in cause.others)]
    return lines + healed + advice


def where_the_rest_is(status: Status) -> str:
    """The command that shows the output of the rank that failed; empty where no rank has begun."""
    if not status.generation:
        return ""
    rank = status.cause.rank if status.cause is not None else None
    return f"swarmtrain logs {status.run}" + ("" if rank is None else f" --rank {rank}")


def snapshot_path(status: Status) -> str:
    """The snapshot as `fetch` takes it: relative to the node's working directory, or to the one above."""
    snapshot = status.snapshot or SnapshotState()
    path = snapshot.path or ""
    directories = status.directories.get(snapshot.node or "")
    work = directories.work if directories is not None else ""
    if path.startswith("/") and work:
        for base in (work, posixpath.dirname(work)):
            if path.startswith(f"{base}/"):
                return path.removeprefix(f"{base}/")
    return path


def weights_agree(status: Status) -> bool | None:
    """Whether every rank ended with the same weights; None when they did not say."""
    hashes = status.weights or {}
    if not hashes or len(hashes) < status.world_size:
        return None
    return len(set(hashes.values())) == 1


def _steps(status: Status) -> str:
    if status.step is None:
        return ""
    details = []
    if status.epoch is not None:
        details.append(f"epoch {status.epoch}")
    if status.step_seconds:
        details.append(f"{step_time(status.step_seconds)} a step")
    return str(status.step) + (f" ({', '.join(details)})" if details else "")


def _nodes(status: Status) -> str:
    nodes = list(dict.fromkeys(worker.node for worker in status.workers))
    if not nodes:
        return ""
    generation = status.generation or 1
    return f"{', '.join(nodes)} ({counted(status.world_size, 'rank')}, generation {generation})"


def _weights(status: Status) -> str:
    agree = weights_agree(status)
    if agree is None:
        return ""
    hashes = status.weights or {}
    if agree:
        return f"equal on {_all(len(hashes))} ({next(iter(hashes.values()))[:_HASH_LETTERS]})"
    shown = ", ".join(f"rank {rank} {digest[:_HASH_LETTERS]}" for rank, digest in hashes.items())
    return f"DIFFERENT between ranks: {shown}"


def _all(amount: int) -> str:
    return plural(amount, "the one rank", f"all {amount} ranks")


def _snapshot(status: Status) -> str:
    snapshot = status.snapshot or SnapshotState()
    if not snapshot.path:
        return ""
    details = f" ({size(snapshot.bytes)})" if snapshot.bytes else ""
    return f"step {number(snapshot.step)} on {snapshot.node or NOTHING}: {snapshot_path(status)}{details}"


def _from(status: Status) -> str:
    """What `fetch` needs to hear where the snapshot is not on the node of rank 0, its own first choice."""
    node = status.snapshot.node if status.snapshot is not None else None
    first = next((worker.node for worker in status.workers if worker.rank == 0), node)
    return "" if node == first else f" --node {node}"


def _sentence(failure: Failure) -> str:
    """Where it happened, and what; as the coordinator says it, with which a run's reason begins."""
    summary = one_line(failure.summary)
    if not failure.node:
        return summary
    return f"{who(failure)}{' ' if summary.startswith('was lost') else ': '}{summary}"


def who(failure: Failure) -> str:
    """Whom a failure befell: ``rank 1 on lab-2``, or the whole node."""
    node = failure.node or "an unknown node"
    return node if failure.rank is None else f"rank {failure.rank} on {node}"
