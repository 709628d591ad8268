"""Where the time of a step goes: data, forward, backward, communication, optimizer.

A step is made in `trainer.step`, each phase of it inside of one context manager from here, and nothing here has a part
in what is computed. On the CPU the clock is read: what a phase takes is what it takes. On a GPU the thread that trains
runs ahead of it, so now and then one step's phases are marked by events in the GPU's own queue, which are read later,
when they have passed: nobody waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

NAMES = ("data", "forward", "backward", "communication", "optimizer")


class PhaseWatch:
    """One phase on the CPU; entered once a step or more often."""

    __slots__ = ("_began", "_now", "seconds")

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.seconds = self._began = 0.0

    def __enter__(self) -> None:
        self._began = self._now()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now() - self._began


class BackwardWatch(PhaseWatch):
    """The backward pass: until this rank's last gradient it computes, and from there on it only waits for others."""

    __slots__ = ("_hooks", "_last", "_ready", "_told", "waited")

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(now)
        self._hooks: list[Callable[[], None]] = []  # which undo what was asked of each parameter
        self._last: nn.Parameter | None = None
        self._ready = self.waited = 0.0
        self._told = False

    def watch(self, model: nn.Module) -> None:
        """Find out in the first pass which gradient comes last, and look at that one alone from then on."""
        for parameter in model.parameters():
            if parameter.requires_grad:
                self._hooks.append(_after(parameter, self._came))
        self._told = bool(self._hooks)

    def _came(self, parameter: torch.Tensor) -> None:
        self._ready = self._now()
        if len(self._hooks) > 1:
            self._last = parameter if isinstance(parameter, nn.Parameter) else None

    def __exit__(self, *_: object) -> None:
        now = self._now()
        self.seconds += now - self._began
        if self._ready > self._began:
            self.waited += now - self._ready
            if len(self._hooks) > 1:
                self._keep_the_last()

    def _keep_the_last(self) -> None:
        for undo in self._hooks:
            undo()
        assert self._last is not None, "a gradient has come"
        self._hooks = [_after(self._last, self._came)]

    def taken(self) -> dict[str, float]:
        """Seconds since the last call, of the pass itself and of the waiting where it is known."""
        seconds, waited = self.seconds, self.waited
        self.seconds = self.waited = 0.0
        return (
            {"backward": seconds - waited, "communication": waited} if self._told else {"backward": seconds}
        )


class StepPhases(Protocol):
    """The phases of one rank's steps.

    Attributes:
        data, forward, backward, optimizer: to be entered where that happens.
    """

    data: AbstractContextManager[None]
    forward: AbstractContextManager[None]
    backward: AbstractContextManager[None]
    optimizer: AbstractContextManager[None]

    def watch_gradients(self, model: nn.Module) -> None:
        """See when this rank has all of its gradients: what the backward pass takes from there is communication."""

    def taken(self, steps: int) -> dict[str, float]:
        """Mean seconds of each phase that is known, in a step; called between two steps, ``steps`` after the last."""


class CpuPhases(StepPhases):
    """Those on the CPU, of every step."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._watches = {name: PhaseWatch(now) for name in ("data", "forward", "optimizer")}
        self.data, self.forward, self.optimizer = self._watches.values()
        self.backward = self._backward = BackwardWatch(now)

    def watch_gradients(self, model: nn.Module) -> None:
        """As above."""
        self._backward.watch(model)

    def taken(self, steps: int) -> dict[str, float]:
        """As above."""
        found = {}
        for name, watch in self._watches.items():
            found[name], watch.seconds = watch.seconds / steps, 0.0
        return found | {name: seconds / steps for name, seconds in self._backward.taken().items()}


class GpuPhase:
    """One phase on a GPU: marked in its queue while a step is looked at, else nothing."""

    __slots__ = ("_ends", "_phases", "marks")

    def __init__(self, phases: GpuPhases, *, ends: bool = False) -> None:
        self._phases, self._ends = phases, ends
        self.marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> None:
        if self._phases.looks:
            self.marks.append((_mark(), _event()))

    def __exit__(self, *_: object) -> None:
        if self._phases.looks and self.marks:
            self.marks[-1][1].record()
            self._phases.looks = not self._ends


class GpuPhases(StepPhases):
    """The phases of one rank's steps, on a GPU: of one step between two lines.

    The communication is in the backward pass, beside which NCCL's kernels run.

    Attributes:
        looks: the step that is made now is marked.
    """

    def __init__(self) -> None:
        self.looks = False
        self._parts = {
            name: GpuPhase(self, ends=name == "optimizer") for name in NAMES if name != "communication"
        }
        self.data, self.forward = self._parts["data"], self._parts["forward"]
        self.backward, self.optimizer = self._parts["backward"], self._parts["optimizer"]

    def watch_gradients(self, model: nn.Module) -> None:
        """Nothing is to be seen here: communication is not told apart from the backward pass that it runs beside."""

    def taken(self, steps: int) -> dict[str, float]:
        """The seconds of the step that was marked last, once the GPU has made it."""
        if self.looks:
            return {}
        marks = {name: part.marks for name, part in self._parts.items()}
        if not all(_has_passed(end) for its in marks.values() for _, end in its):
            return {}
        found = {
            name: sum(begin.elapsed_time(end) for begin, end in its) / 1000
            for name, its in marks.items()
            if its
        }
        for part in self._parts.values():
            part.marks = []
        self.looks = True
        return found


def phases_on(device: torch.device) -> StepPhases:
    """Those of a rank that computes there."""
    return GpuPhases() if device.type == "cuda" else CpuPhases()


def _after(parameter: nn.Parameter, came: Callable[[torch.Tensor], None]) -> Callable[[], None]:
    """Have it told whenever the parameter's gradient is there; what undoes that."""
    hook = parameter.register_post_accumulate_grad_hook(came)  # type: ignore[no-untyped-call]
    undo: Callable[[], None] = hook.remove
    return undo


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _has_passed(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]


def _mark() -> torch.cuda.Event:
    event = _event()
    event.record()
    return event
