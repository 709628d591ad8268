"""Where a run is on this node: its directories on the disk and in memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.agent import code
from swarmtrain.agent.worker_group import memory
from swarmtrain.files import copies
from swarmtrain.structs import Struct
from swarmtrain.wire.disk.storage import Storage


class RunDirectories(Struct):
    """The directories of a run on one node; what they hold is said in docs/architecture.md.

    Attributes:
        directory: the run's.
        lineage: that of the run that started fresh; work and snapshots are there.
        node: by the name that the coordinator gave it.
        lineage_owner: what tells the run that started the lineage from one that had its id before it.
    """

    storage: Storage
    directory: str
    lineage: str
    node: str
    lineage_owner: str = ""

    @property
    def work(self) -> Path:
        """The workers' working directory."""
        return self.storage.work(self.lineage, self.node)

    @property
    def snapshots(self) -> Path:
        """Snapshots on the disk."""
        return self.storage.snapshots(self.lineage, self.node)

    @property
    def shared(self) -> Path:
        """What is remembered and kept of the files that workers write."""
        return self.work.parent / copies.SHARED

    @property
    def memory(self) -> Path:
        """Pulses, and snapshots that are not on the disk yet."""
        return self.storage.memory(self.directory, self.node)

    @property
    def memory_snapshots(self) -> Path:
        """Snapshots in memory."""
        return self.memory / memory.SNAPSHOTS

    @property
    def output(self) -> Path:
        """What workers write that is carried to the coordinator."""
        return self.storage.output(self.directory, self.node)

    @property
    def journal(self) -> Path:
        """This node's copy of the journal."""
        return self.output.parent / "journal.jsonl"

    def lay_out(self, parts: Sequence[Path], owner: str) -> list[str]:
        """Make the directories and unpack the user's code.

        Args:
            parts: of the code's archive.
            owner: what tells the run from one that had its id before it.

        Returns:
            the files that were not written over, since the run has changed them.

        Raises:
            OSError, SwarmtrainError: the disk is full or broken, or the code is not whole.
        """
        self.storage.claim(self.directory, self.lineage, self.lineage_owner)
        self.storage.adopt(self.directory, self.lineage, self.node, owner, self.lineage_owner)
        self.snapshots.mkdir(parents=True, exist_ok=True)
        memory.lay_out(self.memory, owner)
        return code.unpack(parts, self.work)

    def clear_memory(self) -> None:
        """Leave nothing in memory; the newest snapshot goes to the disk."""
        try:
            memory.save_newest(self.memory, self.snapshots)
        except OSError as error:
            print(f"the newest snapshot stays in memory, which goes: {error}", file=sys.stderr, flush=True)
        memory.remove(self.memory)
