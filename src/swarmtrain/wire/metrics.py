"""Where agents, workers and the coordinator speak of what is measured: what it is called, and how often it is told.

A series is one word, ``node/swap_used_bytes{node=lab-1}``: its name has the thing that is measured before the stroke,
and ends with its base unit. Labels say of which of them: a rank, a node, an interface, a GPU.
"""

from __future__ import annotations

import math
from functools import lru_cache

Labels = tuple[tuple[str, str], ...]  # in the order of their names

_APART = str.maketrans(dict.fromkeys("{},=", "_"))
_LETTERS = 100  # of a name or a label, at most
# Seconds between two lines: at the start, after half a minute, after hours.
_MOST, _MANY, _LEAST = 0.1, 0.25, 5.0
# That a curve over the whole time should have at least: soon, and after some minutes.
_SOON, _POINTS = 100.0, 1000.0


def line_interval(elapsed: float) -> float:
    """Seconds from one line of steps to the next.

    The longer the training, the fewer lines: a curve has a hundred points after ten seconds, a thousand after four
    minutes, and more ever after, and a rank writes about 20,000 a day where ten a second would be 0.9 million.

    Args:
        elapsed: seconds since the worker's first line.
    """
    return min(max(elapsed / _POINTS, min(elapsed / _SOON, _MANY), _MOST), _LEAST)


def called(name: str, labels: Labels = ()) -> str:
    """A series in one word; `parsed` is the other way."""
    told = ",".join(f"{key}={value}" for key, value in labels)
    return f"{name}{{{told}}}" if told else name


@lru_cache(maxsize=1 << 14)
def parsed(text: str) -> tuple[str, Labels]:
    """The name and the labels of a series.

    Raises:
        ValueError: it is none.
    """
    name, brace, rest = text.partition("{")
    pairs = [each.partition("=") for each in rest.removesuffix("}").split(",") if each]
    is_whole = name.strip() == name != "" and (not brace or rest.endswith("}")) and text.isprintable()
    if not is_whole or len(name) > 2 * _LETTERS or not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"{text!r} is no series")
    return name, tuple(sorted((key, value) for key, _, value in pairs))


def label(value: object) -> str:
    """What may stand as a label's value, or as a part of a name: nothing that sets labels apart, or moves a cursor."""
    text = " ".join(str(value).translate(_APART).split())
    return "".join(each if each.isprintable() else "_" for each in text)[:_LETTERS]


def is_series(text: str) -> bool:
    """Whether `parsed` takes it."""
    try:
        parsed(text)
    except ValueError:
        return False
    return True


# JSON has no word for what is not finite, and null says that nothing was told.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def as_told(value: float) -> float | str:
    """A value as it stands in a line of JSON."""
    return value if math.isfinite(value) else str(float(value))


def as_heard(told: object) -> float | None:
    """The value that a line tells; None where it tells none."""
    if isinstance(told, str):
        return _NOT_FINITE.get(told)
    return float(told) if isinstance(told, (int, float)) and not isinstance(told, bool) else None
