"""Where torch tells of a script's steps: DistributedDataParallel, fully_shard, optimizers, samplers, the compiler.

Methods are not wrapped. DistributedDataParallel.forward looks its parts up by name (``self._pre_forward`` and so on)
as it comes to them, and a descriptor in their place tells of the look-up, and then gives out torch's own method. So no
frame of ours stands in a traceback, and instances, their pickles and their classes are what they were. The names are
private, and the same from torch 2.4 to 2.13; where one is missing, nothing is watched there.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from swarmtrain.wire.pulse import Pulse
from swarmtrain.worker.instruments.steps import Steps, complain, of_this_worker
from swarmtrain.worker.warm.shelf import Shelf
from swarmtrain.worker.warm.trial import Trial

_Watch = Callable[[ModuleType, Steps], None]


def _watching(watch: _Watch) -> Callable[[ModuleType], None]:
    """An action of torch_setup.py, which must not break the import that it follows."""

    @functools.wraps(watch)
    def action(module: ModuleType) -> None:
        try:
            if (steps := _steps()) is not None:
                watch(module, steps)
        except Exception as error:
            complain(f"{module.__name__} is not watched: {type(error).__name__}: {error}")

    return action


@functools.cache
def _steps() -> Steps | None:
    steps = of_this_worker()
    if steps is not None:
        atexit.register(_safely(steps, steps.finish))
        os.register_at_fork(after_in_child=steps.stop)
    return steps


def _safely(steps: Steps, tell: Callable[..., None]) -> Callable[..., None]:
    """``tell``, as long as it works: the script goes on whatever happens here."""

    def told(*args: object) -> None:
        if steps.on:
            try:
                tell(*args)
            except Exception as error:
                steps.give_up(error)

    return told


@_watching
def watch_parallel(module: ModuleType, steps: Steps) -> None:
    """Watch ``torch.nn.parallel.distributed``."""
    kind, torch = module.DistributedDataParallel, _torch()

    def enters(ddp: Any) -> None:
        if steps.first is None:
            _watch_optimizers(steps)
        graded, training = torch.is_grad_enabled(), ddp.training
        step = graded and training and ddp.require_backward_grad_sync
        steps.enters(ddp, step, not (graded or training), ddp.device_type)

    _tell(steps, kind, _pre_forward=enters, _run_ddp_forward=steps.computes, _post_forward=steps.leaves)
    _watch_modes(kind, steps)


@_watching
def watch_sharded(module: ModuleType, steps: Steps) -> None:
    """Watch ``FSDPState``, which is the state of each module that ``fully_shard`` was called on."""
    torch = _torch()

    def enters(state: Any) -> None:
        if state._state_ctx.iter_forward_root is not None:
            return  # a part of a model whose forward pass has begun
        if steps.first is None:
            _watch_optimizers(steps)
        graded, training = torch.is_grad_enabled(), state._modules[0].training
        steps.enters(state, graded and training, not (graded or training), state._device.type)

    def leaves(state: Any) -> None:
        if state._state_ctx.iter_forward_root is state:
            # Every layer has waited for its parameters: only what came before the pass was the rank's own work.
            steps.computes(state)
            steps.leaves(state)

    _tell(steps, module.FSDPState, _root_pre_forward=enters, _register_pre_backward_hook=leaves)


@_watching
def hide_from_compiler(module: ModuleType, steps: Steps) -> None:
    """Have ``torch._dynamo.trace_rules`` pass over our files, which run between the frames that it looks at."""
    for name in (__name__, Steps.__module__, Pulse.__module__, Trial.__module__, Shelf.__module__):
        module.add(name)


@_watching
def watch_compiler(module: ModuleType, steps: Steps) -> None:
    """Watch ``torch._dynamo.callback``."""
    compiles = _safely(steps, steps.compiles)
    module.callback_handler.register_start_callback(lambda *_: compiles(True))
    module.callback_handler.register_end_callback(lambda *_: compiles(False))


@_watching
def watch_samplers(module: ModuleType, steps: Steps) -> None:
    """Watch ``torch.utils.data.distributed``: which epoch a script begins with tells whether its ranks agree."""
    kind = module.DistributedSampler
    set_epoch, begins = kind.set_epoch, _safely(steps, steps.begins_epoch)

    @functools.wraps(set_epoch)
    def told(self: Any, epoch: int) -> Any:
        begins(epoch)
        return set_epoch(self, epoch)

    kind.set_epoch = told


class _Told:
    """A method of torch's that tells when it is looked up on an object, which is when it is called."""

    def __init__(self, method: Callable[..., Any], steps: Steps, tell: Callable[[Any], None]) -> None:
        self._method = method
        self._steps = steps
        self._tell = tell

    def __get__(self, owner: object, kind: type | None = None) -> Any:
        if owner is None:
            return self._method
        if self._steps.on:
            try:
                self._tell(owner)
            except Exception as error:
                self._steps.give_up(error)
        return self._method.__get__(owner, kind)


def _tell(steps: Steps, kind: type, **told: Callable[[Any], None]) -> None:
    for name, tell in told.items():
        if callable(method := vars(kind).get(name)):
            setattr(kind, name, _Told(method, steps, tell))


def _watch_modes(kind: Any, steps: Steps) -> None:
    """``model.train()``, and ``model.eval()``, which calls it."""
    train, switches = kind.train, _safely(steps, steps.switches)

    @functools.wraps(train)
    def told(self: Any, mode: bool = True) -> Any:
        switches(self, mode)
        return train(self, mode)

    kind.train = told


@functools.cache
def _watch_optimizers(steps: Steps) -> None:
    """From the first forward pass on: a script that makes none keeps its optimizers to itself."""

    def after_step(optimizer: object, args: object, kwargs: object) -> None:
        if steps.on:
            try:
                if not steps.steps:
                    steps.counts(_own_count(optimizer))
                steps.steps_made(optimizer)
            except Exception as error:
                steps.give_up(error)

    def before_step(optimizer: object, args: object, kwargs: object) -> None:
        if steps.on:
            steps.steps_begin()

    optimizers = sys.modules["torch.optim.optimizer"]
    optimizers.register_optimizer_step_pre_hook(before_step)
    optimizers.register_optimizer_step_post_hook(after_step)


def _own_count(optimizer: Any) -> int:
    """How many steps an optimizer has made of the whole training, as Adam counts; 0 where it keeps no such count."""
    counts = [
        state["step"] for state in optimizer.state.values() if isinstance(state, dict) and "step" in state
    ]
    # Of those that lie on an accelerator nothing is asked: its queue would have to come to its end.
    return max((int(each) for each in counts if getattr(each, "is_cpu", True)), default=0)


def _torch() -> Any:
    return sys.modules["torch"]
