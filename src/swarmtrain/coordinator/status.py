"""The status document: a run as every screen shows it. Its keys are described in docs/architecture.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swarmtrain.coordinator import incident_log
from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.terms import Phase
from swarmtrain.protocol import codec
from swarmtrain.wire.pulse import Source
from swarmtrain.wire.storage import write_whole

_STATES = {Phase.GATHERING: "starting", Phase.RUNNING: "running", Phase.STOPPING: "stopping"}


def status(run: Run) -> dict[str, Any]:
    """The document of this moment."""
    state, now = run.state, run.journal.clock.now()
    causes = [cause.dump() for cause in state.causes]
    return {
        "run": run.ticket.run,
        "job": run.task.name,
        "target": run.task.target,
        "args": list(run.task.args),
        "state": state.outcome.value if state.outcome else _STATES[state.phase],
        "reason": state.reason,
        "created": state.created,
        "started": state.trained,
        "ended": state.ended,
        "now": now,
        "generation": run.current.generation.number,
        "world_size": len(run.current.workers),
        "master": codec.dump(state.generation.master) if state.generation.master else None,
        "coordinator": run.place.node,
        "resumed_from": run.ticket.resume or None,
        "workers": [
            worker.dump() | {"step": _step(run, worker.rank)} for worker in run.current.workers.values()
        ],
        "members": _members(run),
        "cause": causes[0] | {"others": causes[1:]} if causes else None,
        "nodes": {
            "least": run.policy.nodes_min,
            "most": run.policy.nodes_max,
            "names": list(run.policy.names),
            "wanted": state.wanted,
        },
        "cooperative": _cooperative(run),
        "deadline": run.journal.clock.unix(run.deadline),
        "lineage": run.place.lineage,
        "lineage_owner": run.place.lineage_owner,
        "directories": {
            node: {
                "work": str(run.place.storage.work(run.place.lineage, node)),
                "snapshots": str(run.place.storage.snapshots(run.place.lineage, node)),
            }
            for node in sorted({worker.node for worker in run.current.workers.values()})
        },
        **run.progress.summary(run.current.generation.number),
        "unsaved": run.progress.unsaved() if run.phase is Phase.ENDED else "",
        **incident_log.summary(state, now),
    } | _steps(run)


def leave(run: Run, places: Iterable[Path]) -> None:
    """Write the document of a run that has ended down for those who list the runs, so that nobody is started to ask."""
    document = {key: value for key, value in status(run).items() if key != "now"}
    for path in places:
        try:
            write_whole(path, json.dumps(document).encode(), mode=0o600)
        except OSError as error:  # it is listed as one that has ended, and no more
            print(f"{path}: {error}", file=sys.stderr, flush=True)


def _cooperative(run: Run) -> bool | None:
    """Whether the training saves and pauses when it is asked to; None before every rank has told."""
    sources = [beat.source for beat in run.current.vitals.beats.values()]
    if len(sources) < max(1, len(run.current.workers)) or Source.NOBODY in sources:
        return None
    return all(source >= Source.COOPERATIVE for source in sources)


def _step(run: Run, rank: int) -> int | None:
    """A rank's newest step: its pulse knows it sooner than its metrics."""
    beat = run.current.vitals.beats.get(rank)
    return (
        beat.step
        if beat is not None and beat.stepped is not None
        else run.progress.step_of(rank, run.current.generation.number)
    )


def _steps(run: Run) -> dict[str, Any]:
    """What the pulses know of the training as a whole."""
    usual, step = run.current.vitals.usual(), run.current.vitals.step()
    known: dict[str, Any] = {}
    if usual is not None:
        known["step_seconds"] = round(usual, 6)
    if step is not None and run.current.vitals.stepped() is not None:
        known["step"] = step
    return known


def _members(run: Run) -> list[dict[str, Any]]:
    rows = [_member(run, peer) for peer in run.roll.peers.values()]
    here = {row["node"] for row in rows}
    nodes = [*run.task.node_names, *(worker.node for worker in run.current.workers.values())]
    for node in dict.fromkeys(node for node in nodes if node not in here):
        state = "ended" if run.phase is Phase.ENDED else "waiting"
        ranks = [worker.rank for worker in run.current.workers.values() if worker.node == node]
        rows.append({"node": node, "state": state, "ranks": ranks})
    return sorted(rows, key=lambda row: (row["ranks"] or [1 << 30], row["node"]))


def _member(run: Run, peer: Peer) -> dict[str, Any]:
    ranks = [worker.rank for worker in run.current.workers.values() if worker.node == peer.node]
    if peer.channel is None:
        state = "ended" if run.phase is Phase.ENDED else "left" if peer.leaving else "lost"
    elif peer.leaving:
        state = "leaving"
    else:
        state = "running" if ranks and not peer.idle else "joined"
    return {
        "node": peer.node,
        "state": state,
        "address": peer.address,
        "interface": peer.interface,
        "why": peer.why,
        "gpus": peer.gpus,
        "workers": peer.workers,
        "ranks": ranks,
    }
