"""What a node is at one moment, as its counters and levels say; and what it did between two such moments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from swarmtrain.agent.measure.connections import TcpCounts
from swarmtrain.agent.measure.proc import CpuTimes, DiskCounts, InterfaceCounts, Throttling

_MOST = 8  # disks, interfaces and peers, where there are very many: those with the most traffic
_RATIO, _BYTES, _SHARE = 0.05, 1e5, 0.2  # by which a value must differ to be another
_PAGE = 4096  # bytes, of which swap is counted; larger only on some machines that are not x86


@dataclass(frozen=True)
class NodeSample:
    """One moment. What the machine does not tell is None, or missing.

    Attributes:
        moment: monotonic seconds.
        pressure: microseconds of waiting since the start, by what was waited for.
        swapped: pages in and out, since the start.
        links: TCP connections with other nodes, by number; the peer of each is a node's name.
        levels: values that stand by themselves, by their series.
    """

    moment: float
    cpu: CpuTimes | None = None
    throttling: Throttling | None = None
    pressure: Mapping[str, int] = field(default_factory=dict)
    swapped: tuple[int, int] | None = None
    disks: Mapping[str, DiskCounts] = field(default_factory=dict)
    interfaces: Mapping[str, InterfaceCounts] = field(default_factory=dict)
    links: Mapping[int, TcpCounts] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)


def measured(before: NodeSample, now: NodeSample) -> dict[str, float]:
    """The values of a node's series at ``now``, in four digits. A counter that began anew is left out once."""
    seconds = now.moment - before.moment
    if seconds <= 0:
        return {}
    values = dict(now.levels)
    for part in (_cpu(before, now), _rates(before, now, seconds), _disks(before, now, seconds)):
        values.update(part)
    values.update(_interfaces(before, now, seconds))
    values.update(_links(before, now, seconds))
    return {name: float(f"{value:.4g}") for name, value in values.items() if value >= 0}


def has_changed(before: Mapping[str, float], now: Mapping[str, float]) -> bool:
    """Whether a node does something else than before: worth a look sooner."""
    if before.keys() != now.keys():
        return True
    for name, value in now.items():
        other = before[name]
        if "_ratio" in name and abs(value - other) > _RATIO:
            return True
        if "bytes_per_second" in name and abs(value - other) > max(_BYTES, _SHARE * max(value, other)):
            return True
    return False


def _cpu(before: NodeSample, now: NodeSample) -> Iterator[tuple[str, float]]:
    if before.cpu is not None and now.cpu is not None and (whole := now.cpu.all - before.cpu.all) > 0:
        yield "node/cpu_busy_ratio", (now.cpu.busy - before.cpu.busy) / whole
        yield "node/cpu_wait_ratio", (now.cpu.wait - before.cpu.wait) / whole
        yield "node/cpu_steal_ratio", (now.cpu.steal - before.cpu.steal) / whole
    if before.throttling is not None and now.throttling is not None:
        periods = now.throttling.periods - before.throttling.periods
        throttled = now.throttling.throttled - before.throttling.throttled
        yield "node/cpu_throttled_ratio", throttled / periods if periods > 0 else 0.0


def _rates(before: NodeSample, now: NodeSample, seconds: float) -> Iterator[tuple[str, float]]:
    for what, total in now.pressure.items():
        if what in before.pressure:
            yield f"node/pressure_{what}_ratio", min(1.0, (total - before.pressure[what]) / 1e6 / seconds)
    if before.swapped is not None and now.swapped is not None:
        for way, first, last in zip(("in", "out"), before.swapped, now.swapped, strict=True):
            yield f"node/swap_{way}_bytes_per_second", (last - first) * _PAGE / seconds


def _disks(before: NodeSample, now: NodeSample, seconds: float) -> Iterator[tuple[str, float]]:
    busiest = sorted(now.disks, key=lambda name: -now.disks[name].busy_ms)[:_MOST]
    for name in busiest:
        if (first := before.disks.get(name)) is None:
            continue
        last, of = now.disks[name], f"{{device={name}}}"
        yield f"disk/read_bytes_per_second{of}", (last.read_bytes - first.read_bytes) / seconds
        yield f"disk/write_bytes_per_second{of}", (last.written_bytes - first.written_bytes) / seconds
        yield f"disk/busy_ratio{of}", min(1.0, (last.busy_ms - first.busy_ms) / 1000 / seconds)
        if (reads := last.reads - first.reads) > 0:
            yield f"disk/read_seconds{of}", (last.read_ms - first.read_ms) / 1000 / reads
        if (writes := last.writes - first.writes) > 0:
            yield f"disk/write_seconds{of}", (last.write_ms - first.write_ms) / 1000 / writes


def _interfaces(before: NodeSample, now: NodeSample, seconds: float) -> Iterator[tuple[str, float]]:
    busiest = sorted(now.interfaces, key=lambda name: -sum(now.interfaces[name][::3]))[:_MOST]
    for name in busiest:
        if (first := before.interfaces.get(name)) is None:
            continue
        last, of = now.interfaces[name], f"_per_second{{interface={name}}}"
        yield f"interface/receive_bytes{of}", (last.received - first.received) / seconds
        yield f"interface/transmit_bytes{of}", (last.sent - first.sent) / seconds
        for what in ("receive_errors", "receive_drops", "transmit_errors", "transmit_drops"):
            yield f"interface/{what}{of}", (getattr(last, what) - getattr(first, what)) / seconds


def _links(before: NodeSample, now: NodeSample, seconds: float) -> Iterator[tuple[str, float]]:
    """What went to each peer and came from it. What a connection carried that has ended since then is not known."""
    by_peer: dict[str, list[TcpCounts]] = {}
    for number, last in now.links.items():
        first = before.links.get(number)  # None: it was made since then
        since = last if first is None else last.since(first)
        if since.segments > 0 or since.received > 0:
            by_peer.setdefault(last.peer, []).append(since)
    sizes = {peer: sum(each.sent + each.received for each in its) for peer, its in by_peer.items()}
    for peer in sorted(sizes, key=lambda peer: -sizes[peer])[:_MOST]:
        its, of = by_peer[peer], f"{{peer={peer}}}"
        yield f"link/transmit_bytes_per_second{of}", sum(each.sent for each in its) / seconds
        yield f"link/receive_bytes_per_second{of}", sum(each.received for each in its) / seconds
        if segments := sum(each.segments for each in its):
            yield f"link/sent_again_ratio{of}", min(1.0, sum(each.again for each in its) / segments)
            yield f"link/round_trip_seconds{of}", min(each.round_trip for each in its if each.segments)
