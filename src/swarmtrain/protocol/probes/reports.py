"""What a container of the doctor's says: a line of JSON on its standard output, behind a mark, with the node's name.

Written by `swarmtrain.probe`, read by the client from ``docker service logs``: that way leads through the managers, and
so also tells of a node that the overlay network does not reach. Of a run's nodes it comes by the way of `exec`.
"""

from __future__ import annotations

import json

from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import Family, dump
from swarmtrain.protocol.schema import Struct, message

MARK = "swarmtrain-doctor "

# What a container finds in its environment.
ENV_NODE = "SWARMTRAIN_NODE"
ENV_PEERS = "SWARMTRAIN_DOCTOR_PEERS"  # JSON: what `ask` and `ports` are to try, see ProbePeer and ProbePort
ENV_SECONDS = "SWARMTRAIN_DOCTOR_SECONDS"  # after which it ends, whatever it does
# Of a run: the interface that its training meets by, and for how many seconds a stream may fill the way to a node.
ENV_INTERFACE = "SWARMTRAIN_DOCTOR_INTERFACE"
ENV_STREAM = "SWARMTRAIN_DOCTOR_STREAM"

PORT = 29411  # of the answering container, inside of the doctor's own network, or of the run's


class ProbePeer(Struct):
    """A container that answers: its node's name, its host name, and its address in the overlay network."""

    node: str
    hostname: str
    address: str


class ProbePort(Struct):
    """A port of a machine that must be open."""

    node: str
    address: str
    port: int


@message("machine", by="kind")
class MachineReport(Struct, kw_only=True):
    """What a container finds on its node.

    Attributes:
        memory: and the other amounts, in bytes.
        shm, shm_free: of /dev/shm; -1 where it was not looked at.
        nofile: the soft limit of open files; -1: none.
        memlock: the soft limit of locked memory; -1: none.
        write_seconds: that 4 MB took to be written and flushed; None where nothing could be written.
        torch: the version that the image has; empty for none.
        infiniband: whether there is an adapter.
        mtu: of the interface that holds the container's address in the overlay network.
    """

    node: str
    python: str
    kernel: str
    arch: str
    cpus: float
    load: float
    memory: int
    memory_free: int
    swap: int
    swap_used: int
    disk: int
    disk_free: int
    shm: int
    nofile: int
    memlock: int
    write_seconds: float | None
    torch: str
    infiniband: bool
    mtu: int
    shm_free: int = -1


@message("gpus", by="kind")
class GpuReport(Struct, kw_only=True):
    """What a task sees that has reserved a GPU.

    Attributes:
        assigned: what Swarm has given to it, as the node declares them.
        visible: the UUIDs of those that it sees; empty ones where the driver was not asked.
    """

    node: str
    assigned: list[str]
    visible: list[str]


@message("pair", by="kind")
class PairReport(Struct, kw_only=True):
    """What one node finds of the way to another.

    Attributes:
        resolved: the addresses that the other's host name leads to.
        tcp, udp: why nothing came back; empty where something did.
        latency: seconds for a small message there and back, the median.
        offset: by how many seconds the other's clock is ahead.
        mtu: of the interface; the largest packet that should pass.
        passes: the largest packet that did; None where it was not tried.
        bandwidth: bits per second to the other; None where it was not measured.
    """

    node: str
    peer: str
    resolved: list[str]
    tcp: str
    udp: str
    latency: float | None
    offset: float | None
    mtu: int
    passes: int | None
    bandwidth: float | None


@message("port", by="kind")
class PortReport(Struct, kw_only=True):
    """Whether a port of another machine answers; why not, or empty."""

    node: str
    peer: str
    port: int
    error: str


@message("collective", by="kind")
class CollectiveReport(Struct, kw_only=True):
    """What one rank saw of a collective.

    Attributes:
        name: ``all-reduce`` and the others of the whole group, or ``pair``: an all-reduce of two; empty where the group
            did not come to one.
        peer: the other node of a pair.
        correct: whether every result was right to the last bit.
        bits: per second that the busiest node sent or took.
        error: why nothing came of it.
    """

    node: str
    name: str
    peer: str
    correct: bool
    seconds: float
    bits: float
    error: str


@message("done", by="kind")
class ProbeDone(Struct):
    """A container has said all that it has to say: of which part."""

    node: str
    part: str


REPORTS: Family[Struct] = Family(
    "a report of the doctor's", MachineReport, GpuReport, PairReport, PortReport, CollectiveReport, ProbeDone
)


def line_of(report: Struct) -> str:
    """A report as a line."""
    return MARK + json.dumps(dump(report), separators=(",", ":"))


def reports_in(text: str) -> list[Struct]:
    """The reports among the lines of a log, each once; what is none is passed over."""
    found: dict[str, Struct] = {}
    for line in text.splitlines():
        _, mark, body = line.partition(MARK)
        if mark and body not in found:
            try:
                found[body] = REPORTS.load(json.loads(body))
            except (ValueError, ChannelError):
                continue  # cut short, or of another version
    return list(found.values())
