"""Which workers start cold though they were to be forked, and why: said once a run, not once a rank and generation."""

from __future__ import annotations

import asyncio

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.journal.remarks import StartsCold

GATHER = 1.0  # seconds in which other ranks come to the same line of the script


class ColdStarts:
    """What agents say of it, gathered from all ranks; used by agents/messages.py."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ranks: dict[str, set[int]] = {}  # by reason, while others may follow

    def hear(self, rank: int, of: int, why: str) -> None:
        """A rank, of so many, starts cold."""
        if why in self._ranks:
            self._ranks[why].add(rank)
        elif not any(event.text.endswith(f": {why}") for event in self._journal.all(StartsCold)):
            self._ranks[why] = {rank}
            asyncio.get_running_loop().call_later(GATHER, self._say, of, why)

    def _say(self, of: int, why: str) -> None:
        count = len(self._ranks.pop(why))
        if self._journal.state.phase is Phase.ENDED:
            return
        who = (
            "the worker starts" if of == 1 else f"{count} of {of} ranks {'starts' if count == 1 else 'start'}"
        )
        self._journal.append(StartsCold(text=f"{who} cold: {why}"))
