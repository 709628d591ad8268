"""Whether the loss that a rank reports is a number, and whether it runs away. Pure.

That a loss is NaN or infinite is plain. That a training diverges is not: losses spike and come back within some
hundred steps (Chowdhery et al., PaLM, 2022, section 5.1), begin anew with each task of a curriculum, and are not meant
to fall in a game of two networks. So "may be diverging" is said of a loss of which all of this holds, and what is said
are the figures:

- it is positive throughout, as a likelihood or a squared error is;
- it was low once: of ``SPAN`` values in a row the median was below half of the median of the last ``SPAN`` (``TIMES``),
  and that exceeds it by ``DEVIATIONS`` of those values' standard deviations, estimated by their median absolute
  deviation times 1.4826, which is consistent for normal errors (Rousseeuw and Croux, Alternatives to the Median
  Absolute Deviation, 1993): a noisy loss has to rise by more;
- the lowest of the last ``SPAN`` values is above every median of ``EVERY`` values in a row from before it was that low,
  the first among them: it is worse than it ever was on its way down, in ``SPAN`` reports without one exception.

Values are those of the lines that a rank writes (`wire.metrics.line_interval`): ten a second at most, one in five
seconds after hours. The watch begins with the coordinator that keeps it, and anew with a generation: what it calls the
beginning is the first that it has seen.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

from swarmtrain.protocol.alerts.kinds import AlertKind
from swarmtrain.protocol.schema import Struct

SPAN = 200  # values
TIMES, DEVIATIONS = 2.0, 6.0
_NORMAL = 1.4826
EVERY = 20  # values, after which it is looked at again


class LossFinding(Struct):
    """What is told of a loss."""

    kind: AlertKind
    text: str


class LossWatch:
    """The loss of one rank in one generation."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=SPAN)
        self._highest = 0.0  # of the medians of a few values so far
        self._lowest, self._deviation = math.inf, 0.0
        self._before = 0.0  # the highest from before the lowest
        self._seen = 0
        self._was_negative = False
        self._told: set[AlertKind] = set()

    def take(self, loss: float, step: int | None) -> LossFinding | None:
        """One more value; what is to be told of it, each kind once."""
        if not math.isfinite(loss):
            at = f" at step {step}" if step is not None else ""
            return self._tell("nan", f"the loss is {loss}{at}")
        self._was_negative |= loss <= 0
        self._last.append(loss)
        self._seen += 1
        if self._seen % EVERY or self._was_negative:
            return None
        self._highest = max(self._highest, statistics.median([*self._last][-EVERY:]))
        if self._seen < SPAN:
            return None
        median = statistics.median(self._last)
        if self._ran_away(median):
            text = (
                f"of the last {SPAN} reports the median loss is {median:.4g}, and the lowest {min(self._last):.4g}; "
                f"it was down to {self._lowest:.4g}, and {self._before:.4g} at most before that"
            )
            return self._tell("diverging", text)
        if median < self._lowest:
            self._lowest, self._before = median, self._highest
            self._deviation = _NORMAL * statistics.median(abs(value - median) for value in self._last)
        return None

    def _ran_away(self, median: float) -> bool:
        rises = median > TIMES * self._lowest and median > self._lowest + DEVIATIONS * self._deviation
        return rises and min(self._last) > self._before

    def _tell(self, kind: AlertKind, text: str) -> LossFinding | None:
        if kind in self._told:
            return None
        self._told.add(kind)
        return LossFinding(kind, text)
