"""When snapshots are taken, and how all ranks take one and go on from one together.

Called by the trainer, and by ``snapshot`` for scripts that do not use it. A snapshot begins at the same step on all
ranks and is written in the background (``writer``). What came of it is learned at a later step: each node says for
itself what it could not write, and with the next snapshot the ranks compare the hashes of their weights at this one.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.distributed import World, check_drift, gather, share_buffers, weights_hash
from swarmtrain.trainer.options import Every
from swarmtrain.trainer.reports.log import LOG
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.pulse_writer import PulseWriter
from swarmtrain.trainer.snapshots import files
from swarmtrain.trainer.snapshots.agreement import agree, claim_fence
from swarmtrain.trainer.snapshots.clock import SharedClock
from swarmtrain.trainer.snapshots.disk import DISK, MEMORY
from swarmtrain.trainer.snapshots.drift import WeightHashes
from swarmtrain.trainer.snapshots.files import Position
from swarmtrain.trainer.snapshots.reports import SnapshotReports
from swarmtrain.trainer.snapshots.schedule import Due, SnapshotSchedule
from swarmtrain.trainer.snapshots.staging import on_cpu
from swarmtrain.trainer.snapshots.writer import Content, SnapshotWriter, Tier
from swarmtrain.wire import names
from swarmtrain.wire.disk import private

_KEPT_IN_MEMORY = 2
_SHARE_FOR_MEMORY = 0.05  # of the time at most goes to writing there: of large states fewer are taken
_PAUSE_AGAIN = 10.0  # seconds after a pause that nothing could be saved for, until the next try
_LAST_WAIT = 10.0  # seconds that a training which fails waits for the snapshot that is being written


class SnapshotManager:
    """Takes snapshots; every method but :meth:`close` is called by all ranks at the same step."""

    def __init__(
        self, world: World, schedule: SnapshotSchedule, reporter: Reporter, pulse_writer: PulseWriter
    ) -> None:
        self.directory = Path(schedule.directory or os.environ.get(names.ENV_SNAPSHOTS) or "snapshots")
        self._world = world
        self._schedule = schedule
        self._reporter = reporter
        self._pulse_writer = pulse_writer
        self._writer_is = _writer_is()
        self._fence = 0  # under which this start writes; 0 until it has claimed one
        self._disk = Tier("disk", self.directory, schedule.keep, DISK)
        self._memory = _memory_tier(world)
        self._writer = SnapshotWriter()
        self._clock: SharedClock | None = None  # made with the first question, when all ranks are there
        self._not_before = 0.0  # of a pause
        self._memory_anywhere = False  # on any node
        self._on_disk = (0, -1)  # the key of this node's newest snapshot on disk, or on its way there
        self._taken = -1  # the step at which one was last begun
        self._hashes = WeightHashes()
        self._reports = SnapshotReports(world, reporter)
        self._writes_to_disk = False  # what is being written, or was written last

    # --- When ---------------------------------------------------------------------------------------------

    def due_after_step(self, step: int) -> Due:
        """To be asked once after every step."""
        self._collect()
        clock = self._clock = self._clock or self._make_clock()
        due = clock.due(step)
        return Due(
            disk="disk" in due or self._schedule.disk.after_step(step),
            memory="memory" in due or (self._memory_anywhere and self._schedule.memory.after_step(step)),
            pause="pause" in due,
        )

    def reschedule(self, disk: Every) -> None:
        """Change when snapshots are taken on disk."""
        self._schedule = replace(self._schedule, disk=disk)
        self._clock = None

    def due_after_epoch(self, epochs: int) -> bool:
        return self._schedule.disk.after_epoch(epochs)

    def is_kept(self, step: int) -> bool:
        """Whether nothing is left to save on disk at ``step``: every node has it, or nothing ever is saved."""
        return self._schedule.disk.never or all(gather(self._world, self._holds(step)))

    def _holds(self, step: int) -> bool:
        """Whether this node's disk has it, now: somebody else may have removed it since it was written."""
        if self._on_disk[1] != step:
            return False
        held = (each.key for each in files.listed(self.directory))
        return not self._world.leads_node or self._on_disk in held

    def _make_clock(self) -> SharedClock:
        memory, agent = zip(
            *gather(self._world, (self._memory is not None, self._pulse_writer.felt)), strict=True
        )
        seconds = {"disk": self._schedule.disk.seconds}
        self._memory_anywhere = any(memory)
        if self._memory_anywhere:
            seconds["memory"] = self._schedule.memory.seconds
        return SharedClock(self._world, seconds, {"pause": self._wishes_pause} if any(agent) else {})

    @property
    def writes(self) -> bool:
        """Whether snapshots are ever due, somewhere; the same on all ranks."""
        mine = self._memory is not None and not self._schedule.memory.never
        return any(gather(self._world, mine or not self._schedule.disk.never))

    def _wishes_pause(self) -> bool:
        return self._pulse_writer.asked_to_pause and time.monotonic() >= self._not_before

    # --- Taking one ---------------------------------------------------------------------------------------

    def take(self, content: Content, due: Due, step: int, epoch: int) -> None:
        """Begin a snapshot on every node; one that is still writing its last one leaves this one out.

        Raises:
            DriftError: the ranks' weights differed at an earlier one.
        """
        if not self._fence or step < self._taken:  # a script that counts from the start again has begun anew
            self.begin()
        self._taken = step
        everyones = gather(self._world, (on_cpu(content.own), self._hashes.mine))
        self._hashes.compare([hashes for _, hashes in everyones], self._discard_from)
        if due.disk and not self._writes_to_disk:
            with self._pulse_writer.doing("snapshot"):
                self._writer.wait()  # what goes to memory is there soon
        if self._writer.busy:
            if due.disk:
                self._reports.skipped(step)
        else:
            self._reports.begun()
            self._start(content, [own for own, _ in everyones], due, step, epoch)
        for name in ("disk", "memory"):
            if self._clock is not None and getattr(due, name):
                self._clock.reset(name)
        self._pulse_writer.work()

    def finish(self) -> None:
        """Wait until all that was begun is written or has failed.

        Raises:
            DriftError: the ranks' weights differed.
        """
        self._writer.wait()
        self._collect()
        self._hashes.compare(gather(self._world, self._hashes.mine), self._discard_from)

    def save(self, content: Content, step: int, epoch: int, *, memory: bool = False) -> bool:
        """Take a snapshot and wait until it is on disk (and in memory); return whether any node has it.

        Raises:
            DriftError: the ranks' weights differ. This snapshot is not kept then.
        """
        with self._reporter.phase("snapshot"):
            self._writer.wait()
            self._collect()
            self.take(content, Due(disk=True, memory=memory), step, epoch)
            self.finish()
            return any(gather(self._world, self._reports.saved_step == step))

    def pause(self, content: Content, step: int, epoch: int) -> None:
        """Save everything and leave, as the agent has asked some rank to.

        Raises:
            SystemExit: everything is saved. Where no node could save, this returns, and is tried again later.
        """
        if not self.save(content, step, epoch, memory=True):
            self._not_before = time.monotonic() + _PAUSE_AGAIN
            if self._world.leads:
                LOG.warning(f"no node could save step {step}, so the training does not pause")
            return
        self._reporter.say(f"Paused at step {step}: the group of nodes changes")
        self._pulse_writer.paused()
        raise SystemExit(0)

    def _start(self, content: Content, ranks: list[Any], due: Due, step: int, epoch: int) -> None:
        state = {**content.shared(), "ranks": ranks} if self._world.leads_node else None
        position = Position(self._fence, epoch, step, self._world.size, "", **self._writer_is)
        self._on_disk = (self._fence, step) if due.disk else self._on_disk
        self._writes_to_disk = due.disk
        self._writer.start(content, state, position, lambda size: self._tiers(due, size))

    def _tiers(self, due: Due, size: int) -> list[Tier]:
        tiers = []
        if due.memory and self._memory is not None:
            why = self._memory.lacks_room(size)
            if why is None:
                tiers.append(self._memory)
            else:
                LOG.warning(f"node {self._world.node} does without snapshots in memory: {why}")
                self._memory = None
        return [*tiers, self._disk] if due.disk else tiers

    # --- What came of it ----------------------------------------------------------------------------------

    def weights(self, model: nn.Module, step: int) -> str:
        """The hash of the model's weights, that of the snapshot taken at this step if there is one.

        Raises:
            DriftError: the ranks' weights differ.
        """
        known = self._writer.weights
        mine = known[1] if known is not None and known[0] == step else None
        everyones = gather(self._world, mine)
        hashes = [each for each in everyones if each is not None]
        if len(hashes) < self._world.size:
            share_buffers(self._world, model)
            hashes = gather(self._world, weights_hash(model))
        check_drift(hashes, step)
        return hashes[self._world.rank]

    def _collect(self) -> None:
        """Report what the writer has done since."""
        try:
            outcomes = self._writer.outcomes()
        except Exception as error:
            raise TrainerError(
                f"the state of this training cannot be written as a snapshot: {error}",
                "everything in the states of model, optimizer and scheduler must be picklable",
            ) from error
        if self._writer.weights is not None:
            self._hashes.learn(*self._writer.weights)
        for outcome in outcomes:
            self._reports.came(outcome)
            if outcome.error is not None and outcome.tier.name == "disk":
                self._on_disk = (0, -1)
            if outcome.manifest is not None and outcome.tier.name == "memory" and self._clock is not None:
                self._clock.put_off("memory", outcome.seconds / _SHARE_FOR_MEMORY)

    def _discard_from(self, step: int) -> None:
        """Take what was written since the ranks drifted apart off the lists, so that nothing goes on from it."""
        self._writer.wait()
        if not self._world.leads_node:
            return
        for tier in (self._memory, self._disk):
            if tier is None:
                continue
            for manifest in files.listed(tier.directory):
                if manifest.fence == self._fence and manifest.step >= step:
                    files.discard(tier.directory, manifest)

    # --- Going on -----------------------------------------------------------------------------------------

    def newest(self, *, fresh: bool = False) -> dict[str, Any] | None:
        """The state to go on from, the same on all ranks; None for a fresh start.

        Args:
            fresh: the training is to start afresh. It goes on from what its own run has written before a fault.

        Raises:
            TrainerError: a fresh start in a directory that holds snapshots of others.
        """
        if fresh:
            self._refuse_others()
        with self._reporter.phase("resume"):
            found = agree(self._world, self._tiers_there())
            if found is None:
                self._reporter.say("Starting at step 0: no node holds a snapshot")
                return None
            state = files.read(found.directory, found.manifest)
        manifest = found.manifest
        self._hashes.agreed(manifest.step)
        if found.directory == self.directory:
            self._on_disk = manifest.key
        self._pulse_writer.resumed(manifest.step)
        self._reporter.resume(manifest.step, manifest.epoch, found.directory / manifest.file)
        return state

    def begin(self) -> None:
        """What is written from here on is newer than all that is there, on any node."""
        self._writer.wait()
        self._fence = claim_fence(self._world, self._tiers_there(), _least_fence())
        self._disk = self._disk.found()
        self._memory = self._memory.found() if self._memory is not None else None

    def _tiers_there(self) -> list[Tier]:
        return [self._disk] if self._memory is None else [self._memory, self._disk]

    def _refuse_others(self) -> None:
        ours = self._writer_is["submission"]
        strange = [
            tier.directory
            for tier in self._tiers_there()
            if any(not ours or each.submission != ours for each in files.listed(tier.directory))
        ]
        everyones = gather(self._world, [str(directory) for directory in strange])
        if found := next(filter(None, everyones), None):
            raise TrainerError(
                f"{found[0]} holds snapshots of an earlier training, and resume is False",
                "set resume=True to go on from them, or choose another directory",
            )

    def close(self) -> None:
        """Let the writer end, within reason."""
        if self._writer.wait(_LAST_WAIT):
            self._collect()


def _writer_is() -> dict[str, Any]:
    """Who writes, as the agent tells it; outside of a run nobody does."""
    return {
        "run": os.environ.get(names.ENV_RUN, ""),
        "generation": int(os.environ.get(names.ENV_GENERATION) or 0),
        "submission": os.environ.get(names.ENV_SUBMISSION, ""),
    }


def _least_fence() -> int:
    """What the agent says: above the run's other generations, also where nothing of theirs can be seen."""
    return int(os.environ.get(names.ENV_FENCE) or os.environ.get(names.ENV_GENERATION) or 0)


def _memory_tier(world: World) -> Tier | None:
    """The node's directory in memory, made where it is not there yet; what lies there is unpickled."""
    if not (directory := os.environ.get(names.ENV_MEMORY)):
        return None
    path, why = Path(directory), ""
    try:
        private.make(path)
        if not private.is_safe(path):
            why = f"others can write into {path}, or what leads to it"
    except OSError as error:
        why = str(error)
    if not why:
        return Tier("memory", path, _KEPT_IN_MEMORY, MEMORY)
    if world.leads_node:
        LOG.warning(f"node {world.node} does without snapshots in memory: {why}")
    return None
