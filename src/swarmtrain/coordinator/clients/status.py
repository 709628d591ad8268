"""The status document of this moment: see protocol/status.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.measure.goodput import goodput
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.status import (
    Cause,
    Directories,
    Goodput,
    Member,
    NodeRange,
    Status,
)
from swarmtrain.wire.disk.storage import write_whole
from swarmtrain.wire.pulse import Source

_STATES = {Phase.GATHERING: "starting", Phase.RUNNING: "running", Phase.STOPPING: "stopping"}


def status(run: RunController) -> Status:
    """The document of this moment."""
    state, current, place, now = run.state, run.current, run.place, run.journal.clock.now()
    reported, past = run.progress.report(current.generation.number), incident_log.summary(state, now)
    where = reported.position
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
        workers=[replace(worker.told(), step=_step(run, worker.rank)) for worker in current.workers.values()],
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
        step=stepped if stepped is not None else where.step,
        epoch=where.epoch,
        loss=where.loss,
        lr=where.lr,
        step_seconds=round(usual, 6) if usual is not None else where.step_seconds,
        samples=where.samples,
        eval=reported.eval,
        snapshot=reported.snapshot,
        resumed=reported.resumed,
        weights=reported.weights or None,
        snapshots_failing=reported.snapshots_failing,
        unsaved=run.progress.unsaved() if run.phase is Phase.ENDED else "",
        restarts=past.restarts,
        lost_seconds=past.lost_seconds,
        lost_steps=past.lost_steps,
        recoveries=past.recoveries,
        healing=past.healing,
        goodput=_goodput(run, past),
    )


def _goodput(run: RunController, past: incident_log.Summary) -> Goodput | None:
    state, told = run.state, run.progress.time_told
    if state.created is None or not told.steps:
        return None
    until = run.journal.clock.now() if state.ended is None else state.ended
    return goodput(state.created, until, past, told)


def _cause(causes: Sequence[Failure]) -> Cause | None:
    if not causes:
        return None
    first, *others = causes
    return Cause(**asdict(first), others=others)


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
    return all(source >= Source.CAN_PAUSE for source in sources)


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
