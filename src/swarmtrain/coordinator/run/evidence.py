"""What the ranks of a generation wrote last, for failures that have no traceback. Asked by controller.py."""

from __future__ import annotations

from collections import deque

from swarmtrain.coordinator.core.root_cause import root_cause, with_evidence
from swarmtrain.coordinator.store.output import Filter, OutputStore, Reader
from swarmtrain.protocol.failure import Failure
from swarmtrain.protocol.replies import Line

_LINES, _LETTERS = 20, 2000  # that are kept of a rank, and of each line
_MOST = 16 << 20  # bytes of the file that are read at a time: leases are not kept meanwhile


class Evidence:
    """The last lines of all ranks of a generation, read on when there are more.

    The file is read once for all of them, from where the generation began, and never more than the end of it.

    Args:
        output: of all ranks.
    """

    def __init__(self, output: OutputStore) -> None:
        self._output = output
        self._begin(0)

    def _begin(self, generation: int) -> None:
        self._generation = generation
        self._reader = Reader(self._output.path, Filter(), self._output.began(generation))
        self._last: dict[int, deque[str]] = {}
        self._known: dict[int, int] = {}  # by rank: how much of its output was there when this was read

    def of(self, failure: Failure, generation: int) -> Failure:
        """A failure of a generation with the last lines of its rank there, as far as they are here."""
        rank = failure.rank
        if rank is None or failure.traceback:
            return failure
        if generation != self._generation:
            self._begin(generation)
        known = self._output.offsets.get((generation, rank), 0)
        if self._known.get(rank, 0) != known:
            self._read()
            self._known[rank] = known
        going_on = [_end(line) for line in self._reader.going_on() if self._is(line, rank)]
        return with_evidence(failure, [*self._last.get(rank, ()), *going_on][-_LINES:])

    def _read(self) -> None:
        if (behind := self._reader.behind()) > _MOST:
            end = self._output.path.stat().st_size
            self._reader = Reader(self._output.path, Filter(), end - min(behind, _MOST))
        for line in self._reader.lines():
            if line.generation == self._generation:
                self._last.setdefault(line.rank, deque(maxlen=_LINES)).append(_end(line))

    def _is(self, line: Line, rank: int) -> bool:
        return (line.generation, line.rank) == (self._generation, rank)

    def causes(self, failures: tuple[Failure, ...], generation: int) -> list[Failure]:
        """All failures of a generation with these lines, the root cause first."""
        return root_cause([self.of(failure, generation) for failure in failures])


def _end(line: Line) -> str:
    return line.text[-_LETTERS:]
