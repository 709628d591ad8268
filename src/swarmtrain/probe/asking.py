"""The side that asks: the way from this node to each other one, tried with real traffic."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from swarmtrain.probe.machine import mtu
from swarmtrain.protocol.probes.reports import PORT, PairReport, PortReport, ProbePeer, ProbePort

_SECONDS = 2.0  # until an answer within a local network counts as none
_PINGS = 15
_TRIES = 3  # of a datagram, which may be lost
_STREAM_TIMEOUT = 6.0
_PATIENCE = 20.0  # with a peer that is busy with others
_AT_ONCE = 16
_LARGEST = 65_535  # packet of IPv4; loopback carries more
_HEADERS = 28  # of IPv4 and UDP
# linux/in.h: never fragment, and do not go by what was learned of the path before
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3


@dataclass(frozen=True)
class AskingManner:
    """How the others are asked.

    Args:
        interface: by which they are reached.
        stream: seconds for which a stream fills the way to one.
        port: at which they answer.
    """

    interface: str = "eth0"
    stream: float = 0.7
    port: int = PORT


def pairs(
    node: str, peers: Sequence[ProbePeer], manner: AskingManner = AskingManner()
) -> Iterator[PairReport]:
    """The way to each peer but this node itself; first whether there is one, then how wide it is."""
    others = [peer for peer in peers if peer.node != node]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda peer: _small(node, peer, manner), others))
    for peer, report in zip(others, found, strict=True):
        wide = not report.tcp and (report.passes is None or report.passes >= report.mtu)
        yield _with(report, bandwidth=_bandwidth(peer.address, manner) if wide else None)


def ports(node: str, wanted: Sequence[ProbePort]) -> Iterator[PortReport]:
    """Whether other machines' ports answer."""
    others = [each for each in wanted if each.node != node]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        errors = list(pool.map(lambda each: _connects(each.address, each.port), others))
    for each, error in zip(others, errors, strict=True):
        yield PortReport(node=node, peer=each.node, port=each.port, error=error)


def _with(report: PairReport, **changed: object) -> PairReport:
    return PairReport(**{**vars(report), **changed})


def _small(node: str, peer: ProbePeer, manner: AskingManner) -> PairReport:
    """All but the bandwidth."""
    tcp, latency, offset = _ping(peer.address, manner.port)
    limit = min(mtu(manner.interface) or 1500, _LARGEST)
    udp, passes = _datagrams(peer.address, manner.port, limit)
    return PairReport(
        node=node,
        peer=peer.node,
        resolved=_resolve(peer.hostname),
        tcp=tcp,
        udp=udp,
        latency=latency,
        offset=offset,
        mtu=limit,
        passes=passes,
        bandwidth=None,
    )


def _resolve(hostname: str) -> list[str]:
    try:
        return sorted({str(each[4][0]) for each in socket.getaddrinfo(hostname, None, socket.AF_INET)})
    except OSError:
        return []


def _why(error: OSError) -> str:
    return "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()


def _connects(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), _SECONDS).close()
    except OSError as error:
        return _why(error)
    return ""


def _ping(address: str, port: int) -> tuple[str, float | None, float | None]:
    """Why nothing came back, the median of the round trips, and by how much the other's clock is ahead."""
    trips: list[tuple[float, float]] = []
    try:
        with socket.create_connection((address, port), _SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = connection.makefile("rwb")
            for _ in range(_PINGS):
                sent, began = time.time(), time.monotonic()
                stream.write(b'{"do": "ping"}\n')
                stream.flush()
                answer = json.loads(stream.readline())
                trip = time.monotonic() - began
                trips.append((trip, answer["time"] - (sent + trip / 2)))
    except OSError as error:
        return _why(error), None, None
    except (ValueError, KeyError):
        return "an answer of somebody else", None, None
    return "", statistics.median(trip for trip, _ in trips), min(trips)[1]


def _datagrams(address: str, port: int, limit: int) -> tuple[str, int | None]:
    """Why no small datagram came back, and the largest packet that arrives whole."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        probe.connect((address, port))
        if not _arrives(probe, 64):
            return "no answer", None
        if _arrives(probe, limit):
            return "", limit
        low, high = 64, limit  # low arrives, high does not
        while high - low > 8:
            middle = (low + high) // 2
            low, high = (middle, high) if _arrives(probe, middle) else (low, middle)
        return "", low


def _arrives(probe: socket.socket, packet: int) -> bool:
    """Whether a packet of this size, headers included, is answered."""
    probe.settimeout(_SECONDS / 4)
    for _ in range(_TRIES):
        number = time.monotonic_ns().to_bytes(8, "big")
        try:
            probe.send(number.ljust(packet - _HEADERS, b"."))
            while (answer := probe.recv(64))[:8] != number:
                pass  # of one that was given up
        except OSError:
            continue
        if int.from_bytes(answer[8:12], "big") == packet - _HEADERS:
            return True
    return False


def _bandwidth(address: str, manner: AskingManner) -> float | None:
    """Bits per second of one stream to a peer; None where it is busy for long, or the stream stalls."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, manner.port), _SECONDS) as connection:
                connection.settimeout(_STREAM_TIMEOUT)
                stream = connection.makefile("rwb")
                stream.write(b'{"do": "swallow"}\n')
                stream.flush()
                if not json.loads(stream.readline())["busy"]:
                    return _stream(connection, manner.stream)
        except (OSError, ValueError, KeyError):
            return None
        time.sleep(0.2)
    return None


def _stream(connection: socket.socket, seconds: float) -> float | None:
    block = bytes(1 << 18)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)
    answer = json.loads(connection.makefile("rb").readline())
    return answer["bytes"] * 8 / answer["seconds"] if answer["seconds"] else None
