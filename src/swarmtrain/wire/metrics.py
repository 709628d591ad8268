"""How often a worker writes a line about its steps. The coordinator keeps every line for as long as the run is kept."""

from __future__ import annotations

_MOST, _LEAST = 0.05, 5.0  # seconds between two lines: at the start, and after hours
_POINTS = 1000.0  # that a curve over the whole time should have at least


def line_interval(elapsed: float) -> float:
    """Seconds from one line of steps to the next.

    The longer the training, the fewer lines: a curve has a thousand points and more at any time, and a rank writes
    about 22,000 a day where twenty a second would be 1.7 million.

    Args:
        elapsed: seconds since the worker's first line.
    """
    return min(max(elapsed / _POINTS, _MOST), _LEAST)
