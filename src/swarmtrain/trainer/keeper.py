"""When snapshots are taken, and how all ranks take one and go on from one together."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from swarmtrain.trainer import snapshot
from swarmtrain.trainer.agreement import agree
from swarmtrain.trainer.distributed import World, broadcast, check_drift, gather, share_buffers, weights_hash
from swarmtrain.trainer.errors import TrainerError
from swarmtrain.trainer.metrics import Reporter
from swarmtrain.trainer.options import Options
from swarmtrain.trainer.snapshot import Position
from swarmtrain.wire import names

_CLOCK_INTERVAL = 1.0  # seconds between two looks of all ranks at rank 0's clock


class SnapshotKeeper:
    """Takes snapshots for the trainer; every method is called by all ranks at the same step."""

    def __init__(self, world: World, options: Options, reporter: Reporter) -> None:
        self.directory = Path(options.snapshots or os.environ.get(names.ENV_SNAPSHOTS) or "snapshots")
        self._world = world
        self._options = options
        self._reporter = reporter
        self._generation = int(os.environ.get(names.ENV_GENERATION) or 0)
        self._last_step = -1  # of the newest snapshot
        self._clock = _SharedClock(world, options.snapshot.seconds)

    def due_after_step(self, step: int) -> bool:
        """To be asked once after every step."""
        by_clock = self._clock.due(step)
        return by_clock or self._options.snapshot.after_step(step)

    def due_after_epoch(self, epochs: int) -> bool:
        return self._options.snapshot.after_epoch(epochs)

    def is_kept(self, step: int) -> bool:
        """Whether nothing is left to save at ``step``: it is saved, or nothing ever is."""
        return self._options.snapshot.never or step == self._last_step

    def check(self, model: nn.Module, step: int) -> str:
        """Compares the weights over the ranks and returns their hash.

        Raises:
            DriftError: they differ.
        """
        share_buffers(self._world, model)
        weights = weights_hash(model)
        check_drift(gather(self._world, weights), step)
        return weights

    def save(
        self,
        model: nn.Module,
        state: Callable[[], dict[str, Any]],
        own: dict[str, Any],
        step: int,
        epoch: int,
    ) -> None:
        """Writes a snapshot on every node.

        Args:
            model: whose weights are compared over the ranks first.
            state: gives what all ranks share.
            own: what only this rank has; every node's snapshot holds that of all ranks, in order.
            step, epoch: where the training stands.

        Raises:
            DriftError: the ranks' weights differ.
            TrainerError: no node could write.
        """
        with self._reporter.phase("snapshot"):
            position = Position(self._generation, epoch, step, self._world.size, self.check(model, step))
            ranks = gather(self._world, own)
            problem = self._write({**state(), "ranks": ranks}, position) if self._world.leads_node else None
            problems = gather(self._world, problem)
        self._settle(problems, step)
        self._last_step = step
        self._clock.reset(step)

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from, the same on all ranks; None for a fresh start.

        Raises:
            TrainerError: a fresh start was asked for in a directory that holds snapshots.
        """
        if not self._options.resume:
            if any(gather(self._world, bool(snapshot.listed(self.directory)))):
                raise TrainerError(
                    f"{self.directory} holds snapshots of an earlier training, and resume is False",
                    "set resume=True to go on from them, or choose another directory",
                )
            return None
        with self._reporter.phase("resume"):
            manifest = agree(self._world, self.directory)
            if manifest is None:
                return None
            state = snapshot.load(self.directory, manifest)
        self._last_step = manifest.step
        self._reporter.resume(manifest.step, manifest.epoch, self.directory / manifest.file)
        return state

    def _write(self, state: dict[str, Any], position: Position) -> str | None:
        """Writes this node's snapshot; returns what went wrong, in words."""
        started = time.monotonic()
        try:
            manifest = snapshot.save(self.directory, state, position)
            snapshot.prune(self.directory, self._options.keep)
        except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in a RuntimeError
            return f"node {self._world.node}: {error}"
        seconds = time.monotonic() - started
        path = self.directory / manifest.file
        self._reporter.snapshot(position.step, position.epoch, path, manifest.bytes, seconds)
        return None

    def _settle(self, problems: list[str | None], step: int) -> None:
        """A snapshot that some node holds is good; one that no node could write ends the training."""
        found = [problem for problem in problems if problem is not None]
        writers = sum(gather(self._world, self._world.leads_node)) if found else 0
        if found and len(found) == writers:
            raise TrainerError(f"no node could write the snapshot of step {step}: {'; '.join(found)}")
        if found and self._world.leads:
            text = f"swarmtrain: the snapshot of step {step} is missing on some nodes: {'; '.join(found)}"
            print(text, file=sys.stderr, flush=True)


class _SharedClock:
    """Rank 0's clock, by which all ranks find something due at the same step.

    Asking rank 0 at every step would cost a message a step. With each answer rank 0 names the step of the next
    question instead, about a second ahead.
    """

    def __init__(self, world: World, seconds: float | None) -> None:
        self._world = world
        self._seconds = seconds
        self._started = self._asked = time.monotonic()
        self._asked_step = 0
        self._next_step = 0

    def due(self, step: int) -> bool:
        if self._seconds is None or step < self._next_step:
            return False
        now = time.monotonic()
        pace = (now - self._asked) / max(1, step - self._asked_step)
        ahead = max(1, int(min(_CLOCK_INTERVAL, self._seconds) / max(pace, 1e-6)))
        due, self._next_step = broadcast(self._world, (now - self._started >= self._seconds, step + ahead))
        self._asked, self._asked_step = now, step
        return due

    def reset(self, step: int) -> None:
        self._started = self._asked = time.monotonic()
        self._asked_step = step
