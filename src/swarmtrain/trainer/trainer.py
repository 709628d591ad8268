"""The trainer: a training loop for one process or many, that ends with the same weights however often it is stopped.

A script builds model, data and optimizer, and calls :meth:`Trainer.fit` on every rank. What each part does is in a
module of its own: ``data`` loads samples, which ``dealing`` deals out to ranks, ``step`` makes one step, ``state`` is
what a step hands to the next, ``snapshots`` keeps it, ``evaluation`` measures, ``reports`` tell of it.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from swarmtrain.errors import TrainerError
from swarmtrain.trainer import batch_statistics
from swarmtrain.trainer.data import Step, TrainLoader, checked_size
from swarmtrain.trainer.dealing import Dealing, SampleCursor, goal_of
from swarmtrain.trainer.distributed import join_world, leave_world, share_buffers
from swarmtrain.trainer.evaluation import Evaluator, Measure
from swarmtrain.trainer.options import Options
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.reports.log import LOG
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.pulse_writer import PulseWriter
from swarmtrain.trainer.reports.step_report import StepReport
from swarmtrain.trainer.snapshots.manager import SnapshotManager
from swarmtrain.trainer.snapshots.schedule import Due, SnapshotSchedule
from swarmtrain.trainer.snapshots.writer import Stateful
from swarmtrain.trainer.state import TrainingState
from swarmtrain.trainer.step import Stepped, TrainStep
from swarmtrain.wire.plural import counted, plural
from swarmtrain.wire.pulse import Source


class Trainer:
    """Trains ``model`` on all ranks.

    Args:
        model: on any device; moved to this rank's. Every rank starts from rank 0's weights.
        train_data: a map-style dataset of (inputs, targets) pairs; it is dealt out to the ranks.
        optimizer: of the model's parameters.
        loss: of the model's outputs and the targets, to their mean over the samples.
        eval_data: as ``train_data``; None evaluates nothing.
        metrics: what to measure on ``eval_data`` besides the loss: name to a function of outputs and targets that
            returns a value for each sample, or their mean.
        scheduler: of the optimizer's learning rate.
        options: everything else.

    Raises:
        TrainerError: something about these arguments or this machine is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        train_data: Dataset[Any],
        optimizer: Optimizer,
        *,
        loss: Measure,
        eval_data: Dataset[Any] | None = None,
        metrics: Mapping[str, Measure] | None = None,
        scheduler: LRScheduler | None = None,
        options: Options | None = None,
    ) -> None:
        self.options = options = options or Options()
        size = checked_size(train_data, "training")
        self.cursor = SampleCursor(
            size, options.seed, shuffle=options.shuffle, least=_least_step(options, size)
        )
        self.world = world = join_world()
        self._pulse_writer = PulseWriter.of_this_worker(Source.TRAINER)
        self.reporter = Reporter(world, options.tensorboard, self._pulse_writer, progress=options.progress)

        schedule = SnapshotSchedule(options.snapshot, options.memory, options.keep, options.snapshots)
        self._snapshots = SnapshotManager(world, schedule, self.reporter, self._pulse_writer)
        least = batch_statistics.least_share(model, options.batch_size, world.size)
        self._dealing = Dealing(world.size, options.batch_size, options.micro_batch, least)
        batch_statistics.refuse_uneven_steps(model, self.cursor, self._dealing)
        self._train: TrainStep | None = None
        self.model = model.to(world.device)
        atexit.register(self.close)
        self.optimizer = optimizer
        if optimizer.state:  # made when the weights were elsewhere: loading it moves it to them
            optimizer.load_state_dict(optimizer.state_dict())
        self._scheduler = scheduler
        self._precision = Precision(options.precision, world.device)
        self._train = TrainStep(world, model, optimizer, loss, self._precision, self.reporter, options)
        self._state = TrainingState(
            world, model, optimizer, scheduler, self._precision, self.cursor, options.seed
        )
        self._loader = TrainLoader(
            train_data,
            self.cursor,
            rank=world.rank,
            dealing=self._dealing,
            workers=options.workers,
            pin_memory=world.device.type == "cuda",
        )
        self._evaluator: Evaluator | None = None
        if eval_data is not None:
            self._evaluator = Evaluator(
                eval_data,
                {"loss": loss, **(metrics or {})},
                world=world,
                precision=self._precision,
                batch_size=options.micro_batch or options.batch_size,
                workers=options.workers,
            )
        self._resumed = False
        self._evaluated: tuple[int, dict[str, float]] = (-1, {})  # the newest evaluation, and its step
        self._mark = time.perf_counter()  # when the last step or phase ended

        self.reporter.say(self._introduction())
        if world.size > 1 and batch_statistics.of_a_rank(model):
            self.reporter.say(
                "BatchNorm looks at each rank's own samples: other numbers of ranks train a little otherwise"
            )

    @property
    def step(self) -> int:
        """Optimizer steps made since the run began."""
        return self._state.step

    # ------------------------------------------------------------------------------------------------------
    # The loop

    def fit(self, *, epochs: int | None = None, steps: int | None = None) -> dict[str, float]:
        """Train until ``epochs`` epochs or ``steps`` steps are done in all, those before a resume included.

        Returns:
            The metrics of the last evaluation, over all samples of all ranks; empty without ``eval_data``.
        """
        if epochs is None and steps is None:
            raise TrainerError("fit has no goal", "call fit(epochs=...) or fit(steps=...)")
        try:
            self.resume()
            self.model.train()
            self._check_steps()
            if self.cursor.at_end:  # what was left of the epoch is left out since
                self._end_epoch()
            goal = goal_of(self.cursor, self.step, epochs, steps, self.options.batch_size)
            self.reporter.goal(self.step, goal)
            self._mark = time.perf_counter()
            self._pulse_writer.trains()
            while not self._reached(epochs, steps):
                for step in self._loader.steps():
                    stepped = self._train_step(step)
                    self._state.step += 1
                    self.cursor.advance(step.samples)
                    self._pulse_writer.stepped(self.step)
                    self._report(step, stepped)
                    due = self._snapshots.due_after_step(self.step)
                    if self.cursor.at_end:
                        self._end_epoch()
                        if self._snapshots.due_after_epoch(self.cursor.epoch):
                            due = replace(due, disk=True)
                    elif self.options.evaluate.after_step(self.step):
                        self.evaluate()
                    if self._reached(epochs, steps):
                        break
                    if due:
                        self._take_snapshot(due)
            return self._end()
        except BaseException:
            self.close()
            raise

    def _check_steps(self) -> None:
        batch_statistics.refuse_uneven_steps(self.model, self.cursor, self._dealing)
        batch_statistics.refuse_lone_samples(
            self.model,
            self.cursor,
            self._dealing,
            loader=self._loader,
            world=self.world,
            precision=self._precision,
        )

    def _train_step(self, step: Step) -> Stepped:
        """One optimizer step."""
        assert self._train is not None, "a trainer is made whole"
        scheduler = self._scheduler if self.options.scheduler_per == "step" else None
        stepped = self._train(step, tell=scheduler is not None)
        if stepped.applied and scheduler is not None:
            scheduler.step()
        self._state.add_loss(stepped.loss_sum, stepped.samples)
        return stepped

    def _end_epoch(self) -> None:
        epoch = self.cursor.epoch
        if self._scheduler is not None and self.options.scheduler_per == "epoch":
            self._scheduler.step()
        loss, samples = self._state.take_epoch_loss()
        self.cursor.next_epoch()
        metrics: dict[str, float] = {}
        by_step = self.options.evaluate.after_step(self.step)
        if by_step or self.options.evaluate.after_epoch(self.cursor.epoch):
            metrics = self.evaluate()
        self.reporter.epoch(epoch, loss / samples, metrics)

    def _end(self) -> dict[str, float]:
        self._pulse_writer.trained()
        metrics = self._evaluated[1] if self._evaluated[0] == self.step else self.evaluate()
        with self.reporter.phase("snapshot"):
            self._snapshots.finish()
        if not self._snapshots.is_kept(self.step) and not self.save() and self.world.leads:
            LOG.warning(
                f"the training is done, but no node could write its last snapshot, of step {self.step}: "
                "its weights are in no file"
            )
        weights = self._snapshots.weights(self.model, self.step)
        self.reporter.end(self.step, self.cursor.epoch, weights, metrics)
        return metrics

    def _reached(self, epochs: int | None, steps: int | None) -> bool:
        return (epochs is not None and self.cursor.epoch >= epochs) or (
            steps is not None and self.step >= steps
        )

    # ------------------------------------------------------------------------------------------------------
    # What may also be called by hand, on all ranks together

    def evaluate(self) -> dict[str, float]:
        """Measure the model on ``eval_data``: each metric's mean over all its samples, each counted once."""
        if self._evaluator is None:
            return {}
        with self.reporter.phase("evaluation"):
            self._pulse_writer.passed()
            share_buffers(self.world, self.model)
            metrics = self._evaluator(self.model)
        self.reporter.evaluation(self.step, self.cursor.epoch, metrics)
        self._evaluated = (self.step, metrics)
        self._mark = time.perf_counter()
        return metrics

    def save(self) -> bool:
        """Take a snapshot on every node and wait until it is on disk; return whether any node could write it.

        It is newer than all that are there, so what they hold is gone on from first, as :meth:`resume` does.
        """
        self.resume()
        saved = self._snapshots.save(self._state.content(), self.step, self.cursor.epoch)
        self._mark = time.perf_counter()
        return saved

    def resume(self) -> bool:
        """Go on from the newest snapshot, once; :meth:`fit` calls it. Return whether there was one."""
        if self._resumed:
            return False
        self._resumed = True
        state = self._snapshots.newest(fresh=not self.options.resume)
        if state is not None:
            self._state.load(state)
        if self._snapshots.writes:
            self._snapshots.begin()
        if hasattr(self.model, "_orig_mod"):  # torch.compile's: it compiles in the first step
            self._pulse_writer.begins_with("compile")
        return state is not None

    def add_rank_state(self, name: str, holder: Stateful) -> None:
        """Put something that differs from rank to rank into snapshots: the residuals of compressed gradients, say.

        To be called before anything is resumed. ``holder`` is given its state back where there are as many ranks as
        there were; else it begins anew. Every node's snapshot holds that of all ranks.
        """
        assert not self._resumed, "what is added after a resume would be lost"
        self._state.rank_state[name] = holder

    def close(self) -> None:
        """Leave the process group and close what is open. Also done by ``with``, at exit and when fit fails."""
        atexit.unregister(self.close)
        if self._train is not None:
            self._train.release()
        leave_world(self.world)
        # The other ranks have been let go. A snapshot that is being written is worth a moment.
        self._snapshots.close()
        self.reporter.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------
    # Small parts

    def _take_snapshot(self, due: Due) -> None:
        if due.pause:
            self._snapshots.pause(self._state.content(), self.step, self.cursor.epoch)
        if due.disk or due.memory:
            self._snapshots.take(self._state.content(), due, self.step, self.cursor.epoch)
        self._mark = time.perf_counter()

    def _report(self, step: Step, stepped: Stepped) -> None:
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self.reporter.step(
            StepReport(
                step=self.step,
                epoch=self.cursor.epoch,
                loss_sum=stepped.loss_sum,
                own_samples=stepped.samples,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                seconds=seconds,
                samples=step.samples,
                done=self.cursor.consumed / self.cursor.size,
                seen=self.cursor.epoch * self.cursor.size + self.cursor.consumed,
                gradient_norm=self._precision.gradient_norm,
            )
        )

    def _introduction(self) -> str:
        world, options = self.world, self.options
        share = -(-options.batch_size // self._dealing.takers(options.batch_size))
        microbatches = self._dealing.microbatches(share)
        ranks = plural(world.size, "1 rank", f"{world.size} ranks over {world.backend}")
        device = world.device if world.device.type == "cuda" else "cpu, as no GPU is visible"
        split = f" in {microbatches} pieces" if microbatches > 1 else ""
        return (
            f"Training on {ranks}; device {device}; {options.precision}; "
            f"a step takes {counted(options.batch_size, 'sample')}, at most {share} on a rank{split}"
        )


def _least_step(options: Options, size: int) -> int:
    """How many samples a step must have.

    Raises:
        TrainerError: there are not so many.
    """
    if not options.drop_last:
        return 1
    if size < options.batch_size:
        raise TrainerError(
            f"there {plural(size, 'is', 'are')} {counted(size, 'sample')}, fewer than a step takes, "
            "and drop_last leaves them out",
            f"set batch_size to {size} or less",
        )
    return options.batch_size
