"""torch's profiler on a training that runs, for a few steps, when the agent asks for it.

Called at the end of each step while a profile is asked for (`Pulse.profile`), on the thread that trains: by the
Trainer's pulse writer, and for other scripts by what watches their steps. What is asked lies in a file beside that of
the worker's stacks, and the answer comes there, too; agent/services/profiling.py is the other side. Nothing that is
computed is touched, and whatever goes wrong here, the script goes on.

torch has room for one profiler. A script that uses its own is not disturbed: while it records, ours does not begin,
and where it begins, ours gives way.
"""

from __future__ import annotations

import atexit
import gc
import gzip
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.autograd import profiler as autograd_profiler
from torch.profiler import ProfilerAction, ProfilerActivity
from torch.profiler.profiler import _KinetoProfile
from torch.profiler.profiler import profile as ScheduledProfile

from swarmtrain.wire import names
from swarmtrain.wire.pulse import Pulse

_LONGEST = 30.0  # seconds of recording, after which it ends with the steps that it has
_LARGEST = 1 << 30  # bytes of a trace before it is compressed
_OPERATORS = 40  # that are told of
_NAME = 120  # letters of one's name
_AT_EXIT = 10.0  # seconds that the end of a script waits for its trace
_COMMUNICATION = ("gloo:", "nccl:", "ncclDevKernel", "ncclKernel")
_DATA, _OPTIMIZER = ("enumerate(DataLoader)#",), ("Optimizer.step#",)
# by which torch.autograd.profiler begins a recording, of whoever asks for it (torch 2.4 to 2.13)
_BEGINNINGS = ("_prepare_profiler", "_enable_profiler")


class Span(NamedTuple):
    """Something recorded: its name, and microseconds from a common start."""

    name: str
    start: float
    end: float


def share(spans: Iterable[Span], prefixes: tuple[str, ...], until: float) -> float:
    """Seconds in which at least one of the spans of such a name went on, up to ``until`` microseconds."""
    seconds, covered = 0.0, 0.0
    for _, start, end in sorted(
        (each for each in spans if each.name.startswith(prefixes)), key=lambda each: each.start
    ):
        end = min(end, until)
        if end > covered:
            seconds += end - max(start, covered)
            covered = end
    return seconds / 1e6


class StepProfiler:
    """Serves what is asked of this worker; one at a time."""

    def __init__(self, pulse: Pulse, stack: str) -> None:
        self._pulse, self._stack = pulse, stack
        self._number = 0  # of what is being recorded, or was
        self._recording: _Recording | None = None

    def stepped(self, step: int) -> bool:
        """A step has ended; returns whether the next one is to be told of, too. Raises nothing."""
        number = self._pulse.profile
        answers = _Answers(self._pulse, number, Path(self._stack + names.PROFILE))
        try:
            if number != self._number:
                self._drop()
                self._number = number
                if number:
                    self._recording = _Recording(answers)
            elif self._recording is not None and not self._recording.over:
                self._recording.stepped(step)
        except Exception as error:
            answers.failed(f"torch's profiler did not work: {type(error).__name__}: {error}")
            with suppress(Exception):
                self._drop()
        if self._recording is not None and self._recording.over:
            self._recording = None
        return bool(number)

    def _drop(self) -> None:
        """Nobody waits for it any more, or it does not work."""
        if self._recording is not None:
            recording, self._recording = self._recording, None
            recording.drop()


def serving(pulse: Pulse) -> Callable[[int], bool] | None:
    """What is to be told of each step from here on, until it says no; None where nobody could read the answer."""
    stack = os.environ.get(names.ENV_STACK)
    return StepProfiler(pulse, stack).stepped if stack else None


class _Answers:
    """What the agent sees of one profile: how far it is, in the file ``path``, and files whose names begin so."""

    def __init__(self, pulse: Pulse, number: int, path: Path) -> None:
        self._pulse, self.number, self.path = pulse, number, path

    def are_wanted(self) -> bool:
        """Whether somebody still waits for this very profile."""
        return self._pulse.profile == self.number

    def tell(self, state: str, **fields: object) -> None:
        """Replace what was said before."""
        aside = Path(f"{self.path}.{self.number}.new")
        with suppress(OSError):
            aside.write_text(json.dumps({"number": self.number, "state": state, **fields}))
            if self.are_wanted():
                aside.replace(self.path)
            aside.unlink(missing_ok=True)

    def failed(self, reason: str) -> None:
        self.tell("failed", reason=reason[:500])


class _Recording:
    """One profile, from the boundary of a step at which it was asked for.

    The profiler is prepared there, records from the next boundary on, and a thread of its own writes what it has, so
    that the training waits for as little as possible.
    """

    def __init__(self, answers: _Answers) -> None:
        self.over = False
        self._answers = answers
        order = json.loads(Path(f"{answers.path}{names.PROFILE_ASK}").read_text())
        self._wanted = int(order["steps"])
        self._first, self._made = 0, 0
        self._began = self._seconds = 0.0
        self._early = False
        self._guard = _Guard(self._give_way)
        if why := _is_taken():
            self._fail(why)
            return
        self._on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        self._profile = _KinetoProfile(
            activities=activities,
            record_shapes=bool(order.get("shapes")),
            profile_memory=bool(order.get("memory")),
        )
        self._profile.prepare_trace()
        self._guard.stand()
        self._answers.tell("warming")

    def stepped(self, step: int) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if not self._began:
            self._guard.leave()
            self._first = step + 1
            self._profile.start_trace()
            self._guard.stand()
            self._began = time.perf_counter()
            self._answers.tell("recording")
            return
        with torch.profiler.record_function(f"end of step {step}"):
            self._made += 1
        self._seconds = now - self._began
        self._early = self._seconds > _LONGEST and self._made < self._wanted
        if self._made < self._wanted and not self._early:
            self._answers.tell("recording", made=self._made)
            return
        self._guard.leave()
        self._profile.stop_trace()
        self.over = True
        self._answers.tell("writing", made=self._made)
        writer = threading.Thread(target=self._write, name="swarmtrain-profile", daemon=True)
        writer.start()
        atexit.register(writer.join, _AT_EXIT)

    def drop(self) -> None:
        """End it without a result."""
        self._guard.leave()
        self.over = True
        if not self._began:  # what is prepared ends only where it has begun
            self._profile.start_trace()
        self._profile.stop_trace()

    def _give_way(self) -> None:
        with suppress(Exception):  # it may be another thread's, which cannot end ours
            self.drop()
        self._fail("the script has begun to profile itself, so this profile gave way")

    def _fail(self, why: str) -> None:
        self.over = True
        self._answers.failed(why)

    def _write(self) -> None:
        """On a thread of its own, beside the training."""
        stem, answers = f"{self._answers.path}.{self._answers.number}", self._answers
        raw, packed = Path(f"{stem}.json"), Path(f"{stem}.gz")
        trace = Path(f"{answers.path}{names.PROFILE_TRACE}")
        try:
            self._profile.export_chrome_trace(str(raw))
            if raw.stat().st_size > _LARGEST:
                self._fail("the trace has become larger than 1 GB; ask for fewer steps")
                return
            with raw.open("rb") as source, gzip.open(packed, "wb", compresslevel=5) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            summary = self._summary()
            if answers.are_wanted():
                packed.replace(trace)
            answers.tell("written", made=self._made, summary=summary)
        except Exception as error:
            self._fail(f"the trace cannot be written: {type(error).__name__}: {error}")
        finally:
            for each in (raw, packed, *([] if answers.are_wanted() else [trace, answers.path])):
                each.unlink(missing_ok=True)

    def _summary(self) -> dict[str, object]:
        spans = [
            Span(each.name, each.time_range.start, each.time_range.end)
            for each in self._profile.events()  # type: ignore[no-untyped-call]
        ]
        start = min((each.start for each in spans), default=0.0)
        until = start + self._seconds * 1e6
        return {
            "first": self._first,
            "steps": self._made,
            "seconds": self._seconds,
            "device": "cuda" if self._on_gpu else "cpu",
            "communication_s": share(spans, _COMMUNICATION, until),
            "data_s": share(spans, _DATA, until),
            "optimizer_s": share(spans, _OPTIMIZER, until),
            "operators": longest(self._profile.key_averages(), on_gpu=self._on_gpu),
            "early": self._early,
        }


def longest(averages: Sequence[Any], *, on_gpu: bool) -> list[list[object]]:
    """Torch's averages of the operators with the most self time, as `OperatorTime` has them."""
    rows = [
        (
            str(each.key)[:_NAME],
            int(each.count),
            float(each.self_cpu_time_total) / 1e6,
            float(each.cpu_time_total) / 1e6,
            float(each.self_device_time_total) / 1e6,
        )
        for each in averages
    ]
    rows.sort(key=lambda row: row[4] if on_gpu else row[2], reverse=True)
    return [list(row) for row in rows[:_OPERATORS]]


def _is_taken() -> str:
    """Why the script's own profiler is in the way; empty where it is not."""
    if torch._C._autograd._profiler_enabled():
        return "the script profiles itself at the moment, and torch allows one profiler at a time"
    # One that warms up has prepared what ours would use; it shows nowhere else.
    for each in gc.get_objects():
        if type(each) is ScheduledProfile and each.current_action == ProfilerAction.WARMUP:
            return "the script is about to profile itself, and torch allows one profiler at a time"
    return ""


class _Guard:
    """While it stands, a profiler that begins in this process is preceded by a word."""

    def __init__(self, word: Callable[[], None]) -> None:
        self._word = word
        self._theirs: dict[str, Callable[..., Any]] = {}

    def stand(self) -> None:
        """From here on."""
        for name in _BEGINNINGS:
            if callable(theirs := getattr(autograd_profiler, name, None)):
                self._theirs[name] = theirs
                setattr(autograd_profiler, name, self._told(theirs))

    def leave(self) -> None:
        """Not any more."""
        for name, theirs in self._theirs.items():
            setattr(autograd_profiler, name, theirs)
        self._theirs = {}

    def _told(self, theirs: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*args: Any, **kwargs: Any) -> Any:
            self._word()
            return theirs(*args, **kwargs)

        return begin
