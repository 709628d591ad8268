"""Durations, sizes and shares, as people write them: ``1h30m`` to seconds, ``8g`` to bytes, ``10%`` to 0.1, and back.

Pure; called by the job's fields (`job.spec`), by flags and by whatever prints one of them.
"""

from __future__ import annotations

import math
import re

# What clocks and engines can count: more would be an error of theirs, later.
_LONGEST = 36500 * 86400.0
_LARGEST = (1 << 63) - 1

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")

# Powers of 1024 with and without the "i" or "b", as Docker reads them.
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Seconds in ``90s``, ``10m``, ``1h30m``, ``1.5h``, ``250ms``, or in a bare number.

    Raises:
        ValueError: it is no duration, in a sentence that shows one.
    """
    if isinstance(value, str):
        text = value.replace(" ", "")
        if _DURATION.fullmatch(text):
            value = math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        else:
            value = _number(text)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        if value > _LONGEST:
            raise ValueError(f"is more than {_LONGEST / 86400:.0f} days")
        return float(value)
    raise ValueError("is no duration (write 90s, 10m or 1h30m; a bare number is seconds)")


def parse_size(value: object) -> int:
    """Bytes in ``512m``, ``8g``, ``1.5GiB``, or in a bare number. Units are powers of 1024, as in Docker.

    Raises:
        ValueError: it is no size, in a sentence that shows one.
    """
    size: float | None = None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = float(match[1]) * _BYTES[match[2].lower()]
    if size is None:
        raise ValueError("is no size (write 512m or 8g; a bare number is bytes)")
    if size > _LARGEST:
        raise ValueError("is more than any disk or memory holds")
    return round(size)


def parse_share(value: object) -> float:
    """The fraction in ``10%`` or ``2.5%``, or in a bare one such as ``0.1``.

    Raises:
        ValueError: it is no share, in a sentence that shows one.
    """
    if isinstance(value, str):
        text = value.strip()
        number = _number(text.removesuffix("%"))
        value = number / 100 if number is not None and text.endswith("%") else number
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError("is no share (write 10%; a bare number is a fraction, at most 1)")


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as ``seconds``: ``1h30m``, ``90.5s``, ``0s``."""
    text, rest = "", seconds
    for unit in "dhm":
        count, rest = divmod(rest, _SECONDS[unit])
        text += f"{count:.0f}{unit}" if count else ""
    return text + (f"{rest:g}s" if rest or not text else "")


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads as ``size``: ``4g``, ``1536m``, ``100``."""
    for unit in "tgmk":
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)


def format_share(share: float) -> str:
    """The shortest text that `parse_share` reads as ``share``: ``10%``, ``2.5%``."""
    return f"{100 * share:g}%"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
