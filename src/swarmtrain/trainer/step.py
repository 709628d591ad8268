"""One optimizer step: forward and backward over this rank's pieces, the average over all ranks, the update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from swarmtrain.trainer.data import LoadedPiece, Step, inputs_and_targets
from swarmtrain.trainer.distributed import World, settle_buckets
from swarmtrain.trainer.evaluation import Measure
from swarmtrain.trainer.options import Options
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.reports.metrics import Reporter


class Stepped(NamedTuple):
    """What a step came to on this rank."""

    loss_sum: torch.Tensor  # over its samples, in float64, on its device
    samples: int
    applied: bool  # whether the weights were changed: a step in fp16 may be left out


class TrainStep:
    """The steps of one training; called by the trainer, on all ranks together.

    Args:
        model: on this rank's device. With other ranks it is wrapped in DistributedDataParallel here.
        loss: of the model's outputs and the targets, to their mean over the samples.
    """

    def __init__(
        self,
        world: World,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Measure,
        precision: Precision,
        reporter: Reporter,
        options: Options,
    ) -> None:
        self._world, self._model, self._optimizer = world, model, optimizer
        self._loss, self._precision = loss, precision
        self._pulse_writer, self._phases = reporter.pulse_writer, reporter.phases
        self._clip_norm = options.clip_norm
        self._parallel = model if world.size == 1 else _in_parallel(world, model, options)
        if world.size > 1:
            self._phases.watch_gradients(model)
        # DistributedDataParallel shares buffers when a forward pass begins: there the ranks meet first.
        self._meets_in_forward = any(True for _ in model.buffers())

    def __call__(self, step: Step, *, tell: bool) -> Stepped:
        """Make a step.

        Nothing in here waits for a GPU, whose queue runs on while this thread prepares the next step; but in fp16 an
        optimizer that is not fused, and a schedule that counts steps, wait to know whether the gradients overflowed.

        Args:
            tell: whether it matters if the weights were changed.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum, samples = torch.zeros((), dtype=torch.float64, device=self._world.device), 0
        phases = self._phases
        for microbatch in self._loaded(step):
            with phases.data:
                inputs, targets = inputs_and_targets(microbatch.batch, self._world.device)
            with self._communicating(last=microbatch.last):
                with phases.forward, self._meeting(last=microbatch.last), self._precision.autocast():
                    loss = self._loss(self._parallel(inputs), targets)
                # Ranks' gradients are averaged. This weight makes the average that of the whole batch's samples.
                with phases.backward:
                    self._precision.backward(loss * (microbatch.samples * self._world.size / step.samples))
            if microbatch.samples:
                loss_sum += loss.detach() * microbatch.samples
                samples += microbatch.samples
        self._pulse_writer.passed()
        with phases.optimizer:
            applied = self._precision.update(self._optimizer, self._model, self._clip_norm, tell=tell)
        return Stepped(loss_sum, samples, applied)

    def _loaded(self, step: Step) -> Iterator[LoadedPiece]:
        """The pieces of a step; that they are waited for is a phase of it."""
        while True:
            with self._phases.data:
                microbatch = next(step.microbatches, None)
            if microbatch is None:
                return
            yield microbatch

    @contextmanager
    def _meeting(self, *, last: bool) -> Iterator[None]:
        """Marks are where every rank comes once a step, also one with fewer pieces than others."""
        if not last:
            yield
            return
        self._pulse_writer.passed()
        if self._meets_in_forward:
            self._pulse_writer.met()
        yield
        self._pulse_writer.passed()
        if not self._meets_in_forward:
            self._pulse_writer.met()

    def _communicating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel with the last piece of a step; earlier pieces add theirs up at home."""
        if last or not isinstance(self._parallel, DistributedDataParallel):
            return nullcontext()
        return self._parallel.no_sync()

    def release(self) -> None:
        """Let DistributedDataParallel go: before its process group does.

        As the last owner of a gloo group its reducer would join the group's thread while it holds the GIL, and that
        thread may be waiting for the GIL (torch 2.13).
        """
        self._parallel = self._model


def _in_parallel(world: World, model: nn.Module, options: Options) -> nn.Module:
    parallel = DistributedDataParallel(
        model,
        device_ids=[world.device.index] if world.device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # gradients live in the buffers that travel: a copy less each step
        find_unused_parameters=options.find_unused_parameters,
    )
    settle_buckets(parallel)
    return parallel
