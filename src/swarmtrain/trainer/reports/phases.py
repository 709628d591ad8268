"""Where the time of a step goes: data, forward, backward, communication, optimizer.

A step is made in `trainer.step`, each phase of it inside of one context manager from here, and nothing here has a part
in what is computed. Looking has a price, so of short steps only some are looked at. On the CPU the clock is read: what
a phase takes is what it takes. On a GPU the thread that trains runs ahead of it, so now and then one step's phases are
marked by events in the GPU's own queue, which are read later, when they have passed: nobody waits for them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Protocol

import torch
from torch import nn

# Seconds from one step that is looked at to the next, on average: a look takes some 60 us of them. It is never more
# than twice as long, so that each line has one: see wire/metrics.py.
_APART = 0.04
_NOTHING = nullcontext()
_OURS = "swarmtrain"  # among the hooks of a parameter, of which torch's have numbers
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

    __slots__ = ("_asked", "_last", "_ready", "_told", "_waited")

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(now)
        self._asked: list[torch.Tensor] = []  # parameters that tell in a pass when their gradient is there
        self._last: torch.Tensor | None = None
        self._ready = self._waited = 0.0
        self._told = False

    def watch(self, model: nn.Module) -> None:
        """Find out in the first pass which gradient comes last, and look at that one alone from then on."""
        self._last = None
        self._asked = [each for each in model.parameters() if each.requires_grad]
        self._told = bool(self._asked)

    def _came(self, parameter: torch.Tensor) -> None:
        self._ready, self._last = self._now(), parameter

    def __enter__(self) -> None:
        for parameter in self._asked:
            _ask(parameter, self._came)
        self._began = self._now()

    def __exit__(self, *_: object) -> None:
        now = self._now()
        self.seconds += now - self._began
        for parameter in self._asked:  # nothing is called in a pass that is not looked at
            _leave(parameter)
        if self._last is not None and self._ready > self._began:
            self._waited += now - self._ready
            self._asked = [self._last]

    def taken(self) -> dict[str, float]:
        """Seconds since the last call, of the pass itself and of the waiting where it is known."""
        seconds, waited = self.seconds, self._waited
        self.seconds = self._waited = 0.0
        return (
            {"backward": seconds - waited, "communication": waited} if self._told else {"backward": seconds}
        )


class UpdateWatch(PhaseWatch):
    """The optimizer's phase, with which a step ends."""

    __slots__ = ("_ends",)

    def __init__(self, now: Callable[[], float], ends: Callable[[float], None]) -> None:
        super().__init__(now)
        self._ends = ends

    def __exit__(self, *_: object) -> None:
        now = self._now()
        self.seconds += now - self._began
        self._ends(now)


class UnwatchedUpdate:
    """The same phase of steps that are not looked at.

    Attributes:
        left: how many of them there still are.
    """

    __slots__ = ("_ends", "left")

    def __init__(self, ends: Callable[[], None]) -> None:
        self.left, self._ends = 0, ends

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.left -= 1
        if not self.left:
            self._ends()


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

    def taken(self) -> dict[str, float]:
        """Mean seconds of each phase that is known, in the steps that were looked at since the last call."""


class CpuPhases(StepPhases):
    """Those on the CPU: of all steps, or where they are short, of some.

    Which step is the next is drawn, so that what happens in every tenth step is not seen always, or never.

    Args:
        draw: a number from 0 to 1; not by the generator that the script may have seeded.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, draw: Callable[[], float] | None = None
    ) -> None:
        self._draw = draw or Random().random
        self._backward = BackwardWatch(now)
        self._watches = {
            "data": PhaseWatch(now),
            "forward": PhaseWatch(now),
            "optimizer": UpdateWatch(now, self._looked),
        }
        self._unwatched = UnwatchedUpdate(self._look)
        self._passed_over, self._since = 0, now()  # steps since the last look, and when that was
        self._seen = 0  # steps that were looked at since the last line
        self.data: AbstractContextManager[None]
        self.forward: AbstractContextManager[None]
        self.backward: AbstractContextManager[None]
        self.optimizer: AbstractContextManager[None]
        self._look()

    def watch_gradients(self, model: nn.Module) -> None:
        """As above; the next step is looked at, or all of its gradients would be asked for until one is."""
        self._backward.watch(model)
        self._look()

    def taken(self) -> dict[str, float]:
        """As above."""
        seen, self._seen = self._seen, 0
        if not seen:
            return {}
        found = self._backward.taken()
        for name, watch in self._watches.items():
            found[name], watch.seconds = watch.seconds, 0.0
        return {name: seconds / seen for name, seconds in found.items()}

    def _look(self) -> None:
        self.data, self.forward, self.optimizer = self._watches.values()
        self.backward = self._backward

    def _looked(self, now: float) -> None:
        """A step was looked at: pass over the next ones, if they are short."""
        each = (now - self._since) / (self._passed_over + 1)
        self._seen, self._since = self._seen + 1, now
        self._passed_over = int(2 * _APART / each * self._draw()) if each > 0 else 0
        if self._passed_over:
            self._unwatched.left = self._passed_over
            self.data = self.forward = self.backward = _NOTHING
            self.optimizer = self._unwatched


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

    def taken(self) -> dict[str, float]:
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


def _ask(parameter: torch.Tensor, came: Callable[[torch.Tensor], None]) -> None:
    """Have it told when the parameter's gradient is there, as a hook of torch's is told, until `_leave`.

    To register such a hook and to remove it runs through much code, which each look would pay for.
    """
    if (hooks := parameter._post_accumulate_grad_hooks) is None:
        hooks = parameter._post_accumulate_grad_hooks = OrderedDict()
    hooks[_OURS] = came


def _leave(parameter: torch.Tensor) -> None:
    if (hooks := parameter._post_accumulate_grad_hooks) is not None:
        hooks.pop(_OURS, None)
        # An empty dictionary costs every later pass a microsecond at this parameter (torch 2.13).
        parameter._post_accumulate_grad_hooks = hooks or None  # type: ignore[assignment]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _has_passed(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]


def _mark() -> torch.cuda.Event:
    event = _event()
    event.record()
    return event
