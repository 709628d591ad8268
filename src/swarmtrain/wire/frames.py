"""Frames: how one message, a JSON object, becomes bytes. Used by both kinds of channel.

A frame is a 4-byte big-endian length and that many bytes of payload. The payload is JSON in ASCII, so that a
worker's output that is not UTF-8 survives: it is decoded with ``surrogateescape`` and JSON carries the lone
surrogates as ``\\udcXX``. On an authenticated channel the payload is preceded by a 16-byte HMAC-SHA256 over a
sequence number and the payload, under a key that belongs to one session and one direction.
"""

from __future__ import annotations

import hmac
import json
import struct

from swarmtrain.errors import ChannelError

Message = dict[str, object]  # a JSON object

MAX_FRAME = 8 * 1024 * 1024
MAC_BYTES = 16
_LENGTH = struct.Struct(">I")
_SEQUENCE = struct.Struct(">Q")


def text(data: bytes) -> str:
    """Bytes of unknown encoding as a string that :func:`raw` turns back into exactly these bytes."""
    return data.decode("utf-8", "surrogateescape")


def raw(string: str) -> bytes:
    """The inverse of :func:`text`."""
    return string.encode("utf-8", "surrogateescape")


class Seal:
    """One direction of a session: numbers the frames and proves that none was changed, added or dropped."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")  # a copy for each frame is cheaper than a new one
        self._sequence = 0

    def mac(self, payload: bytes) -> bytes:
        """The proof of the next frame. Raises nothing; every call counts one frame."""
        digest = self._keyed.copy()
        digest.update(_SEQUENCE.pack(self._sequence))
        digest.update(payload)
        self._sequence += 1
        return digest.digest()[:MAC_BYTES]


def pack(message: Message, seal: Seal | None = None) -> bytes:
    """The frame of ``message``.

    Raises:
        ChannelError: the message is larger than :data:`MAX_FRAME`.
    """
    payload = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(payload) + MAC_BYTES > MAX_FRAME:
        raise ChannelError(f"a message of {len(payload)} bytes is larger than the limit of {MAX_FRAME}")
    if seal is not None:
        payload = seal.mac(payload) + payload
    return _LENGTH.pack(len(payload)) + payload


def unpack(payload: bytes, seal: Seal | None = None) -> Message:
    """The message in a frame's payload.

    Raises:
        ChannelError: the proof is wrong, or this is not a JSON object.
    """
    if seal is not None:
        proof, payload = payload[:MAC_BYTES], payload[MAC_BYTES:]
        if not hmac.compare_digest(proof, seal.mac(payload)):
            raise ChannelError("a frame on the channel was not written by the peer")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        # the latter: brackets in brackets, which a stranger may send
        raise ChannelError("a frame on the channel is not JSON") from error
    if not isinstance(message, dict):
        raise ChannelError("a frame on the channel is not a JSON object")
    return message


def length(header: bytes, limit: int = MAX_FRAME) -> int:
    """The payload's length that a 4-byte header announces.

    Raises:
        ChannelError: it is over ``limit``: garbage, or another protocol.
    """
    (size,) = _LENGTH.unpack(header)
    if size > limit:
        raise ChannelError(f"a frame of {size} bytes was announced, the limit is {limit}")
    return int(size)
