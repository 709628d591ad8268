"""Lines of the workers on their way to the person, without what only echoes another rank's failure.

What may be an echo is kept back for a moment (`views.folding`). Lines that come live are shown by a timer when it is
over; lines of a run that has ended come all at once, and go by their own time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from swarmtrain.control.views import logs
from swarmtrain.control.views.folding import Folded, Folding
from swarmtrain.errors import SwarmtrainError
from swarmtrain.protocol.replies import Line
from swarmtrain.ui import terminal


class QuietLines:
    """Shows lines; what is kept back when the context ends is shown then.

    Args:
        run: its id, as the word about what was left out names it.
        spares: tells of a generation and a rank whether its echo is to be shown.
        look: how lines are shown.
        live: they come as they are written.
    """

    def __init__(
        self, run: str, spares: Callable[[int, int], bool], look: logs.Look, *, live: bool = True
    ) -> None:
        self._run = run
        self._folding = Folding(spares)
        self._look = look._replace(plain=not terminal.keeps_colour(sys.stdout))
        self._live = live
        self._turn = threading.RLock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> QuietLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            if self._timer is not None:
                self._timer.cancel()
            if kind is None or issubclass(kind, SwarmtrainError):  # a person who leaves waits for no output
                self._show(self._folding.rest())

    def write(self, lines: Sequence[Line]) -> None:
        """Show lines, as far as they are no echo."""
        with self._turn:
            self._show(self._folding.take(lines, time.monotonic() if self._live else None))
            self._wait()

    def _wait(self) -> None:
        """Have what is kept back shown in time, whether or not more lines come."""
        due = self._folding.due() if self._live else None
        if due is not None and self._timer is None:
            self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._settle)
            self._timer.daemon = True
            self._timer.start()

    def _settle(self) -> None:
        with self._turn:
            self._timer = None
            with contextlib.suppress(BrokenPipeError):  # whoever writes next learns of it
                self._show(self._folding.settle(time.monotonic()))
            self._wait()

    def _show(self, found: Iterable[Line | Folded]) -> None:
        lines: list[Line] = []
        words: list[Folded] = []
        for each in found:
            if isinstance(each, Folded):
                words.append(each)
            else:
                lines.append(each)
        if lines:
            terminal.data(logs.render(lines, self._look))
        for each in words:
            terminal.say(each.sentence(self._run))
