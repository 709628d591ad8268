"""The framed channel of agents, coordinator and clients on asyncio, and the proof of identity that opens it.

Agents reach the coordinator over TCP, where anybody on the network could knock, and the channel starts programs.
So both sides prove, before anything else is read, that they know the run's token: each sends a nonce and an HMAC
over both nonces, and every later frame carries a proof under keys drawn from that exchange (see frames.py). The
token itself never crosses the wire.

A reader proves itself by a key that is drawn from the token and opens less: the token does not follow from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import socket

from swarmtrain.errors import ChannelError
from swarmtrain.wire import frames, sockets
from swarmtrain.wire.frames import Message, Seal
from swarmtrain.wire.names import FIRST_VERSION, PROTOCOL_VERSION

OPENING_SECONDS = 10.0  # for all that is said until both sides have proved themselves
_OPENING_BYTES = 4096
# seconds, seconds, times
_PROBES = {socket.TCP_KEEPIDLE: 20, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class Channel:
    """Messages over a pair of asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming: Seal | None = None
        self._outgoing: Seal | None = None
        self.is_reader = False  # whether the peer has proved no more than a reader's key

    async def send(self, message: Message) -> None:
        """Send one message, waiting while the peer is slow.

        Raises:
            ConnectionError: the peer is gone.
        """
        self._writer.write(frames.pack(message, self._outgoing))
        await self._writer.drain()

    def post(self, message: Message) -> None:
        """Send one message without waiting: for small ones, from code that must not yield."""
        if not self._writer.is_closing():
            self._writer.write(frames.pack(message, self._outgoing))

    async def receive(self, limit: int = frames.MAX_FRAME) -> Message | None:
        """The next message, or None when the peer has closed the connection or it broke.

        Raises:
            ChannelError: what came is no valid frame; the channel is of no use any more.
        """
        try:
            header = await self._reader.readexactly(4)
            payload = await self._reader.readexactly(frames.length(header, limit))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, OSError):
            return None
        return frames.unpack(payload, self._incoming)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes without a frame and without a proof, waiting while the peer is slow.

        For the content of files, whose length and hash the frames before it tell: whoever changes it is found out.

        Raises:
            ConnectionError: the peer is gone.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def receive_bytes(self, most: int) -> bytes:
        """Some of the bytes that are sent so; empty when the peer has closed the connection or it broke."""
        try:
            return await self._reader.read(most)
        except (ConnectionError, TimeoutError, OSError):
            return b""

    def secure(self, incoming: bytes, outgoing: bytes) -> None:
        """From now on every frame carries a proof."""
        self._incoming, self._outgoing = Seal(incoming), Seal(outgoing)

    @property
    def hung_up(self) -> bool:
        """Whether the peer has gone, and everything that it has said was received."""
        return self._reader.at_eof() or self._writer.is_closing()

    @property
    def address(self) -> str:
        """The peer's address on the network; empty for one on this machine, by a Unix socket or by pipes."""
        peer = self._writer.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def keep_alive(self) -> None:
        """Find out within a minute that the peer's machine has gone, also while nothing is said."""
        connection = self._writer.get_extra_info("socket")
        if self.address and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _PROBES.items():
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def close(self) -> None:
        """Close without waiting; what was sent is still flushed."""
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until a close has flushed everything; a peer that went first is no error."""
        try:
            await self._writer.wait_closed()
        except (ConnectionError, OSError):
            pass


async def relay(one: Channel, other: Channel) -> None:
    """Pass messages on between two until one hangs up, each with the proofs that its side asks for."""
    await sockets.first(_pass(one, other), _pass(other, one))


async def _pass(source: Channel, sink: Channel) -> None:
    try:
        while (message := await source.receive()) is not None:
            await sink.send(message)
    except ConnectionError:
        pass  # one side has gone, and the other is about to be told


def _proof(token: str, words: str, nonces: str) -> str:
    return hmac.new(token.encode(), f"{words} {nonces}".encode(), hashlib.sha256).hexdigest()


def _secure(channel: Channel, token: str, nonces: str, *, initiator: bool) -> None:
    keys = [bytes.fromhex(_proof(token, f"key {side}", nonces)) for side in ("initiator", "acceptor")]
    ours, theirs = keys if initiator else reversed(keys)
    channel.secure(incoming=theirs, outgoing=ours)


def _field(message: Message | None, name: str) -> str:
    value = (message or {}).get(name)
    if not isinstance(value, str) or not value.isascii():  # as ours are; all else has no proof
        raise ChannelError("the peer closed the connection or does not speak swarmtrain")
    return value


def check_version(message: Message | None) -> None:
    """Refuse a side that speaks another version of the protocol than this one; the first version did not say which.

    Raises:
        ChannelError: it does.
    """
    if message is None:
        return
    version = message.get("swarmtrain", FIRST_VERSION)
    if version != PROTOCOL_VERSION:
        raise ChannelError(
            f"the peer speaks version {version} of the protocol, this side {PROTOCOL_VERSION}",
            "run client, agents and coordinator from one version of swarmtrain",
        )


def reader_key(token: str) -> str:
    """What a reader of the run has instead of its token."""
    return _proof(token, "reader", "")


async def initiate(channel: Channel, token: str, *, as_reader: bool = False) -> None:
    """Open the session as the side that connected.

    Args:
        token: the run's; for a reader the key that `reader_key` gives.

    Raises:
        ChannelError: the acceptor does not know the token, or speaks something else.
        TimeoutError: it has not proved itself within ten seconds.
    """
    nonce = secrets.token_hex(16)
    opening = {"swarmtrain": PROTOCOL_VERSION, "nonce": nonce}
    await channel.send({**opening, "reader": True} if as_reader else opening)
    answer = await asyncio.wait_for(channel.receive(_OPENING_BYTES), OPENING_SECONDS)
    check_version(answer)
    nonces = f"{nonce} {_field(answer, 'nonce')}"
    if not hmac.compare_digest(_field(answer, "proof"), _proof(token, "acceptor", nonces)):
        raise ChannelError(
            "the coordinator does not know this run's token", "is another run on this address?"
        )
    await channel.send({"proof": _proof(token, "initiator", nonces)})
    _secure(channel, token, nonces, initiator=True)


async def accept(channel: Channel, token: str, *, readers: bool = False) -> None:
    """Open the session as the side that was connected to. The caller sets the deadline, for all of it.

    Args:
        readers: they are let in, too; `Channel.is_reader` says of whom that is true.

    Raises:
        ChannelError: as :func:`initiate`.
    """
    opening = await channel.receive(_OPENING_BYTES)
    if readers and (opening or {}).get("reader") is True:
        token, channel.is_reader = reader_key(token), True
    nonce = secrets.token_hex(16)
    nonces = f"{_field(opening, 'nonce')} {nonce}"
    proof = _proof(token, "acceptor", nonces)
    await channel.send({"swarmtrain": PROTOCOL_VERSION, "nonce": nonce, "proof": proof})
    check_version(opening)
    answer = await channel.receive(_OPENING_BYTES)
    if not hmac.compare_digest(_field(answer, "proof"), _proof(token, "initiator", nonces)):
        raise ChannelError("a peer did not know this run's token")
    _secure(channel, token, nonces, initiator=False)
