"""What was measured of nodes and ranks, as evidence; and why a rank is slow, as far as that shows. Pure.

The names are those of the series (docs/metrics.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from swarmtrain.protocol.evidence.diagnosis import Observation
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.schema import Struct

_GB = 1e9
_PRESSED = 0.1  # of the time, from which on waiting for memory is told of
_SLOW = 1.5  # times as long as the others, from which on the series show that a rank is slow
_MOSTLY = 0.7  # of the time that a rank takes longer, in one thing, for that to be what differs
_TAKEN = 0.1  # of the processors, or of the time, taken from a node, from which on it counts
_BUSY, _NOT_BUSY = 0.9, 0.75  # of a node's processors
_WAITING = 0.3  # of the time for a disk, from which on that is told of
_GPUS = 4  # of a node, that are told of
_AGAIN = 0.05  # of the segments from node to node, from which on it is told that they are sent again
_LINKS = 3  # the worst ones, that are told of


class NodeMeasures(Struct, kw_only=True):
    """The newest that a node has measured of itself before a failure, or before it is asked.

    Attributes:
        time: of it, Unix time by the run's clock.
        values: by their series.
        gpus: the same of each GPU.
        links: the same of the way to each node that it talks with.
    """

    time: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    gpus: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    links: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class RankPace(Struct, kw_only=True):
    """Where the time of a rank's steps goes, in seconds a step.

    Attributes:
        data, compute: of the last minute.
        before: both together, some minutes earlier; None where it made too few steps then.
    """

    data: float
    compute: float
    before: float | None = None


Measures = Mapping[str, NodeMeasures]


# ---- evidence --------------------------------------------------------------------------------------------------------


def memory(measures: Measures, failure: Failure) -> Iterator[Observation]:
    """How much memory a failure's node, or its container, had left."""
    measured = measures.get(failure.node)
    if measured is None:
        return
    yield from _free(
        measured, failure, "node/memory_available_bytes", "node/memory_used_ratio", "of memory free"
    )
    held = measured.values.get("node/container_memory_bytes")
    limit = measured.values.get("node/container_memory_limit_bytes")
    if held is not None and limit:
        yield _told(measured, failure, f"the container on {failure.node} held {_of(held, limit)} of memory")
    pressed = measured.values.get("node/pressure_memory_ratio", 0.0)
    if pressed >= _PRESSED:
        yield _told(
            measured,
            failure,
            f"processes on {failure.node} waited for memory {_percent(pressed)} of the time",
        )


def disk(measures: Measures, failure: Failure) -> Iterator[Observation]:
    """How much room was left where the run keeps its files, which need not be the disk that is full."""
    if (measured := measures.get(failure.node)) is not None:
        what = "free where the run keeps its files"
        yield from _free(measured, failure, "node/disk_free_bytes", "node/disk_used_ratio", what)


def shared_memory(measures: Measures, failure: Failure) -> Iterator[Observation]:
    """How much of /dev/shm was left."""
    if (measured := measures.get(failure.node)) is not None:
        yield from _free(measured, failure, "node/shm_free_bytes", "node/shm_used_ratio", "of /dev/shm free")


def disk_waits(measures: Measures, failure: Failure) -> Iterator[Observation]:
    """That processes of a failure's node waited for a disk, where they did so much of the time."""
    measured = measures.get(failure.node)
    if measured is not None and (share := _waits_for_disk(measured)) >= _WAITING:
        text = f"processes on {failure.node} waited for a disk {_percent(share)} of the time"
        yield _told(measured, failure, text)


def _waits_for_disk(measured: NodeMeasures) -> float:
    """Of the time: some process waits (PSI), or, where the kernel does not tell, an idle processor."""
    known = (measured.values.get(f"node/{name}") for name in ("pressure_io_ratio", "cpu_wait_ratio"))
    return next((share for share in known if share is not None), 0.0)


def gpus(measures: Measures, failure: Failure) -> Iterator[Observation]:
    """How full and how hot the GPUs of a failure's node were, and what their driver told of them."""
    measured = measures.get(failure.node)
    if measured is None:
        return
    for number, values in sorted(measured.gpus.items())[:_GPUS]:
        used, whole = values.get("gpu/memory_used_bytes"), values.get("gpu/memory_total_bytes")
        heat = values.get("gpu/temperature_celsius")
        parts = [f"held {_of(used, whole)} of memory"] if used is not None and whole else []
        parts += [f"was at {heat:.0f} °C"] if heat is not None else []
        if (xid := values.get("gpu/last_xid")) is not None:
            parts.append(f"had a fault that its driver calls Xid {xid:.0f}")
        if parts:
            yield _told(measured, failure, f"GPU {number} of {failure.node} {' and '.join(parts)}")


def bad_links(measures: Measures) -> list[Observation]:
    """The ways between two nodes on which much has to be sent again, the worst first."""
    found = [
        (share, node, peer, measured.time)
        for node, measured in measures.items()
        for peer, values in measured.links.items()
        if (share := values.get("link/sent_again_ratio", 0.0)) >= _AGAIN
    ]
    return [
        Observation(
            f"{_percent(share)} of what {node} sent to {peer} had to be sent again", node=node, time=time
        )
        for share, node, peer, time in sorted(found, reverse=True)[:_LINKS]
    ]


def _free(measured: NodeMeasures, failure: Failure, free: str, used: str, what: str) -> Iterator[Observation]:
    """What was left; of how much, the share that was in use tells."""
    left, share = measured.values.get(free), measured.values.get(used)
    if left is None:
        return
    size = _of(left, left / (1 - share)) if share is not None and share < 0.999 else f"{left / _GB:.1f} GB"
    yield _told(measured, failure, f"node {failure.node} had {size} {what}")


def _of(part: float, whole: float) -> str:
    return f"{part / _GB:.1f} of {whole / _GB:.1f} GB"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _told(measured: NodeMeasures, failure: Failure, text: str) -> Observation:
    earlier = f" {failure.time - measured.time:.0f} s before" if failure.time >= measured.time else ""
    return Observation(f"{text}{earlier}", node=failure.node, time=measured.time)


# ---- slow ranks ------------------------------------------------------------------------------------------------------


class Slowness(Struct):
    """Why a rank takes longer than the others.

    Attributes:
        why: the end of a sentence that begins with the rank.
        seen: what that rests on.
    """

    why: str
    seen: Sequence[str]


def why_slow(
    rank: int, nodes: Mapping[int, str], paces: Mapping[int, RankPace], measures: Measures
) -> Slowness | None:
    """What differs between a slow rank and the others; None where that is not clear.

    Args:
        nodes: of each rank.
    """
    own, others = paces.get(rank), [pace for each, pace in paces.items() if each != rank]
    if own is None or not others:
        return None
    data = statistics.median(pace.data for pace in others)
    compute = statistics.median(pace.compute for pace in others)
    if own.data + own.compute < _SLOW * (data + compute):
        return None
    more, longer = max(0.0, own.data - data), max(0.0, own.compute - compute)
    if more >= _MOSTLY * (more + longer):
        seen = f"waits {_ms(own.data)} a step for its data, the others {_ms(data)}"
        why, *noticed = _slow_disk(nodes.get(rank, ""), set(nodes.values()), measures) or [
            "it waits for its data"
        ]
        return Slowness(why, [seen, *noticed, *_past(own)])
    if longer < _MOSTLY * (more + longer):
        return None
    seen = f"computes {_ms(own.compute)} a step, the others {_ms(compute)}"
    why, *noticed = _taken(nodes.get(rank, ""), set(nodes.values()), measures) or [
        "its computing takes longer"
    ]
    return Slowness(why, [seen, *noticed, *_past(own)])


def _slow_disk(node: str, nodes: set[str], measures: Measures) -> list[str]:
    """A node that waits for its disks while no other does: why, and what was measured. Empty where it does not."""
    mine = measures.get(node)
    others = [_waits_for_disk(measures[each]) for each in nodes - {node} if each in measures]
    if mine is None or not others or (share := _waits_for_disk(mine)) < _WAITING or max(others) >= share / 2:
        return []
    seen = f"processes on {node} wait for a disk {_percent(share)} of the time, on other nodes {_percent(max(others))}"
    return [
        "it waits for its data: the disk of its node is slow, or busy with something else",
        f"{seen} at most",
    ]


def _past(own: RankPace) -> list[str]:
    """Whether it was so before."""
    now = own.data + own.compute
    if own.before is None or own.before <= 0:
        return []
    if now >= _SLOW * own.before:
        return [f"took {_ms(own.before)} for both some minutes ago, and takes {_ms(now)} now"]
    return ["took as long some minutes ago"] if now < 1.2 * own.before else []


def _taken(node: str, nodes: set[str], measures: Measures) -> list[str]:
    """What is taken from a node and from no other: why, and what was measured of it. Empty where nothing is."""
    mine = measures.get(node)
    others = [measures[each] for each in sorted(nodes - {node}) if each in measures]
    if mine is None or not others:
        return []
    hot = [number for number, values in sorted(mine.gpus.items()) if _is_hot(values)]
    if hot and not any(_is_hot(values) for each in others for values in each.gpus.values()):
        heat = mine.gpus[hot[0]].get("gpu/temperature_celsius")
        at = f" at {heat:.0f} °C" if heat is not None else ""
        return ["its GPU is slowed by heat", f"GPU {hot[0]} of {node} has low clocks{at}"]
    for name, why, what in _TAKERS:
        share = mine.values.get(name, 0.0)
        if share >= _TAKEN and all(each.values.get(name, 0.0) < share / 2 for each in others):
            return [why, f"{_percent(share)} {what} on {node}"]
    busy = mine.values.get("node/cpu_busy_ratio", 0.0)
    most = max(each.values.get("node/cpu_busy_ratio", 1.0) for each in others)
    if busy >= _BUSY and most < _NOT_BUSY:
        seen = f"the processors of {node} are busy to {_percent(busy)}, of other nodes to {_percent(most)} at most"
        return [
            "its node's processors are all busy: another process runs there, or it has fewer of them",
            seen,
        ]
    return []


_TAKERS = (
    (
        "node/cpu_steal_ratio",
        "the host of its virtual machine gives the processors to others",
        "of the processors are stolen",
    ),
    (
        "node/cpu_throttled_ratio",
        "its container's processor limit holds it back",
        "of the periods are throttled",
    ),
)


def _is_hot(values: Mapping[str, float]) -> bool:
    return values.get("gpu/slowed_by_heat", 0.0) > 0


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
