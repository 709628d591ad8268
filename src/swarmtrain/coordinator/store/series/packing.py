"""Columns as bytes, small: what a block of a segment holds. Every number comes back as it was.

Numbers that people and machines write have few digits and change little from point to point. So a column is kept as
the differences of whole numbers where its values have at most nine decimals, and its bytes are turned, so that those
that are alike lie beside each other, before zlib has them. Times are kept to the millisecond, a mean of several values
to seven digits.
"""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

from swarmtrain.coordinator.store.series.columns import Columns, Spread

_EXACT = 1 << 53  # up to which a float is any whole number
_SCALES = (0, 1, 2, 3, 4, 6, 9)  # decimals
_AS_FLOAT, _AS_SINGLE = 255, 254  # in the place of a scale
_TYPES = (("b", 7), ("h", 15), ("i", 31), ("q", 63))  # of arrays of whole numbers, and their bits
_LENGTH = struct.Struct("<I")
_WHOLE = struct.Struct("<cq")


def packed(columns: Columns) -> bytes:
    """The bytes of columns that have a point."""
    parts = [_wholes([round(each * 1000) for each in columns.time]), _wholes(columns.step)]
    if (spread := columns.spread) is None:
        parts.append(_numbers(columns.mean))
    else:
        # Rounding must not carry a mean out of its bounds.
        means = [
            mean if low == high else min(max(single, low), high)
            for mean, single, low, high in zip(
                columns.mean, _single(columns.mean), spread.low, spread.high, strict=True
            )
        ]
        parts += [_numbers(means), _numbers(spread.low), _numbers(spread.high)]
        parts += [_wholes(spread.count), _wholes(spread.bad)]
    return zlib.compress(b"".join(_LENGTH.pack(len(part)) + part for part in parts), 6)


def unpacked(data: bytes) -> Columns:
    """The columns of such bytes.

    Raises:
        ValueError, struct.error, zlib.error: they are not.
    """
    whole, at, parts = zlib.decompress(data), 0, []
    while at < len(whole):
        (length,) = _LENGTH.unpack_from(whole, at)
        parts.append(whole[at + 4 : at + 4 + length])
        at += 4 + length
    if len(parts) not in (3, 7):
        raise ValueError(f"{len(parts)} columns")
    columns = Columns(
        [each / 1000 for each in _wholes_of(parts[0])], list(_wholes_of(parts[1])), _numbers_of(parts[2])
    )
    if len(parts) == 7:
        low, high = _numbers_of(parts[3]), _numbers_of(parts[4])
        columns.spread = Spread(low, high, list(_wholes_of(parts[5])), list(_wholes_of(parts[6])))
    return columns


def _wholes(values: Sequence[int]) -> bytes:
    """Whole numbers, by their differences."""
    deltas = [after - before for before, after in zip(values, values[1:])]  # noqa: B905, RUF007 - one is less
    most = max((each.bit_length() for each in (max(deltas), min(deltas))), default=0) if deltas else 0
    kind = next(name for name, bits in _TYPES if most <= bits)
    return _WHOLE.pack(kind.encode(), values[0]) + _turned(array(kind, deltas))


def _wholes_of(data: bytes) -> Iterable[int]:
    kind, first = _WHOLE.unpack_from(data)
    return accumulate(_turned_back(kind.decode(), data[_WHOLE.size :]), initial=first)


def _numbers(values: Sequence[float]) -> bytes:
    """Any numbers: as whole ones where they have few decimals, as single floats where these are enough."""
    if all(map(math.isfinite, values)):
        for scale in _SCALES:
            if (scaled := _scaled(values, 10**scale)) is not None:
                return bytes([scale]) + _wholes(scaled)
    single = array("f", values)
    if all(one == each or each != each for one, each in zip(single, values, strict=True)):
        return bytes([_AS_SINGLE]) + _turned(single)
    return bytes([_AS_FLOAT]) + _turned(array("d", values))


def _scaled(values: Sequence[float], factor: int) -> list[int] | None:
    """The values times a power of ten, if all of these are whole numbers that lead back to them."""
    found = []
    for each in values:
        whole = round(each * factor) if abs(each) * factor < _EXACT else _EXACT
        # Of a zero with a sign the sign would be lost.
        if whole == _EXACT or whole / factor != each or (whole == 0 and math.copysign(1.0, each) < 0):
            return None
        found.append(whole)
    return found


def _numbers_of(data: bytes) -> list[float]:
    scale, rest = data[0], data[1:]
    if scale in (_AS_FLOAT, _AS_SINGLE):
        return _turned_back("d" if scale == _AS_FLOAT else "f", rest).tolist()
    if scale == 0:
        return list(map(float, _wholes_of(rest)))
    factor = 10**scale
    return [each / factor for each in _wholes_of(rest)]


def _single(values: Sequence[float]) -> list[float]:
    """The values with the seven digits of a single float; one that is too large for it stays."""
    return [one if math.isfinite(one) else each for one, each in zip(array("f", values), values, strict=True)]


def _turned(values: array[int] | array[float]) -> bytes:
    """Their first bytes, then their second ones, and so on."""
    data, size = values.tobytes(), values.itemsize
    return b"".join(data[at::size] for at in range(size))


def _turned_back(kind: str, data: bytes) -> array[float]:
    values: array[float] = array(kind)
    size = values.itemsize
    count, rest = divmod(len(data), size)
    if rest:
        raise ValueError("a column is not whole")
    turned = bytearray(len(data))
    for at in range(size):
        turned[at::size] = data[at * count : (at + 1) * count]
    values.frombytes(bytes(turned))
    return values
