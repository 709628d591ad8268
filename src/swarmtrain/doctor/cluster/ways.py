"""Checks of the ways between nodes, by real traffic between containers on each of them. Pure.

What is broken tells what is closed. Names come by the gossip between engines (7946), everything else by VXLAN
(4789/udp): a name that is not known points at the former, a name that leads to an address from which nothing comes back
at the latter. Nodes and their managers hear each other by 2377.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.cluster.containers import GOSSIP, MANAGEMENT
from swarmtrain.doctor.cluster.tried import TrialReports, blame, slow, usual
from swarmtrain.protocol.probes.reports import PairReport
from swarmtrain.wire.plural import counted

_LOPSIDED = 4.0
_LATE_TIMES, _LATE_SECONDS = 8.0, 0.005
_SLACK = 8  # bytes: as near as the search for the largest packet goes
_VXLAN = 50
_OPEN_VXLAN = (
    "open 4789/udp between them, in both directions (ufw allow proto udp to any port 4789, or the like)"
)
_OPEN_GOSSIP = (
    "open 7946/tcp and 7946/udp between them; if they are open, restart Docker on the one that others do "
    "not find"
)


def _names(tried: TrialReports) -> list[str]:
    return [node.hostname for node in tried.nodes if node.hostname not in tried.failed]


def _gossip(tried: TrialReports) -> Iterator[Flaw]:
    yield from _port(
        tried,
        GOSSIP,
        "the engines' gossip, by which containers find each other by name",
        "open 7946/tcp and 7946/udp between all nodes",
    )


def _management(tried: TrialReports) -> Iterator[Flaw]:
    yield from _port(tried, MANAGEMENT, "by which nodes hear their managers", "open 2377/tcp to all managers")


def _port(tried: TrialReports, port: int, what: str, mend: str) -> Iterator[Flaw]:
    closed = {(each.node, each.peer): each.error for each in tried.closed_ports(port)}
    targets = {peer for _, peer in closed}
    for peer in sorted(targets):
        sources = sorted(node for node, other in closed if other == peer)
        why = sorted({closed[(node, peer)] for node in sources})
        yield Flaw(
            f"{', '.join(sources)} to {peer}",
            f"{port}/tcp of {peer} does not answer: {what}",
            mend,
            (f"tried from the nodes' own network: {', '.join(why)}",),
        )


def _port_good(tried: TrialReports) -> str:
    asked = [each for each in tried.ports if not each.error]
    return f"7946/tcp of every node and 2377/tcp of every manager answer ({len(asked)} ways)" if asked else ""


def _unknown_names(tried: TrialReports) -> Iterator[Flaw]:
    bad = [(each.node, each.peer) for each in tried.pairs if not each.resolved]
    guilty, pairs = blame(bad, _names(tried))
    for node in guilty:
        yield Flaw(
            node,
            "no other node finds its containers by name, or it finds nobody's: it is outside of the "
            "engines' gossip",
            _OPEN_GOSSIP,
            _who(bad, node),
        )
    for first, second in pairs:
        directions = [f"{node} does not find {peer}" for node, peer in bad if {node, peer} == {first, second}]
        yield Flaw(f"{first}, {second}", "containers are not found by name", _OPEN_GOSSIP, tuple(directions))


def _who(bad: list[tuple[str, str]], node: str) -> tuple[str, ...]:
    return tuple(f"{first} does not find {second}" for first, second in bad if node in (first, second))


def _no_way(tried: TrialReports) -> Iterator[Flaw]:
    """Nothing at all comes back over the overlay network."""
    bad = [pair for pair, hears in tried.hears.items() if not hears]
    guilty, pairs = blame(bad, _names(tried))
    likely = _likely(tried)
    for node in guilty:
        yield Flaw(
            node,
            f"nothing passes between its containers and those of any other node; {likely}",
            _OPEN_VXLAN,
            _failures(tried, node),
        )
    for first, second in pairs:
        yield Flaw(
            f"{first}, {second}",
            f"nothing passes between their containers; {likely}",
            _OPEN_VXLAN,
            tuple(_failure(each) for each in tried.pairs if {each.node, each.peer} == {first, second}),
        )


def _likely(tried: TrialReports) -> str:
    if not tried.ports:  # as beside a run, where no container is in the nodes' own network
        return "4789/udp is likely blocked, unless the machines do not reach each other at all"
    if tried.closed_ports(GOSSIP):
        return "the engines do not hear each other either (7946): a firewall, or no route at all"
    return "the engines hear each other (7946), so 4789/udp is likely blocked"


def _failures(tried: TrialReports, node: str) -> tuple[str, ...]:
    return tuple(
        _failure(each) for each in tried.pairs if node in (each.node, each.peer) and each.tcp and each.udp
    )


def _failure(each: PairReport) -> str:
    tcp, udp = each.tcp or "answers", each.udp or "answers"
    return f"{each.node} to {each.peer}: TCP {tcp}, UDP {udp}"


def _half_a_way(tried: TrialReports) -> Iterator[Flaw]:
    for each in tried.pairs:
        if bool(each.tcp) != bool(each.udp):
            works, fails = ("UDP", f"TCP ({each.tcp})") if each.tcp else ("TCP", f"UDP ({each.udp})")
            yield Flaw(
                f"{each.node} to {each.peer}",
                f"{works} passes and {fails} does not: something in between looks into the packets",
                "a firewall or an accelerator between them: iptables -S, ethtool -K IFACE "
                "tx-checksum-ip-generic off",
            )


def _unheard(tried: TrialReports) -> Iterator[Flaw]:
    for part, what in (
        ("ask", "what it finds of the ways to the others"),
        ("ports", "which ports it reaches"),
    ):
        for node in tried.silent.get(part, []):
            yield Flaw(
                node,
                f"it did not say in time {what}",
                "run the doctor again; on it: docker ps, journalctl -u docker",
            )


def _ways_good(tried: TrialReports) -> str:
    good = [each for each in tried.pairs if not each.tcp and not each.udp and each.resolved]
    return f"names, TCP and UDP pass between all containers ({counted(len(good), 'way')})" if good else ""


def _black_hole(tried: TrialReports) -> Iterator[Flaw]:
    holes = {
        (each.node, each.peer): each
        for each in tried.pairs
        if each.passes is not None and each.passes < each.mtu
    }
    guilty, pairs = blame(holes, _names(tried))
    for node in guilty:
        here = [each for pair, each in holes.items() if node in pair]
        yield _hole(node, "between it and any other node", here)
    for first, second in pairs:
        here = [each for pair, each in holes.items() if set(pair) == {first, second}]
        yield _hole(f"{first}, {second}", "between them", here)


def _hole(subject: str, where: str, reports: list[PairReport]) -> Flaw:
    passes, mtu = min(each.passes or 0 for each in reports), max(each.mtu for each in reports)
    fits = (passes // 2) * 2
    return Flaw(
        subject,
        f"packets of {mtu} bytes vanish {where}, and small ones pass: training hangs at its first large "
        "message",
        f"docker network create --driver overlay --attachable --opt com.docker.network.driver.mtu={fits} "
        "NAME, then "
        "--network existing:NAME; or a larger MTU on the machines and switches in between",
        (
            *(f"{each.node} to {each.peer}: up to {each.passes} bytes arrive" for each in reports),
            f"the path carries about {passes + _VXLAN} bytes, and the overlay adds {_VXLAN}",
        ),
    )


def _holes_good(tried: TrialReports) -> str:
    whole = [each for each in tried.pairs if each.passes == each.mtu]
    return f"packets of {whole[0].mtu} bytes pass whole" if whole else ""


def _slow(tried: TrialReports) -> Iterator[Flaw]:
    bad, others = slow(tried.speeds), f"(the others: {_gigabits(usual(tried.speeds.values()))})"
    guilty, pairs = blame(bad, _names(tried))
    for node in guilty:
        yield Flaw(
            node,
            f"the ways from or to it are slow {others}: its link, its port or its cable",
            "on it: ethtool IFACE | grep -E 'Speed|Duplex', tc qdisc show, and another cable",
            tuple(_speed(*pair, bits) for pair, bits in bad.items() if node in pair),
        )
    for first, second in pairs:
        yield Flaw(
            f"{first}, {second}",
            f"the way between them is slow {others}",
            "mtr between the two: what lies there and not between the others?",
            tuple(_speed(*pair, bits) for pair, bits in bad.items() if set(pair) == {first, second}),
        )


def _speed(node: str, peer: str, bits: float) -> str:
    return f"{node} to {peer}: {_gigabits(bits)}"


def _gigabits(bits: float) -> str:
    return f"{bits / 1e9:.1f} Gb/s" if bits >= 1e9 else f"{bits / 1e6:.0f} Mb/s"


def _stalled(tried: TrialReports) -> Iterator[Flaw]:
    for each in tried.pairs:
        if not each.tcp and each.bandwidth is None and each.passes == each.mtu:
            yield Flaw(
                f"{each.node} to {each.peer}",
                "a stream was not through in time",
                "run the doctor again; if it stays so, as for a slow way",
            )


def _speed_good(tried: TrialReports) -> str:
    measured = tried.speeds.values()
    if not measured:
        return ""
    slowest, fastest, middle = min(measured), max(measured), statistics.median(measured)
    return (
        f"one stream between containers: {_gigabits(slowest)} to {_gigabits(fastest)}, median "
        f"{_gigabits(middle)}"
    )


def _lopsided(tried: TrialReports) -> Iterator[Flaw]:
    speeds = tried.speeds
    for (node, peer), there in sorted(speeds.items()):
        back = speeds.get((peer, node))
        if back and back > _LOPSIDED * there:
            yield Flaw(
                f"{node} to {peer}",
                f"{_gigabits(there)} there and {_gigabits(back)} back: as of a duplex mismatch, or "
                "a link that is limited in one direction",
                f"on {node}: ethtool IFACE, tc qdisc show",
            )


def _late(tried: TrialReports) -> Iterator[Flaw]:
    trips = [each.latency for each in tried.pairs if each.latency is not None]
    if len(trips) < 3:
        return
    middle = statistics.median(trips)
    for each in tried.pairs:
        if each.latency is not None and each.latency > max(_LATE_SECONDS, _LATE_TIMES * middle):
            yield Flaw(
                f"{each.node} to {each.peer}",
                f"a message takes {each.latency * 1000:.1f} ms there and back, between the others "
                f"{middle * 1000:.1f} ms",
                "mtr between the two; a node that is busy answers late, too",
            )


def _late_good(tried: TrialReports) -> str:
    trips = [each.latency for each in tried.pairs if each.latency is not None]
    return (
        f"a message takes {statistics.median(trips) * 1000:.2f} ms there and back, the median"
        if trips
        else ""
    )


CHECKS: tuple[Check[TrialReports], ...] = (
    Check("port-2377", Severity.ERROR, "2377/tcp from each node to each manager", _management),
    Check("port-7946", Severity.ERROR, "7946/tcp between all nodes", _gossip, _port_good),
    Check(
        "names", Severity.ERROR, "whether containers find each other by name, on every node", _unknown_names
    ),
    Check(
        "overlay", Severity.ERROR, "whether anything passes between containers: 4789/udp", _no_way, _ways_good
    ),
    Check("unheard", Severity.WARNING, "nodes that did not say what they found", _unheard),
    Check("half-open", Severity.ERROR, "ways on which TCP or UDP passes alone", _half_a_way),
    Check(
        "black-hole",
        Severity.ERROR,
        "packets that vanish because they are large (MTU)",
        _black_hole,
        _holes_good,
    ),
    Check(
        "slow-way", Severity.WARNING, "pairs and nodes that are slower than the others", _slow, _speed_good
    ),
    Check("stalled", Severity.WARNING, "streams that do not end", _stalled),
    Check("lopsided", Severity.WARNING, "ways that are slow in one direction", _lopsided),
    Check("latency", Severity.WARNING, "ways on which messages take long", _late, _late_good),
)
