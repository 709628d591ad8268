"""Whether the ranks hold the same weights: the hashes of snapshots, kept until all ranks know theirs of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from swarmtrain.errors import DriftError
from swarmtrain.trainer.distributed import check_drift

Hashes = dict[int, str]  # of a rank's weights, by step


class WeightHashes:
    """This rank's part in the comparison.

    Attributes:
        mine: the hashes at steps at which the ranks have not compared them yet.
    """

    def __init__(self) -> None:
        self.mine: Hashes = {}
        self._compared = -1  # the newest step at which the ranks have compared their weights

    def learn(self, step: int, weights: str) -> None:
        """The hash of this rank's weights at a step."""
        if step > self._compared:
            self.mine[step] = weights

    def agreed(self, step: int) -> None:
        """All ranks hold the same at this step: they have just read it."""
        self._compared = step

    def compare(self, everyones: Sequence[Hashes], discard_from: Callable[[int], None]) -> None:
        """Compare the hashes of all ranks, as far as all of them know theirs of a step.

        Args:
            discard_from: is called with the step at which they drifted apart.

        Raises:
            DriftError: the ranks' weights differ.
        """
        for step in sorted(set(everyones[0]).intersection(*everyones[1:])):
            try:
                check_drift([hashes[step] for hashes in everyones], step)
            except DriftError:
                discard_from(step)
                raise
            self._compared = step
        self.mine = {step: each for step, each in self.mine.items() if step > self._compared}
