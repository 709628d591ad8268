"""What the ranks of a generation wrote last, for failures that have no traceback. Asked by active_generation.py."""

from __future__ import annotations

from collections import deque

from swarmtrain.coordinator.core.root_cause import with_evidence
from swarmtrain.coordinator.store.output import Filter, OutputStore, Reader
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.replies import Line

_LINES, _LETTERS = 20, 2000  # that are kept of a rank, and of each line
_MOST = 16 << 20  # bytes of the file that are read at a time: leases are not kept meanwhile


class Evidence:
    """The last lines of all ranks of a generation, read on when there are more.

    The file is read once for all of them, from where the generation began, and never more than the end of it.

    Args:
        output: of all ranks, and of all generations.
        generation: the number of this one.
    """

    def __init__(self, output: OutputStore, generation: int) -> None:
        self._output, self._generation = output, generation
        self._reader = Reader(output.path, Filter(), output.began(generation))
        self._last: dict[int, deque[str]] = {}
        self._known: dict[int, int] = {}  # by rank: how much of its output was there when this was read

    def of(self, failure: Failure) -> Failure:
        """A failure of this generation with the last lines of its rank, as far as they are here."""
        rank = failure.rank
        if rank is None or failure.traceback:
            return failure
        known = self._output.offsets.get((self._generation, rank), 0)
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


def _end(line: Line) -> str:
    return line.text[-_LETTERS:]
