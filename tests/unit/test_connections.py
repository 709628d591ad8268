"""What the kernel counts of connections, of real ones, and what becomes of it between two samples of a node."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarmtrain.agent.measure import connections as kernel
from swarmtrain.agent.measure import reader
from swarmtrain.agent.measure.connections import TcpCounts, connections, peers_of
from swarmtrain.agent.measure.reader import SampleReader
from swarmtrain.agent.measure.sample import NodeSample, measured

ADDRESSES = {"here": "127.0.7.1", "lab-2": "127.0.7.2", "lab-3": "127.0.7.3"}


class Pair:
    """A connection from 127.0.7.1 to another address; this machine has the whole of 127.0.0.0/8."""

    def __init__(self, to: str, stack: ExitStack, family: socket.AddressFamily = socket.AF_INET) -> None:
        server = stack.enter_context(socket.create_server((to, 0)))
        own = ("127.0.7.1", 0) if family is socket.AF_INET else ("::ffff:127.0.7.1", 0)
        at = to if family is socket.AF_INET else f"::ffff:{to}"
        self.near = stack.enter_context(socket.socket(family))
        self.near.bind(own)
        self.near.connect((at, server.getsockname()[1]))
        self.far = stack.enter_context(server.accept()[0])

    def sends(self, size: int) -> None:
        self.near.sendall(b"x" * size)
        _take(self.far, size)

    def gets(self, size: int) -> None:
        self.far.sendall(b"x" * size)
        _take(self.near, size)


def _take(end: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(end.recv(min(size, 1 << 16)))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def of_peer(address: str) -> list[TcpCounts]:
    time.sleep(0.1)  # the last acknowledgement is on its way
    return list(connections([address]).values())


@pytest.mark.parametrize(
    "family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv4 at a socket of IPv6"]
)
def test_the_kernel_tells_what_a_connection_has_carried(
    stack: ExitStack, family: socket.AddressFamily
) -> None:
    pair = Pair("127.0.7.2", stack, family)
    pair.sends(300_000)
    pair.gets(70_000)
    (found,) = of_peer("127.0.7.2")
    assert found.sent - 1 <= 300_000 <= found.sent  # Linux counts the first segment as a byte
    assert found.received == 70_000
    assert found.again <= 1 < found.segments  # on a loaded machine one is sent again that arrived
    assert 0 < found.round_trip < 0.1
    assert of_peer("127.0.7.9") == []


def test_many_connections_are_told_of_whole(stack: ExitStack) -> None:
    for _ in range(300):
        Pair("127.0.7.2", stack)
    assert len(of_peer("127.0.7.2")) == 300


def test_connections_to_others_are_passed_over_unread(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in range(20):
        Pair("127.0.7.9", stack, socket.AF_INET6 if other % 2 else socket.AF_INET)
    Pair("127.0.7.2", stack, socket.AF_INET6)
    took: list[bytes] = []
    read = kernel._read

    def reading(message: bytes) -> tuple[int, TcpCounts] | None:
        took.append(message)
        return read(message)

    monkeypatch.setattr(kernel, "_read", reading)
    assert [each.peer for each in connections(["127.0.7.2", "::2", "no address"]).values()] == ["127.0.7.2"]
    assert len(took) == 1


def test_it_needs_no_privilege(stack: ExitStack) -> None:
    Pair("127.0.7.2", stack)
    told, tell = os.pipe()
    if (child := os.fork()) == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        os.write(tell, b"%d" % len(of_peer("127.0.7.2")))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(told, 8) == b"1"
    os.close(told)
    os.close(tell)


def test_nodes_that_share_an_address_have_no_links() -> None:
    assert peers_of("here", ADDRESSES) == {"127.0.7.2": "lab-2", "127.0.7.3": "lab-3"}
    assert peers_of("node0", {"node0": "127.0.0.1", "node1": "127.0.0.1", "far": "10.0.0.9"}) == {
        "10.0.0.9": "far"
    }
    assert peers_of("alone", {}) == {}


def test_what_went_between_two_samples_is_told_by_peer(stack: ExitStack, tmp_path: Path) -> None:
    old = Pair("127.0.7.2", stack)
    old.sends(1_000_000)
    samples = SampleReader(tmp_path, peers=lambda: peers_of("here", ADDRESSES), root=tmp_path)
    before = samples.take()
    old.sends(200_000)
    new = Pair("127.0.7.2", stack)
    new.gets(50_000)
    Pair("127.0.7.3", stack)  # carries nothing
    Pair("127.0.7.9", stack).sends(10_000)  # of no peer
    time.sleep(0.1)
    now = samples.take()
    values, seconds = measured(before, now), now.moment - before.moment
    assert values["link/transmit_bytes_per_second{peer=lab-2}"] == pytest.approx(200_000 / seconds, rel=0.01)
    assert values["link/receive_bytes_per_second{peer=lab-2}"] == pytest.approx(50_000 / seconds, rel=0.01)
    assert values["link/sent_again_ratio{peer=lab-2}"] == 0
    assert 0 < values["link/round_trip_seconds{peer=lab-2}"] < 0.1
    assert {name.partition("=")[2] for name in values if name.startswith("link/")} <= {"lab-2}", "lab-3}"}
    assert not [name for name in measured(now, samples.take()) if name.startswith("link/")], "nothing went"


def counts(peer: str, sent: int, *, again: int = 0) -> TcpCounts:
    return TcpCounts(peer, sent, 0, 100, again, 0.001)


def test_of_very_many_peers_those_with_the_most_traffic_are_told_of() -> None:
    links = {number: counts(f"lab-{number}", 1000 * number, again=number) for number in range(1, 13)}
    values = measured(NodeSample(0.0), NodeSample(10.0, links=links))
    told = [name for name in values if name.startswith("link/sent_again_ratio")]
    assert told == [f"link/sent_again_ratio{{peer=lab-{number}}}" for number in range(12, 4, -1)]
    assert values["link/sent_again_ratio{peer=lab-12}"] == 0.12


def test_a_kernel_that_does_not_tell_costs_the_links_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuses(peers: Collection[str]) -> dict[int, TcpCounts]:
        raise PermissionError("netlink")

    monkeypatch.setattr(reader, "connections", refuses)
    assert SampleReader(tmp_path, peers=lambda: {"127.0.7.2": "lab-2"}).take().links == {}
