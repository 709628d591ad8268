"""When and where snapshots are taken, as it was asked for, and what is to be done at one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarmtrain.trainer.options import Every


@dataclass(frozen=True)
class SnapshotSchedule:
    """When and where snapshots are taken; the fields are those of ``Options``."""

    disk: Every
    memory: Every
    keep: int = 3
    directory: Path | str | None = None


@dataclass(frozen=True, kw_only=True)
class Due:
    """What is to be done at a step."""

    disk: bool = False
    memory: bool = False
    pause: bool = False

    def __bool__(self) -> bool:
        return self.disk or self.memory or self.pause
