"""Snapshots for scripts that have a loop of their own: one call to go on from the newest, one to take the next.

    from swarmtrain.trainer import Every, snapshot

    start = snapshot.resume(model=model, optimizer=optimizer)
    for step in range(start, steps):
        ...
        optimizer.step()
        snapshot.save(step + 1, every=Every(seconds=60), model=model, optimizer=optimizer)

Both are called by all ranks, after the process group is made, with the same objects under the same names. They do
what the Trainer does: snapshots are written in the background, by one rank of each node, and ranks go on from the
newest whole one that any node holds. Under ``swarmtrain run`` they also take short-lived snapshots in memory, and leave
when the agent asks for a pause.

What is kept of an object is its ``state_dict()``. Modules, optimizers, schedulers and gradient scalers are the same
on all ranks, and are kept once. Of anything else (a sampler, a loader) each rank's own state is kept; where the number
of ranks is another than it was, all are given rank 0's.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.distributed import find_world, settle_buckets, share_buffers
from swarmtrain.trainer.options import Every
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.pulse_writer import PulseWriter
from swarmtrain.trainer.seeding import random_state, restore_random_state
from swarmtrain.trainer.snapshots.manager import SnapshotManager
from swarmtrain.trainer.snapshots.schedule import SnapshotSchedule
from swarmtrain.trainer.snapshots.writer import Content, Stateful

__all__ = ["resume", "save"]

_SHARED = (nn.Module, Optimizer, LRScheduler, ReduceLROnPlateau, torch.amp.GradScaler)

_session: _Session | None = None


def resume(
    *,
    extra: MutableMapping[str, Any] | None = None,
    directory: Path | str | None = None,
    keep: int = 3,
    **objects: Stateful,
) -> int:
    """Go on from the newest snapshot that any node holds, once, before the first step.

    Args:
        extra: plain values, which are replaced by those of the snapshot.
        directory: this node's directory of snapshots; None: $SWARMTRAIN_SNAPSHOTS, else ./snapshots.
        keep: how many snapshots each node keeps on disk.
        objects: what is to be kept, by name: all that :func:`save` will be given.

    Returns:
        How many steps are made: the number that :func:`save` was called with; 0 for a fresh start.

    Raises:
        TrainerError: there are several ranks and no process group yet; the snapshot does not fit these objects.
    """
    global _session
    if _session is not None:
        raise TrainerError("snapshot.resume was called twice", "call it once, before the first step")
    _session = _Session(directory, keep, objects)
    return _session.resume(objects, extra)


def save(
    step: int,
    *,
    every: Every | None = None,
    extra: Mapping[str, Any] | None = None,
    wait: bool = False,
    **objects: Stateful,
) -> bool:
    """Take a snapshot when one is due; to be called after each optimizer step.

    It returns when the copying has begun. Until the next ``step()`` of the optimizers given here, nothing but these may
    change their parameters; other tensors may be changed at once.

    Args:
        step: how many optimizer steps are made in all.
        every: when one is due, by steps or seconds; None: at each call.
        extra: plain values to keep with it.
        wait: whether to take one in any case, and return when it is on the disk: for the end of a training.
        objects: as given to :func:`resume`.

    Returns:
        Whether a snapshot was begun; with ``wait``, whether any node could write it.

    Raises:
        SystemExit: the agent asked for a pause, and everything is saved. Let it pass.
        DriftError: the ranks hold different weights.
        TrainerError: ``every`` counts epochs, which a script keeps to itself.
    """
    global _session
    if _session is None:
        _session = _Session(None, 3, objects)
    return _session.save(step, every or Every(steps=1), objects, extra or {}, wait)


class _Session:
    """The snapshots of this process's training."""

    def __init__(self, directory: Path | str | None, keep: int, objects: Mapping[str, Stateful]) -> None:
        _refuse_sharded(objects)
        self._world = find_world(_gpu_of(objects))
        self._pulse_writer = PulseWriter.of_this_worker()
        self._reporter = Reporter(self._world, pulse_writer=self._pulse_writer, started=False)
        schedule = SnapshotSchedule(Every(), Every(seconds=5), keep, directory)
        self._snapshots = SnapshotManager(self._world, schedule, self._reporter, self._pulse_writer)
        self._every = Every()
        atexit.register(self._close)

    def resume(self, objects: Mapping[str, Stateful], extra: MutableMapping[str, Any] | None) -> int:
        for held in objects.values():
            if (parallel := _parallel(held)) is not None:
                settle_buckets(parallel)
        state = self._snapshots.newest()
        self._snapshots.begin()
        if state is None:
            return 0
        if state.get("by") != "script":
            raise TrainerError(
                f"the snapshot in {self._snapshots.directory} was written by the Trainer",
                "choose another directory of snapshots",
            )
        ranks = state["ranks"]
        same_ranks = len(ranks) == self._world.size
        own = ranks[self._world.rank if same_ranks else 0]
        for name, held in objects.items():
            kept = state["objects"] if isinstance(held, _SHARED) else own["objects"]
            if name not in kept:
                raise TrainerError(
                    f"the snapshot holds no {name}: it holds {', '.join((*state['objects'], *own['objects']))}",
                    "give save and resume the same objects under the same names",
                )
            try:
                _plain(held).load_state_dict(kept[name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise TrainerError(
                    f"the snapshot does not fit {name}: {error}",
                    "go back to the code that wrote it, or choose another directory of snapshots",
                ) from error
        if extra is not None:
            extra.update(state["extra"])
        if same_ranks:
            with self._on_device():
                restore_random_state(own["random"])
        step: int = state["step"]
        return step

    def save(
        self,
        step: int,
        every: Every,
        objects: Mapping[str, Stateful],
        extra: Mapping[str, Any],
        wait: bool,
    ) -> bool:
        if every != self._every:
            if every.epochs is not None:
                raise TrainerError("every=Every(epochs=...) is not known here", "use steps or seconds")
            self._every = every
            self._snapshots.reschedule(every)
        self._pulse_writer.stepped(step)
        due = self._snapshots.due_after_step(step)
        if due.pause:
            self._snapshots.pause(self._content(step, objects, extra), step, 0)
        if wait:
            saved = self._snapshots.save(self._content(step, objects, extra), step, 0)
            self._pulse_writer.trained()  # if not, the next step says so
            return saved
        if not (due.disk or due.memory):
            return False
        self._snapshots.take(self._content(step, objects, extra), due, step, 0)
        return True

    def _content(self, step: int, objects: Mapping[str, Stateful], extra: Mapping[str, Any]) -> Content:
        shared = {name: held for name, held in objects.items() if isinstance(held, _SHARED)}
        others = {name: held for name, held in objects.items() if name not in shared}
        weights: list[torch.Tensor] = []
        for held in shared.values():
            if isinstance(held, nn.Module):
                weights += held.parameters()
                parallel = _parallel(held)
                if parallel is not None and parallel.broadcast_buffers:
                    # As the next forward pass would. Else each rank's buffers are its own affair.
                    share_buffers(self._world, held)
                    weights += held.buffers()
        with self._on_device():
            random = random_state()
        own = {"random": random, "objects": {name: _state(held) for name, held in others.items()}}

        def state() -> dict[str, Any]:
            kept = {name: _state(held) for name, held in shared.items()}
            return {"by": "script", "objects": kept, "extra": dict(extra), "step": step}

        optimizers = [held for held in shared.values() if isinstance(held, Optimizer)]
        return Content(state, own, weights, optimizers)

    def _on_device(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._world.device) if self._world.device.type == "cuda" else nullcontext()

    def _close(self) -> None:
        self._snapshots.close()
        self._reporter.close()


def _plain(held: Stateful) -> Stateful:
    """A model without what wraps it for today's number of ranks or today's compiler."""
    while isinstance(held, DistributedDataParallel) or hasattr(held, "_orig_mod"):
        held = held.module if isinstance(held, DistributedDataParallel) else held._orig_mod
    return held


def _parallel(held: Stateful) -> DistributedDataParallel | None:
    """The DistributedDataParallel that an object is, also inside of ``torch.compile``'s wrapper."""
    while hasattr(held, "_orig_mod"):
        held = held._orig_mod
    return held if isinstance(held, DistributedDataParallel) else None


def _gpu_of(objects: Mapping[str, Stateful]) -> torch.device | None:
    """Where the models are; None for the current device."""
    models = (held for held in objects.values() if isinstance(held, nn.Module))
    return next((each.device for model in models for each in model.parameters() if each.is_cuda), None)


def _state(held: Stateful) -> Any:
    return _plain(held).state_dict()


def _refuse_sharded(objects: Mapping[str, Stateful]) -> None:
    for name, held in objects.items():
        if isinstance(held, nn.Module) and (
            any(hasattr(each, "device_mesh") for each in held.parameters())
            or any(hasattr(each, "_fsdp_wrapped_module") for each in held.modules())
        ):
            raise TrainerError(
                f"{name} is sharded over the ranks, and a snapshot holds whole models",
                "save it with torch.distributed.checkpoint",
            )
