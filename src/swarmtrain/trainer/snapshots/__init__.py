"""Snapshots of a training: the manager takes them on all ranks together, the writer writes them in the background.

    manager.py     when one is taken, how all ranks take it, and how they go on from one
    schedule.py    when and where, as it was asked for
    clock.py       what is due by time is due at the same step on all ranks
    staging.py     the copy of the state that is written while training goes on
    writer.py      writes it, to one tier after the other
    files.py       a snapshot on disk: its file, its manifest, its checksum
    disk.py        the few calls of a file system, so that tests can have one that fails
    reports.py     what is said of what came of one
    drift.py       whether the ranks hold the same weights
    agreement.py   which snapshot all ranks go on from, and how those that lack it get it
    fence.py       the number by which snapshots are ordered before their step

To look into one by hand: `listed` and `load`.
"""

from swarmtrain.trainer.snapshots.files import Manifest, listed, load

__all__ = ["Manifest", "listed", "load"]
