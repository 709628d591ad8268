"""What is said of what came of snapshots: all of it in the metrics, troubles to a person too, each of them once."""

from __future__ import annotations

from swarmtrain.trainer.distributed import World
from swarmtrain.trainer.reports.log import LOG
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.snapshots import files
from swarmtrain.trainer.snapshots.writer import WriteResult


class SnapshotReports:
    """What this node has said; each node speaks for itself.

    Attributes:
        saved_step: of the newest snapshot that is written, anywhere on this node; -1 before the first.
    """

    def __init__(self, world: World, reporter: Reporter) -> None:
        self.saved_step = -1
        self._world, self._reporter = world, reporter
        self._failing: dict[str, str] = {}  # tiers that cannot be written, and why
        self._overtaken = (
            False  # whether it has been said that another training is at work in the same directory
        )
        self._skipping = False  # whether it has been said that snapshots are left out

    def came(self, outcome: WriteResult) -> None:
        """What became of a snapshot in one tier."""
        position, manifest = outcome.position, outcome.manifest
        if manifest is not None:
            path = outcome.tier.directory / manifest.file
            self._reporter.snapshot(
                position.step, position.epoch, path, manifest.bytes, outcome.seconds, tier=outcome.tier.name
            )
            self.saved_step = position.step
        if outcome.overtaken and not self._overtaken:
            self._overtaken = True
            LOG.warning(
                f"another training has begun to write snapshots to {outcome.tier.directory} on node "
                f"{self._world.node}: the next one that resumes there goes on from its snapshots, not from this one's"
            )
        if outcome.error is None:
            self._works(outcome)
        else:
            self._fails(outcome, outcome.error)

    def _works(self, outcome: WriteResult) -> None:
        if self._failing.pop(outcome.tier.name, None) is not None:
            LOG.warning(
                f"node {self._world.node} writes snapshots to {outcome.tier.name} again, with that of step "
                f"{outcome.position.step}"
            )

    def _fails(self, outcome: WriteResult, error: str) -> None:
        name, step = outcome.tier.name, outcome.position.step
        self._reporter.snapshot_failed(name, step, self._world.node, error)
        if self._failing.get(name) == error:
            return
        self._failing[name] = error
        last = files.listed(outcome.tier.directory)
        left = f"the last one there is of step {last[0].step}" if last else "there is none yet"
        LOG.warning(
            f"node {self._world.node} could not write the snapshot of step {step} to {name}, and trains on; "
            f"{left}: {error}"
        )

    def begun(self) -> None:
        """A snapshot was begun: the next one that is left out is worth a word again."""
        self._skipping = False

    def skipped(self, step: int) -> None:
        """One that was due is left out."""
        self._reporter.snapshot_skipped(step, self._world.node)
        if not self._skipping and self._world.leads_node:
            self._skipping = True
            LOG.warning(
                f"node {self._world.node} leaves out the snapshot of step {step}: it is still writing the last one"
            )
