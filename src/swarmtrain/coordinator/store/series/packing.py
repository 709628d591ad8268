"""Columns as bytes, small: what a block of a segment holds. Every number comes back as it was.

Numbers that people and machines write have few digits and change little from point to point. So a column is kept as
the differences of whole numbers where its values have at most nine decimals, and its bytes are turned, so that those
that are alike lie beside each other, before zlib has them. Times are kept to the millisecond, a mean of several values
to seven digits.

A month of twenty nodes is hundreds of millions of points, so what is done for each of them is left to functions of C as
far as that goes. Streams of one source have the same times and steps: these are made, and read, once.
"""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import sub

from swarmtrain.coordinator.store.series.columns import Columns, Spread

_EXACT = 1 << 53  # up to which a float is any whole number
_SCALES = (0, 1, 2, 3, 4, 6, 9)  # decimals
_PROBE = 8  # values that show of most scales that they do not fit
_NEGATIVE_ZERO = struct.pack("=d", -0.0)
_AS_FLOAT, _AS_SINGLE = 255, 254  # in the place of a scale
_LEAST_WINDOW, _MOST_WINDOW = 9, 15  # bits of zlib's
# Whose times are remembered: those of the source that is packed, and what is merged at once, up to so many bytes each.
_SOURCES, _BLOCKS, _SMALL = 2, 128, 1024
_TYPES = (("b", 7), ("h", 15), ("i", 31), ("q", 63))  # of arrays of whole numbers, and their bits
_LENGTH = struct.Struct("<I")
_WHOLE = struct.Struct("<cq")


def packed(columns: Columns) -> bytes:
    """The bytes of columns that have a point."""
    parts = [_times(tuple(columns.time)), _steps(tuple(columns.step))]
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
    return _compressed(b"".join(_LENGTH.pack(len(part)) + part for part in parts))


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
    times, steps = (_kept_times, _kept_steps) if len(parts[0]) <= _SMALL else (_times_of, _steps_of)
    columns = Columns(list(times(parts[0])), list(steps(parts[1])), _numbers_of(parts[2]))
    if len(parts) == 7:
        low, high = _numbers_of(parts[3]), _numbers_of(parts[4])
        columns.spread = Spread(low, high, _wholes_of(parts[5]), _wholes_of(parts[6]))
    return columns


def _compressed(data: bytes) -> bytes:
    """By zlib, with a window that is no larger than the data, since it takes its time to be laid out."""
    window = min(max(len(data).bit_length() + 1, _LEAST_WINDOW), _MOST_WINDOW)
    work = zlib.compressobj(6, zlib.DEFLATED, window)
    return work.compress(data) + work.flush()


@lru_cache(_SOURCES)
def _times(times: tuple[float, ...]) -> bytes:
    return _wholes([round(each * 1000) for each in times])


@lru_cache(_SOURCES)
def _steps(steps: tuple[int, ...]) -> bytes:
    return _wholes(steps)


def _times_of(data: bytes) -> tuple[float, ...]:
    return tuple([each / 1000 for each in _wholes_of(data)])


def _steps_of(data: bytes) -> tuple[int, ...]:
    return tuple(_wholes_of(data))


_kept_times, _kept_steps = lru_cache(_BLOCKS)(_times_of), lru_cache(_BLOCKS)(_steps_of)


def _wholes(values: Sequence[int]) -> bytes:
    """Whole numbers, by their differences."""
    first, count = values[0], len(values)
    if values.count(first) == count:
        return _WHOLE.pack(b"b", first) + bytes(count - 1)
    deltas = list(map(sub, values[1:], values))
    most = max(max(deltas).bit_length(), min(deltas).bit_length())
    kind = next(name for name, bits in _TYPES if most <= bits)
    return _WHOLE.pack(kind.encode(), first) + _turned(array(kind, deltas))


def _wholes_of(data: bytes) -> list[int]:
    kind, first = _WHOLE.unpack_from(data)
    deltas = data[_WHOLE.size :]
    if kind == b"b" and not any(deltas):
        return [first] * (len(deltas) + 1)
    return list(accumulate(_turned_back(kind.decode(), deltas), initial=first))


def _numbers(values: list[float]) -> bytes:
    """Any numbers: as whole ones where they have few decimals, as single floats where these are enough."""
    if (found := _as_wholes(values)) is not None:
        scale, wholes = found
        return bytes([scale]) + _wholes(wholes)
    single = array("f", values)
    if single.tolist() == values or all(
        one == each or each != each for one, each in zip(single, values, strict=True)
    ):
        return bytes([_AS_SINGLE]) + _turned(single)
    return bytes([_AS_FLOAT]) + _turned(array("d", values))


def _as_wholes(values: list[float]) -> tuple[int, list[int]] | None:
    """The least number of decimals that all values have at most, and the whole numbers that they are with it."""
    if not math.isfinite(sum(values)):  # some value is not, or they are too large to be whole ones
        return None
    if _NEGATIVE_ZERO in array("d", values).tobytes() and any(map(_is_negative_zero, values)):
        return None  # it would lose its sign
    reach, first = max(max(values), -min(values)), values[0]
    is_same = values.count(first) == len(values)
    for scale in _SCALES:
        factor = 10**scale
        if reach * factor >= _EXACT:
            return None
        if (whole := round(first * factor)) / factor != first:
            continue  # as of most values that need more decimals than these, which one shows
        if is_same:
            return scale, [whole] * len(values)
        if _scaled(values[:_PROBE], factor) is not None and (scaled := _scaled(values, factor)) is not None:
            return scale, scaled
    return None


def _is_negative_zero(value: float) -> bool:
    return value == 0 and math.copysign(1.0, value) < 0


def _scaled(values: list[float], factor: int) -> list[int] | None:
    """The values times a power of ten, if all of these are whole numbers that lead back to them."""
    scaled = [round(each * factor) for each in values]
    return scaled if [whole / factor for whole in scaled] == values else None


def _numbers_of(data: bytes) -> list[float]:
    scale, rest = data[0], data[1:]
    if scale in (_AS_FLOAT, _AS_SINGLE):
        return _turned_back("d" if scale == _AS_FLOAT else "f", rest).tolist()
    wholes, factor = _wholes_of(rest), 10**scale
    return [each / factor for each in wholes]


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
