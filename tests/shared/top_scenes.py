"""Runs as the live screen sees them: made of documents and series, as a coordinator tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from client_fakes import seen

from swarmtrain.control.look.overview import RunOverview
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Remedy
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import load
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.series.points import Series, SeriesPoint
from swarmtrain.protocol.status import Status

BEGAN = 1_800_000_000.0
PARTS = {"data": 0.001, "forward": 0.002, "backward": 0.003, "communication": 0.003, "optimizer": 0.0005}


def series(name: str, value: float | None, **labels: Any) -> Series:
    """A series with its newest value alone."""
    return Series(name, {key: str(each) for key, each in labels.items()}, time=BEGAN, step=1, value=value)


def curve(
    name: str, values: Sequence[tuple[float, int, float]], generation: int = 1, rank: int = 0
) -> Series:
    """A series with points: seconds since the run began, step, value."""
    points = [
        SeriesPoint(BEGAN + at, BEGAN + at, step, generation, value, value, value)
        for at, step, value in values
    ]
    at, step, value = values[-1]
    return Series(name, {"rank": str(rank)}, time=BEGAN + at, step=step, value=value, points=points)


def worker(rank: int, node: str, **more: Any) -> dict[str, Any]:
    return {"rank": rank, "local_rank": 0, "node": node, "state": "running", "pid": 10, "step": 120, **more}


def member(node: str, ranks: Sequence[int], **more: Any) -> dict[str, Any]:
    here = {"address": "10.0.0.2", "interface": "eth0", "gpus": 0}
    return {"node": node, "state": "running", "ranks": list(ranks), **here, **more}


def running(ranks: int = 2, each: int = 1, **more: Any) -> Status:
    """The status of a run with so many ranks, so many on each node."""
    nodes = [f"lab-{number + 1}" for number in range(-(-ranks // each))]
    return seen(
        **{
            "created": BEGAN,
            "now": BEGAN + 100.0,
            "world_size": ranks,
            "step": 120,
            "epoch": 3.0,
            "loss": 0.25,
            "lr": 0.001,
            "step_seconds": 0.01,
            "workers": [worker(rank, nodes[rank // each]) for rank in range(ranks)],
            "members": [
                member(node, range(at * each, min(ranks, (at + 1) * each))) for at, node in enumerate(nodes)
            ],
            **more,
        }
    )


def measured(status: Status, **more: Any) -> RunOverview:
    """A run of which all is measured: its steps, its nodes and their links."""
    values = [series("train/total_steps", 1000, rank=0), series("train/accuracy", 0.5, rank=0)]
    for each in status.workers:
        values += [series(f"train/{part}_seconds", value, rank=each.rank) for part, value in PARTS.items()]
        values.append(series("train/step_seconds", 0.01, rank=each.rank))
    for node in status.members:
        for name, value in (("cpu_busy", 0.5), ("memory_used", 0.97), ("disk_used", 0.3)):
            values.append(series(f"node/{name}_ratio", value, node=node.node))
        for name, value in (("receive_bytes", 1.5e6), ("transmit_bytes", 2e6), ("receive_drops", 3.0)):
            values.append(series(f"interface/{name}_per_second", value, node=node.node, interface="eth0"))
        values.append(series("interface/receive_bytes_per_second", 9e9, node=node.node, interface="docker0"))
    steps = [(float(second), second * 2, 1.0 / (1 + second)) for second in range(61)]
    return RunOverview(
        status,
        **{
            "events": (event(1, "generation 1: 2 ranks on lab-1, lab-2"),),
            "lines": tuple(Line(BEGAN + at, 1, at % 2, "lab-1", f"line {at}") for at in range(30)),
            "curves": (curve("train/loss", steps), curve("train/step_seconds", steps)),
            "values": tuple(values),
            **more,
        },
    )


def event(seq: int, text: str, kind: str = "note") -> Event:
    return load({"seq": seq, "t": BEGAN + seq, "kind": kind, "text": text})


def failed(ranks: int = 2) -> RunOverview:
    """A run that rank 1 has ended, with its diagnosis."""
    found = measured(
        running(ranks, state="failed", ended=BEGAN + 90.0, reason="rank 1 on lab-2: ValueError: no")
    )
    ends = [
        replace(each, state="exited" if each.rank == 1 else "killed", exit="killed by SIGTERM")
        for each in found.status.workers
    ]
    diagnosis = Diagnosis(
        run="digits.1",
        code="exception",
        verdict="rank 1 on lab-2 raised ValueError: no",
        since=BEGAN + 89.0,
        step=120,
        rank=1,
        node="lab-2",
        cause="an exception that nobody caught",
        sure="certain",
        remedies=[Remedy("Read what it wrote before.", "swarmtrain logs digits.1 --rank 1 --tail 50")],
    )
    return replace(found, status=replace(found.status, workers=ends), diagnosis=diagnosis)


def gpus(node: str, count: int, **more: float) -> list[Series]:
    """What a node measures of so many GPUs."""
    told = {
        "busy_ratio": 0.87,
        "memory_used_bytes": 78e9,
        "memory_total_bytes": 80e9,
        "temperature_celsius": 71.0,
        "power_watts": 612.0,
        "power_limit_watts": 700.0,
        "clock_hertz": 1.98e9,
        **more,
    }
    return [
        series(f"gpu/{name}", value, node=node, gpu=number)
        for number in range(count)
        for name, value in told.items()
    ]
