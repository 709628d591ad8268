"""The ranks, nodes and GPUs of a run with what was measured of them last, a row each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarmtrain.control.look.overview import NewestValues, RunOverview, measured
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.status import Worker

_COMPUTE = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class RankRow:
    """One rank.

    Attributes:
        ended: its end in words; empty before, and where it ended well.
        step_seconds: of its newest step; data, compute and waiting for the others are parts of it.
    """

    rank: int
    node: str
    state: str
    ended: str = ""
    step: int | None = None
    step_seconds: float | None = None
    data: float | None = None
    compute: float | None = None
    waits: float | None = None


def rank_rows(overview: RunOverview) -> list[RankRow]:
    """The ranks, in order."""
    values = NewestValues(overview.values, "rank")
    return [_rank_row(each, values) for each in sorted(overview.status.workers, key=lambda each: each.rank)]


def _rank_row(worker: Worker, values: NewestValues) -> RankRow:
    compute = measured(values.of(f"train/{part}_seconds", worker.rank) for part in _COMPUTE)
    return RankRow(
        rank=worker.rank,
        node=worker.node,
        state=worker.state,
        ended="" if worker.code == 0 else worker.exit,
        step=worker.step,
        step_seconds=values.of("train/step_seconds", worker.rank),
        data=values.of("train/data_seconds", worker.rank),
        compute=sum(compute) if compute else None,
        waits=values.of("train/communication_seconds", worker.rank),
    )


def most_telling(rows: Sequence[RankRow], culprit: int | None = None) -> list[RankRow]:
    """The same ranks with those first that a person should see: ended or not begun, behind, slow by their own work.

    Args:
        culprit: the rank to which a diagnosis leads, which comes before all others.
    """
    newest = max((row.step for row in rows if row.step is not None), default=0)

    def key(row: RankRow) -> tuple[bool, bool, int, float, int]:
        behind = newest - row.step if row.step is not None else 0
        own = (row.data or 0.0) + (row.compute or 0.0)
        return (row.rank != culprit, row.state == "running", -behind, -own, row.rank)

    return sorted(rows, key=key)


@dataclass(frozen=True)
class NodeRow:
    """One node, and the link through which it talks to the others.

    Attributes:
        cpu, memory, disk: used, from 0 to 1.
        disk_free: bytes.
        receive, transmit: bytes a second, on the interface that the training uses.
        faults: packets a second on it that were broken or dropped.
        stalled: of the time that some process waits for memory or a disk (PSI), the larger of both, from 0 to 1.
        swap: bytes a second that are read from it or written to it.
    """

    node: str
    state: str
    ranks: tuple[int, ...] = ()
    address: str = ""
    interface: str = ""
    cpu: float | None = None
    memory: float | None = None
    disk: float | None = None
    disk_free: float | None = None
    receive: float | None = None
    transmit: float | None = None
    faults: float | None = None
    stalled: float | None = None
    swap: float | None = None


def node_rows(overview: RunOverview) -> list[NodeRow]:
    """The nodes, in the order of their ranks."""
    values = NewestValues(overview.values, "node")
    links = _Links(overview.values)
    joined = {event.node: event for event in overview.events if isinstance(event, NodeJoined)}
    rows = []
    for member in overview.status.members:
        node, told = member.node, joined.get(member.node)  # which is known when its agent has gone
        interface = member.interface or (told.interface if told is not None else "")
        stalled = measured(values.of(f"node/pressure_{what}_ratio", node) for what in ("memory", "io"))
        swap = measured(values.of(f"node/swap_{way}_bytes_per_second", node) for way in ("in", "out"))
        faults = measured(
            links.of(f"{way}_{what}", node, interface)
            for way in ("receive", "transmit")
            for what in ("errors", "drops")
        )
        rows.append(
            NodeRow(
                node=node,
                state=member.state,
                ranks=tuple(member.ranks),
                address=member.address or (told.address if told is not None else ""),
                interface=interface,
                cpu=values.of("node/cpu_busy_ratio", node),
                memory=values.of("node/memory_used_ratio", node),
                disk=values.of("node/disk_used_ratio", node),
                disk_free=values.of("node/disk_free_bytes", node),
                receive=links.of("receive_bytes", node, interface),
                transmit=links.of("transmit_bytes", node, interface),
                faults=sum(faults) if faults else None,
                stalled=max(stalled, default=None),
                swap=sum(swap) if swap else None,
            )
        )
    return rows


class _Links:
    """What was measured of interfaces last."""

    def __init__(self, series: Collection[Series]) -> None:
        self._found = {
            (each.name, each.labels.get("node", ""), each.labels.get("interface", "")): each.value
            for each in series
            if each.name.startswith("interface/")
        }

    def of(self, what: str, node: str, interface: str) -> float | None:
        return self._found.get((f"interface/{what}_per_second", node, interface))


@dataclass(frozen=True)
class GpuRow:
    """One GPU of a node.

    Attributes:
        busy: of the time that some kernel runs, from 0 to 1.
        memory, memory_total: bytes.
        temperature: in degrees Celsius.
        power, power_limit: watts.
        clock, clock_limit: hertz.
        slowed: why its clocks are low: ``heat``, ``power``, ``hardware``; empty where they are not.
        uncorrected: errors of its memory that were not corrected.
    """

    node: str
    gpu: str
    busy: float | None = None
    memory: float | None = None
    memory_total: float | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: float | None = None
    clock_limit: float | None = None
    slowed: tuple[str, ...] = ()
    uncorrected: float | None = None


class _GpuKey(NamedTuple):
    node: str
    gpu: str


def gpu_rows(overview: RunOverview) -> list[GpuRow]:
    """The GPUs of the nodes that take part, by node and number; none where no node has one."""
    found: dict[_GpuKey, dict[str, float]] = {}
    for each in overview.values:
        if each.name.startswith("gpu/") and each.value is not None:
            key = _GpuKey(each.labels.get("node", ""), each.labels.get("gpu", ""))
            found.setdefault(key, {})[each.name.removeprefix("gpu/")] = each.value
    members = [member.node for member in overview.status.members]
    return [
        GpuRow(
            node=key.node,
            gpu=key.gpu,
            busy=told.get("busy_ratio"),
            memory=told.get("memory_used_bytes"),
            memory_total=told.get("memory_total_bytes"),
            temperature=told.get("temperature_celsius"),
            power=told.get("power_watts"),
            power_limit=told.get("power_limit_watts"),
            clock=told.get("clock_hertz"),
            clock_limit=told.get("clock_limit_hertz"),
            slowed=tuple(why for why in ("heat", "power", "hardware") if told.get(f"slowed_by_{why}")),
            uncorrected=told.get("ecc_uncorrected_errors"),
        )
        for key, told in sorted(found.items(), key=_in_order(members))
        if key.node in members
    ]


def _in_order(members: Sequence[str]) -> Callable[[tuple[_GpuKey, object]], tuple[int, int, str]]:
    places = {node: place for place, node in enumerate(members)}

    def key(item: tuple[_GpuKey, object]) -> tuple[int, int, str]:
        node, gpu = item[0]
        return (places.get(node, len(places)), int(gpu) if gpu.isdecimal() else -1, gpu)

    return key
