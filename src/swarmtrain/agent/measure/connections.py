"""What TCP has carried between this node and others: the kernel's own counts of each connection.

They are asked for by netlink as `ss --info` asks: no privilege and no package is needed, and no packet is looked at. In
a container that is its own network alone. Sources: sock_diag(7), and the kernel's uapi/linux/inet_diag.h and tcp.h.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

_SOCK_DIAG = 4  # the protocol of netlink
_BY_FAMILY, _DUMP = 20, 0x301  # SOCK_DIAG_BY_FAMILY; NLM_F_REQUEST, NLM_F_DUMP
_ERROR, _DONE = 2, 3
_ESTABLISHED = 1 << 1
_INFO = 2  # INET_DIAG_INFO
_HEADER = struct.Struct("=IHHII")  # length, kind, flags, number, process
# family, protocol, what to tell, states, which: any
_ASK = struct.Struct("=BBBxI48x")
_TOLD = 72  # bytes of inet_diag_msg, before its attributes
# where the other end's address begins in it, and what tells a connection from all others
_THERE, _COOKIE = 24, 44
_ATTRIBUTE = struct.Struct("=HH")  # length, kind
# Of tcp_info, which has them since Linux 4.6: where they begin.
_ROUND_TRIP, _AGAIN, _CARRIED, _SEGMENTS, _WHOLE = 68, 100, 120, 136, 140
_MICRO = 1e-6
_MAPPED = "::ffff:"  # before an address of IPv4 at a socket of IPv6
_PATIENCE = 2.0  # seconds; the kernel answers at once


class TcpCounts(NamedTuple):
    """One connection, since it was made.

    Attributes:
        peer: the address of the other end.
        sent, received: bytes, of which the other end, or this one, has said that they arrived.
        segments: sent, those that were sent again included.
        again: segments that were sent again, since the first ones were lost or late.
        round_trip: seconds, smoothed by the kernel.
    """

    peer: str
    sent: int
    received: int
    segments: int
    again: int
    round_trip: float

    def since(self, before: TcpCounts) -> TcpCounts:
        """What the connection has carried since an earlier look."""
        return TcpCounts(
            self.peer,
            self.sent - before.sent,
            self.received - before.received,
            self.segments - before.segments,
            self.again - before.again,
            self.round_trip,
        )


def connections(peers: Collection[str]) -> dict[int, TcpCounts]:
    """The established ones to some addresses, by what the kernel tells each from all others by.

    Others are passed over unread: a machine that serves somebody else may have tens of thousands.

    Raises:
        OSError: the kernel does not tell.
    """
    wanted = frozenset(form for peer in peers for form in _forms(peer))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        return dict(
            entry for family in (socket.AF_INET, socket.AF_INET6) for entry in _of(kernel, family, wanted)
        )


def peers_of(node: str, addresses: Mapping[str, str]) -> dict[str, str]:
    """The other nodes by their addresses; without those that share one, as all do that are on one machine.

    Args:
        addresses: by node, its own too.
    """
    shared = Counter(addresses.values())
    return {address: each for each, address in addresses.items() if each != node and shared[address] == 1}


def _forms(address: str) -> Iterator[bytes]:
    """An address as the kernel has it: one of IPv4 also as at a socket of IPv6."""
    for family, text in (
        (socket.AF_INET, address),
        (socket.AF_INET6, address),
        (socket.AF_INET6, _MAPPED + address),
    ):
        with suppress(OSError):  # it is none of this family
            yield socket.inet_pton(family, text)


def _of(kernel: socket.socket, family: int, wanted: Collection[bytes]) -> Iterator[tuple[int, TcpCounts]]:
    size = 4 if family == socket.AF_INET else 16
    ask = _ASK.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _ESTABLISHED)
    kernel.send(_HEADER.pack(_HEADER.size + len(ask), _BY_FAMILY, _DUMP, family, 0) + ask)
    while True:
        told, at = kernel.recv(1 << 18), 0
        while at + _HEADER.size <= len(told):
            length, kind, _, _, _ = _HEADER.unpack_from(told, at)
            if kind == _DONE:
                return
            if kind == _ERROR or length < _HEADER.size:
                raise OSError("the kernel does not tell of its connections")
            there = at + _HEADER.size + _THERE
            is_wanted = told[there : there + size] in wanted
            if is_wanted and (entry := _read(told[at + _HEADER.size : at + length])) is not None:
                yield entry
            at += _aligned(length)


def _read(message: bytes) -> tuple[int, TcpCounts] | None:
    """A connection; None where an old kernel tells too little of it."""
    info, at = b"", _TOLD
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _INFO:
            info = message[at + _ATTRIBUTE.size : at + length]
        at += max(_aligned(length), _ATTRIBUTE.size)
    if len(info) < _WHOLE:
        return None
    size = 4 if message[0] == socket.AF_INET else 16
    peer = socket.inet_ntop(message[0], message[_THERE : _THERE + size]).removeprefix(_MAPPED)
    (cookie,) = struct.unpack_from("=Q", message, _COOKIE)
    (round_trip,) = struct.unpack_from("=I", info, _ROUND_TRIP)
    (again,) = struct.unpack_from("=I", info, _AGAIN)
    sent, received = struct.unpack_from("=QQ", info, _CARRIED)
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS)
    return cookie, TcpCounts(peer, sent, received, segments, again, round_trip * _MICRO)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
