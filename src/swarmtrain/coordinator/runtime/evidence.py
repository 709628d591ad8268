"""What the ranks of a generation wrote last, for failures that have no traceback. Asked by run.py."""

from __future__ import annotations

from swarmtrain.coordinator.core.root_cause import root_cause, with_evidence
from swarmtrain.coordinator.store.output import Filter, OutputStore, tail
from swarmtrain.protocol.failure import Failure

_LINES, _LETTERS = 20, 2000  # that are kept of a rank, and of each line


class Evidence:
    """The last lines of ranks, read again when there are more.

    Args:
        output: of all ranks.
    """

    def __init__(self, output: OutputStore) -> None:
        self._output = output
        # By rank: generation, bytes known, last lines.
        self._known: dict[int, tuple[int, int, list[str]]] = {}

    def of(self, failure: Failure, generation: int) -> Failure:
        """A failure of a generation with the last lines of its rank there, as far as they are here."""
        if failure.rank is None or failure.traceback:
            return failure
        known = self._output.offsets.get((generation, failure.rank), 0)
        if self._known.get(failure.rank, (0, 0, []))[:2] != (generation, known):
            lines = tail(self._output.path, Filter(ranks=frozenset({failure.rank})), _LINES)
            log = [text[-_LETTERS:] for _, number, *_, text in lines if number == generation]
            self._known[failure.rank] = (generation, known, log)
        return with_evidence(failure, self._known[failure.rank][2])

    def causes(self, failures: tuple[Failure, ...], generation: int) -> list[Failure]:
        """All failures of a generation with these lines, the root cause first."""
        return root_cause([self.of(failure, generation) for failure in failures])
