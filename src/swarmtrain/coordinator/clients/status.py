"""The status document of this moment: see protocol/status.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.failure import Failure
from swarmtrain.protocol.status import (
    Cause,
    Directories,
    Member,
    NodeRange,
    Resumed,
    SnapshotState,
    Status,
    Worker,
)
from swarmtrain.wire.disk.storage import write_whole
from swarmtrain.wire.pulse import Source

_STATES = {Phase.GATHERING: "starting", Phase.RUNNING: "running", Phase.STOPPING: "stopping"}

T = TypeVar("T", int, str)


def status(run: RunController) -> Status:
    """The document of this moment."""
    state, current, place, now = run.state, run.current, run.place, run.journal.clock.now()
    reported, past = run.progress.summary(current.generation.number), incident_log.summary(state, now)
    usual = current.heartbeats.usual()  # pulses know sooner than metrics
    stepped = current.heartbeats.step() if current.heartbeats.stepped() is not None else None
    return Status(
        run=run.secret.run,
        job=run.spec.name,
        target=run.spec.target,
        args=list(run.spec.args),
        state=state.outcome.value if state.outcome else _STATES[state.phase],
        reason=state.reason,
        created=state.created,
        started=state.trained,
        ended=state.ended,
        now=now,
        generation=current.generation.number,
        world_size=len(current.workers),
        master=state.generation.master,
        coordinator=place.node,
        resumed_from=run.secret.resume or None,
        workers=[
            Worker(**worker.dump() | {"step": _step(run, worker.rank)}) for worker in current.workers.values()
        ],
        members=_members(run),
        cause=_cause(state.causes),
        nodes=NodeRange(
            run.policy.nodes_min, run.policy.nodes_max, list(run.policy.names), wanted=state.wanted
        ),
        can_pause=_can_pause(run),
        deadline=run.journal.clock.unix(run.deadline),
        lineage=place.lineage,
        lineage_owner=place.lineage_owner,
        directories={
            node: Directories(
                work=str(place.storage.work(place.lineage, node)),
                snapshots=str(place.storage.snapshots(place.lineage, node)),
            )
            for node in sorted({worker.node for worker in current.workers.values()})
        },
        step=stepped if stepped is not None else _of(int, reported["step"]),
        epoch=_number(reported["epoch"]),
        loss=_number(reported["loss"]),
        lr=_number(reported["lr"]),
        step_seconds=round(usual, 6) if usual is not None else _number(reported["step_seconds"]),
        samples=_number(reported["samples"]),
        eval=reported["eval"] if isinstance(reported["eval"], dict) else None,
        snapshot=_snapshot(reported["snapshot"]),
        resumed=_resumed(reported["resumed"]),
        weights=reported["weights"],
        snapshots_failing=reported["snapshots_failing"],
        unsaved=run.progress.unsaved() if run.phase is Phase.ENDED else "",
        restarts=past.restarts,
        lost_seconds=past.lost_seconds,
        lost_steps=past.lost_steps,
        recoveries=past.recoveries,
        healing=past.healing,
    )


def _cause(causes: Sequence[Failure]) -> Cause | None:
    if not causes:
        return None
    first, *others = causes
    return Cause(**asdict(first), others=others)


# What workers report is their own affair, and may be anything; what is not of its type counts as not reported.


def _of(kind: type[T], value: Any) -> T | None:
    return value if type(value) is kind else None


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) else None


def _snapshot(told: Any) -> SnapshotState | None:
    if not isinstance(told, dict):
        return None
    return SnapshotState(
        step=_of(int, told.get("step")),
        epoch=_number(told.get("epoch")),
        path=_of(str, told.get("path")),
        bytes=_of(int, told.get("bytes")),
        seconds=_number(told.get("seconds")),
        node=_of(str, told.get("node")),
    )


def _resumed(told: Any) -> Resumed | None:
    if not isinstance(told, dict):
        return None
    return Resumed(_of(int, told.get("step")), _number(told.get("epoch")), _of(str, told.get("path")))


def leave(run: RunController, places: Iterable[Path]) -> None:
    """Write the document of a run that has ended down for those who list the runs, so that nobody is started to ask."""
    document = {key: value for key, value in status(run).dump().items() if key != "now"}
    for path in places:
        try:
            write_whole(path, json.dumps(document).encode(), mode=0o600)
        except OSError as error:  # it is listed as one that has ended, and no more
            print(f"{path}: {error}", file=sys.stderr, flush=True)


def _can_pause(run: RunController) -> bool | None:
    """Whether the training saves and pauses when it is asked to; None before every rank has told."""
    sources = [beat.source for beat in run.current.heartbeats.beats.values()]
    if len(sources) < max(1, len(run.current.workers)) or Source.NOBODY in sources:
        return None
    return all(source >= Source.COOPERATIVE for source in sources)


def _step(run: RunController, rank: int) -> int | None:
    """A rank's newest step: its pulse knows it sooner than its metrics."""
    beat = run.current.heartbeats.beats.get(rank)
    return (
        beat.step
        if beat is not None and beat.stepped is not None
        else run.progress.step_of(rank, run.current.generation.number)
    )


def _members(run: RunController) -> list[Member]:
    rows = [_member(run, agent) for agent in run.members.connected.values()]
    here = {row.node for row in rows}
    nodes = [*run.spec.node_names, *(worker.node for worker in run.current.workers.values())]
    for node in dict.fromkeys(node for node in nodes if node not in here):
        state = "ended" if run.phase is Phase.ENDED else "waiting"
        ranks = [worker.rank for worker in run.current.workers.values() if worker.node == node]
        rows.append(Member(node, state, ranks=ranks))
    return sorted(rows, key=lambda row: (row.ranks or [1 << 30], row.node))


def _member(run: RunController, agent: ConnectedAgent) -> Member:
    ranks = [worker.rank for worker in run.current.workers.values() if worker.node == agent.node]
    if agent.channel is None:
        state = "ended" if run.phase is Phase.ENDED else "left" if agent.leaving else "lost"
    elif agent.leaving:
        state = "leaving"
    else:
        state = "running" if ranks and not agent.idle else "joined"
    return Member(
        node=agent.node,
        state=state,
        address=agent.address,
        interface=agent.interface,
        why=agent.why,
        gpus=agent.gpus,
        workers=agent.workers,
        ranks=ranks,
    )
