"""What is remembered of files and sets that have gone is forgotten: a run may write any number. `Holdings` asks."""

from __future__ import annotations

import time
from collections.abc import Iterable

# For so long, a version may still be made of what was told of them, by whoever leads the run.
UNUSED_SECONDS = 600.0


class Forgetting:
    """Names that something is remembered by, as long as they are of use, and for a while after."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def overdue(self, unused: Iterable[str]) -> list[str]:
        """Those that have been of no use for a while.

        Args:
            unused: all that are of no use now; one that is not among them once is of use again.
        """
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in unused}
        return [name for name, since in self._since.items() if now - since > UNUSED_SECONDS]
