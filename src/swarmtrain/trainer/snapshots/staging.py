"""Copies of a training's state in CPU memory, from which a snapshot is written while training goes on.

Parameters and the optimizer's state do not change during forward and backward. So they are copied in the background,
during the next step, and only ``optimizer.step()`` has to wait until that is done: it helps with what is left then.
All else (buffers, learning rates, random numbers) is copied at once. The memory is allocated with the first snapshot
and used again by every later one; where the state is on a GPU it is pinned, and the copy runs on a stream of its own.

Called by ``writer``.
"""

from __future__ import annotations

import copy
import ctypes
import threading
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

_Shape = tuple[torch.Size, tuple[int, ...], torch.dtype]


class Staging:
    """The memory of copies. It holds one copy at a time: the former's memory is the next one's."""

    def __init__(self) -> None:
        self._free: dict[_Shape, list[torch.Tensor]] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def copy(self, state: Any, still: Collection[int] = ()) -> StagedCopy:
        """Begin to copy ``state``: any nesting of dictionaries, lists and tuples with tensors and plain values.

        Args:
            still: addresses of tensors that nobody changes before :meth:`StagedCopy.hold` has been called.

        Tensors that share memory share it in the copy. Other objects are copied as ``copy.deepcopy`` does.
        """
        free, used = self._free, defaultdict[_Shape, list[torch.Tensor]](list)
        copies: dict[int, Any] = {}  # as deepcopy's memo: a tensor's id to its copy
        by_place: dict[tuple[int, _Shape], torch.Tensor] = {}
        now: list[tuple[torch.Tensor, torch.Tensor]] = []
        later: list[tuple[torch.Tensor, torch.Tensor]] = []
        size = 0
        for tensor in _plain_tensors(state):
            shape = (tensor.shape, tensor.stride(), tensor.dtype)
            place = (tensor.data_ptr(), shape)
            target = by_place.get(place) if tensor.numel() else None
            if target is None:
                waiting = free.get(shape)
                target = waiting.pop() if waiting else _memory_like(tensor)
                used[shape].append(target)
                by_place[place] = target
                (later if tensor.data_ptr() in still else now).append((tensor, target))
                size += target.numel() * target.element_size()
            copies[id(tensor)] = target
        self._free = used
        events = self._start(now, later)
        host = [pair for pair in later if not pair[0].is_cuda]
        return StagedCopy(copy.deepcopy(state, copies), size, host, events)

    def _start(
        self, now: list[tuple[torch.Tensor, torch.Tensor]], later: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[torch.device, torch.cuda.Event]:
        """Copy what cannot wait, and set going what GPUs copy; the events are when all of that is done there."""
        for source, target in now:
            target.copy_(source, non_blocking=True)
        events = {}
        for device in {source.device for source, _ in (*now, *later) if source.is_cuda}:
            with torch.cuda.device(device):  # which need not be the script's current one
                stream = self._streams.get(device) or torch.cuda.Stream()  # type: ignore[no-untyped-call]
                self._streams[device] = stream
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for source, target in later:
                        if source.device == device:
                            target.copy_(source, non_blocking=True)
                            source.record_stream(stream)
                    events[device] = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    events[device].record(stream)
        return events


class StagedCopy:
    """A copy that is being made.

    Attributes:
        state: the copy. Its tensors are complete once :meth:`finish` has returned.
        bytes: the size of its tensors.
    """

    def __init__(
        self,
        state: Any,
        size: int,
        later: Iterable[tuple[torch.Tensor, torch.Tensor]],
        events: dict[torch.device, torch.cuda.Event],
    ) -> None:
        self.state = state
        self.bytes = size
        self._left = deque(later)
        self._events = events
        self._copied = threading.Event()
        self._helping = threading.Lock()  # held by the thread that trains while it copies

    def finish(self) -> None:
        """Copy what is left. For a thread of its own."""
        try:
            self._work()
            with self._helping:
                pass  # the last tensor may be the other thread's
        finally:
            self._copied.set()
        for event in self._events.values():
            event.synchronize()

    def hold(self) -> None:
        """Return when the tensors that stood still may be changed; to be called by the thread that trains.

        Where they are on a GPU it is the GPU's queue that waits, not this thread.
        """
        if not self._copied.is_set():
            with self._helping:
                self._work()
            self._copied.wait()
        for device, event in self._events.items():
            torch.cuda.current_stream(device).wait_event(event)

    def _work(self) -> None:
        while True:
            try:
                source, target = self._left.popleft()  # each thread takes what no other has
            except IndexError:
                return
            _copy(source, target)


def addresses(optimizers: Iterable[Optimizer]) -> set[int]:
    """Where the tensors lie that these optimizers alone change: their parameters and their own state."""
    found: set[int] = set()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            found.update(parameter.data_ptr() for parameter in group["params"])
        for state in optimizer.state.values():
            found.update(value.data_ptr() for value in state.values() if isinstance(value, torch.Tensor))
    return found


def on_cpu(value: Any) -> Any:
    """The same nesting with its tensors on the CPU, where every rank can take them: not all see the same GPUs."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if type(value) is dict:
        return {key: on_cpu(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(on_cpu, value))
    return value


def _plain_tensors(value: Any) -> Iterator[torch.Tensor]:
    if type(value) is torch.Tensor:
        # Gradients, meta, sparse and quantized tensors are left to deepcopy, which knows them.
        if value.layout == torch.strided and not (value.requires_grad or value.is_meta or value.is_quantized):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _plain_tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _plain_tensors(each)


def _memory_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    whole = source.is_contiguous() and target.is_contiguous() and not (source.is_conj() or source.is_neg())
    if whole and source.device.type == "cpu":
        # torch would start a second team of threads here. The GIL is free meanwhile.
        ctypes.memmove(target.data_ptr(), source.data_ptr(), source.numel() * source.element_size())
    else:
        target.copy_(source)
