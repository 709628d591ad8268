"""What the doctor's containers found, put together, and what follows about ways between nodes. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from swarmtrain.protocol.probes.reports import (
    CollectiveReport,
    GpuReport,
    MachineReport,
    PairReport,
    PortReport,
)
from swarmtrain.swarm.cluster import Node


@dataclass
class TrialReports:
    """What came back.

    Args:
        nodes: that took part, or should have.
        failed: by node name, why its container did not start.
        words: the last line that a container wrote which is no report, where one failed.
        silent: by part, the nodes that said nothing in time.
    """

    nodes: Sequence[Node]
    machines: dict[str, MachineReport] = field(default_factory=dict)
    pairs: list[PairReport] = field(default_factory=list)
    ports: list[PortReport] = field(default_factory=list)
    collectives: list[CollectiveReport] = field(default_factory=list)
    gpus: list[GpuReport] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    words: str = ""
    silent: dict[str, list[str]] = field(default_factory=dict)

    @property
    def hears(self) -> dict[tuple[str, str], bool]:
        """By pair, whether anything at all came back over the overlay network."""
        return {(each.node, each.peer): not each.tcp or not each.udp for each in self.pairs}

    def broken_ways(self) -> list[PairReport]:
        """Ways on which a collective would hang: no name, no answer, or large packets that vanish."""
        return [
            each
            for each in self.pairs
            if each.tcp or each.udp or not each.resolved or (each.passes or 0) < each.mtu
        ]

    @property
    def speeds(self) -> dict[tuple[str, str], float]:
        """By pair, the bits per second of one stream, where they were measured."""
        return {(each.node, each.peer): each.bandwidth for each in self.pairs if each.bandwidth}

    def closed_ports(self, port: int) -> list[PortReport]:
        """Where a port of a machine does not answer."""
        return [each for each in self.ports if each.port == port and each.error]


def blame(bad: Iterable[tuple[str, str]], nodes: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Which nodes alone explain bad pairs, and the pairs that remain.

    A node is to blame when every way from it or to it is bad, in one direction or both, and most ways that do not touch
    it are good: then it is one fault of one machine, not many of many pairs.

    Args:
        bad: pairs of names, in either order or both.
        nodes: all names; with two of them nobody can tell which it is.
    """
    together = {frozenset(pair) for pair in bad}
    guilty: list[str] = []
    while len(nodes) - len(guilty) > 2:
        rest = [name for name in nodes if name not in guilty]
        counts = {name: sum(name in pair for pair in together) for name in rest}
        worst = max(rest, key=lambda name: counts[name])
        if counts[worst] < len(rest) - 1 or sum(count == counts[worst] for count in counts.values()) > 1:
            break
        guilty.append(worst)
        together = {pair for pair in together if worst not in pair}
    pairs = sorted((first, second) for first, second in (sorted(pair) for pair in together))
    return guilty, pairs


def usual(speeds: Iterable[float]) -> float:
    """What a way between sound nodes gives: the upper quartile, since of three nodes one bad one spoils two thirds."""
    ordered = sorted(speeds)
    return ordered[int(0.75 * len(ordered))] if ordered else 0.0


def slow(speeds: Mapping[tuple[str, str], float], share: float = 0.4) -> dict[tuple[str, str], float]:
    """Those of some ways whose speed is below a share of what is usual; with two nodes nobody can tell."""
    if len(speeds) < 3:
        return {}
    return {pair: speed for pair, speed in speeds.items() if speed < share * usual(speeds.values())}


def clocks_ahead(pairs: Iterable[PairReport]) -> dict[str, float]:
    """By how many seconds each node's clock is ahead of the middle one: along the pairs that were measured."""
    steps: dict[str, dict[str, float]] = {}
    for each in pairs:
        if each.offset is not None:
            steps.setdefault(each.node, {})[each.peer] = each.offset
            steps.setdefault(each.peer, {}).setdefault(each.node, -each.offset)
    if not steps:
        return {}
    first = min(steps)
    ahead, reached = {first: 0.0}, [first]
    for node in reached:
        for peer, offset in steps[node].items():
            if peer not in ahead:
                ahead[peer] = ahead[node] + offset
                reached.append(peer)
    middle = statistics.median(ahead.values())
    return {node: offset - middle for node, offset in ahead.items()}
