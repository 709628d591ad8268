"""Writes snapshots in the background: copies, hashes and files are made by a thread while training goes on.

Called by ``manager`` on every rank: the rank that leads its node writes files, the others only hash their weights.
"""

from __future__ import annotations

import shutil
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from swarmtrain.trainer.distributed import tensors_hash
from swarmtrain.trainer.snapshots import fence
from swarmtrain.trainer.snapshots import files as files
from swarmtrain.trainer.snapshots.disk import Disk
from swarmtrain.trainer.snapshots.files import Manifest, Position
from swarmtrain.trainer.snapshots.staging import StagedCopy, Staging, addresses


class Stateful(Protocol):
    """What torch calls stateful: an object whose state can be taken and put back."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> object: ...


@dataclass(frozen=True)
class Tier:
    """A place for snapshots on this node.

    Attributes:
        name: "disk", which survives a power cut, or "memory", which is quick.
        keep: how many snapshots are left there.
        older: the names of the files that were there when this start claimed its fence.
    """

    name: str
    directory: Path
    keep: int
    disk: Disk
    older: frozenset[str] = frozenset()

    def found(self) -> Tier:
        """The same, with what is there now as what was there before."""
        try:
            return replace(self, older=frozenset(each.name for each in self.directory.iterdir()))
        except OSError:
            return self  # nothing can be there

    def lacks_room(self, size: int) -> str | None:
        """Why a memory tier cannot be used for states of ``size`` bytes, in words; None where it can.

        It is to hold ``keep`` snapshots and the one that is being written, and leave the rest of memory alone.
        """
        try:
            self.disk.make_directory(self.directory)
            held = sum(manifest.bytes for manifest in files.listed(self.directory))
            free = shutil.disk_usage(self.directory).free + held
        except OSError as error:
            return f"{self.directory} cannot be used: {error.strerror or error}"
        needed = (self.keep + 1) * size
        if free >= needed:
            return None
        return f"{self.directory} has {free >> 20} MiB free, and {needed >> 20} MiB are needed"


@dataclass(frozen=True)
class Content:
    """What a snapshot is made of on one rank.

    Attributes:
        shared: gives what all ranks have in common; asked on the rank that writes for its node.
        own: what only this rank has. Every node's snapshot holds that of all ranks, in order.
        weights: the tensors that must be the same on all ranks, in an order that is.
        optimizers: theirs alone are the changes to their parameters and state, in ``step()``.
    """

    shared: Callable[[], dict[str, Any]]
    own: dict[str, Any]
    weights: Sequence[torch.Tensor]
    optimizers: Sequence[Optimizer]


@dataclass(frozen=True)
class WriteResult:
    """What became of a snapshot in one tier.

    Attributes:
        error: says in words why there is none.
        overtaken: the fence of another training that has begun to write there since; 0 without one.
    """

    tier: Tier
    position: Position
    manifest: Manifest | None
    error: str | None
    seconds: float
    overtaken: int = 0


class SnapshotWriter:
    """Writes one snapshot at a time."""

    def __init__(self) -> None:
        self._staging = Staging()
        self._hooked = weakref.WeakSet[Optimizer]()
        self._thread: threading.Thread | None = None
        self._copy: StagedCopy | None = None
        self._outcomes: list[WriteResult] = []
        self._weights: tuple[int, str] | None = None
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(
        self,
        content: Content,
        state: dict[str, Any] | None,
        position: Position,
        tiers: Callable[[int], Sequence[Tier]],
    ) -> None:
        """Begin a snapshot; it must not be busy.

        Args:
            state: all that goes into the file; None: only the weights are hashed.
            position: without the hash, which is put in when it is known.
            tiers: where to write a state of so many bytes.
        """
        assert not self.busy
        for optimizer in content.optimizers:
            if optimizer not in self._hooked:
                optimizer.register_step_pre_hook(self._hold)
                self._hooked.add(optimizer)
        weights = [tensor.detach() for tensor in content.weights]
        staged = self._staging.copy({"state": state, "weights": weights}, still=addresses(content.optimizers))
        chosen = tiers(staged.bytes) if state is not None else ()
        self._copy = staged
        self._thread = threading.Thread(
            target=self._write, args=(staged, position, chosen), name="swarmtrain-snapshot"
        )
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being written; return whether that came true within ``timeout`` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.busy

    def outcomes(self) -> list[WriteResult]:
        """What has been written, or could not be, since this was last asked.

        Raises:
            Exception: the state is not one that can be written; whatever pickle said of it.
        """
        if self.busy:
            return []
        self._thread = self._copy = None
        failure, self._failure = self._failure, None
        found, self._outcomes = self._outcomes, []
        if failure is not None:
            raise failure
        return found

    @property
    def weights(self) -> tuple[int, str] | None:
        """The newest step of which the hash of the weights is known, and that hash."""
        return self._weights

    def _hold(self, *_: object) -> None:
        """Before an optimizer's step: the copy of what it changes must be made."""
        if self._copy is not None:
            self._copy.hold()

    def _write(self, staged: StagedCopy, position: Position, tiers: Sequence[Tier]) -> None:
        try:
            staged.finish()
            weights = tensors_hash(staged.state["weights"])
            self._weights = (position.step, weights)
            for tier in tiers:
                self._outcomes.append(_write(tier, staged.state["state"], replace(position, weights=weights)))
        except Exception as error:  # raised again in the thread that trains, by outcomes()
            self._failure = error


def _write(tier: Tier, state: dict[str, Any], position: Position) -> WriteResult:
    started = time.monotonic()
    manifest, problem, overtaken = None, None, 0
    try:
        manifest = files.save(tier.directory, state, position, tier.disk)
        files.prune(tier.directory, tier.keep, manifest, tier.older, tier.disk)
        newest = fence.highest(tier.directory)
        overtaken = newest if newest > position.fence else 0
    except (OSError, MemoryError) as error:
        problem = str(error) or type(error).__name__
    return WriteResult(tier, position, manifest, problem, time.monotonic() - started, overtaken)
