"""The workers of one node in one generation: started through the spawner, watched, stopped.

Each generation has a `Workers` of its own, which holds everything that is true of it alone: its events, its pulses,
what it was ordered, the life of the spawner that it was started by. So nothing that is late, a timer, a report or an
order of an older generation, can reach a newer one. group.py holds the newest.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from swarmtrain.agent import machine
from swarmtrain.agent.environment import NodeEnvironment, WorkerAssignment, worker
from swarmtrain.agent.uplink import Background
from swarmtrain.agent.worker_group.spawner import Fate, Life, Orphaned
from swarmtrain.agent.worker_group.spawner_command import bundle
from swarmtrain.protocol.from_agent import PulseReport, WorkerEnd, WorkerError, WorkerReport
from swarmtrain.protocol.spawner import Program, Spawned, SpawnFailed, SpawnWorker
from swarmtrain.wire.clock import MACHINE, Clock
from swarmtrain.wire.pulse import Activity, Pulse, Source
from swarmtrain.wire.run_spec import RunSpec

_SUMMARY = 2_000
_TRACEBACK = 60_000
_TOLD_BYTES = 1 << 20  # of tracebacks, for which a message has room beside the rest
_ENDING = 60.0  # seconds in which a process that has recorded its exception ends


class Workers:
    """The local ranks of one generation.

    Args:
        task: the job.
        env: what environment.shared gave: what every worker finds.
        on_change: called with a worker's state whenever it changes.
        background: in which they are stopped.
        generation: its number; 0 is the time before the first one, in which there are no workers.
        nodes: how many take part in it.

    Attributes:
        states: what became of each, by rank.
        ordered: it is said how they end.
        done: all of them have gone, and none is to come.
    """

    def __init__(
        self,
        task: RunSpec,
        env: Mapping[str, str],
        on_change: Callable[[WorkerReport], None],
        background: Background,
        generation: int = 0,
        nodes: int = 1,
    ) -> None:
        self._task, self._env = task, env
        self._on_change, self._background = on_change, background
        self._life: Life | None = None
        self._error_files: dict[int, Path] = {}
        self._stack_files: dict[int, Path] = {}
        self._pulse_files: dict[int, Path] = {}
        self._pulses: dict[int, Pulse] = {}
        self._memory_kills = 0
        self._stopping: asyncio.Task[None] | None = None
        self.generation, self.nodes = generation, nodes
        self.states: dict[int, WorkerReport] = {}
        self.ordered = asyncio.Event()
        self.done = asyncio.Event()
        if generation == 0:
            self.done.set()

    def begin(
        self,
        life: Life,
        parts: Sequence[WorkerAssignment],
        node: NodeEnvironment,
        work: Path,
        output: Path,
        memory: Path,
    ) -> list[tuple[str, int, Path]]:
        """Start them; return the files they write that are carried away: kind, rank, path.

        Raises:
            OSError: their files cannot be laid out. Nothing runs then, nor will.
        """
        try:
            output.mkdir(parents=True, exist_ok=True)
            for part in parts:
                self._pulse_files[part.rank] = memory / f"g{part.generation}-r{part.rank}.pulse"
                self._pulses[part.rank] = Pulse.create(self._pulse_files[part.rank])
        except OSError:
            self.abandon()
            raise
        self._life = life
        self._memory_kills = machine.memory_kills()
        files: list[tuple[str, int, Path]] = []
        for part in parts:
            self.states[part.rank] = WorkerReport(
                self.generation, part.rank, "starting", time.monotonic(), part.local_rank
            )
        path = (bundle(),) if bundle() else ()
        program = Program(self._task.kind, self._task.target, self._task.args, str(work), path)
        for part in parts:
            stem = self._key(part.rank)
            paths = {kind: output / f"{stem}.{kind}" for kind in ("out", "metrics", "error", "stack")}
            paths["pulse"] = self._pulse_files[part.rank]
            self._error_files[part.rank], self._stack_files[part.rank] = paths["error"], paths["stack"]
            files += [("output", part.rank, paths["out"]), ("metrics", part.rank, paths["metrics"])]
            env = worker(part, node, self._task, self._env, {kind: str(path) for kind, path in paths.items()})
            life.spawn(SpawnWorker(stem, program, str(paths["out"]), env, self._task.start), self._hear)
        return files

    def abandon(self) -> None:
        """None of them is to start."""
        assert self._life is None, "workers that have been started are stopped"
        self.release()
        self.done.set()

    def release(self) -> None:
        """Nobody asks for the pulses any more: the next generation takes its place."""
        self._pulses = {}
        for path in self._pulse_files.values():
            path.unlink(missing_ok=True)

    def stop(self, grace: float, how: str = "term") -> None:
        """End all workers; those that have not been started are not started. Of several calls the last one counts.

        Args:
            grace: seconds until what is left is killed.
            how: ``term``: SIGTERM first, to the ranks, and to what they have started when they have gone or two thirds
                of the grace are over. ``save``: those that can save and leave are asked to, the others get
                SIGTERM. ``kill``: nothing first; their group is broken, and what they would save is of no use.
        """
        self.ordered.set()
        if self._life is None:
            self.abandon()
            return
        if self._stopping is not None:
            self._stopping.cancel()
        self._stopping = self._background.run(self._stop(grace, how))

    def pause(self, on: bool) -> None:
        """Ask the workers to save and leave; or take it back."""
        (self.ordered.set if on else self.ordered.clear)()
        for pulse in self._pulses.values():
            pulse.pause = int(on)

    def pulses(self) -> list[PulseReport]:
        """Their pulses, less the signs of life of workers that make no steps."""
        now = time.monotonic_ns()
        return [
            PulseReport(
                *(self.generation, rank, pulse.step, pulse.mark, pulse.doing(), pulse.source, pulse.paused),
                *(pulse.busy_ns / 1e9, pulse.resumed, _ago(now, pulse.stepped_ns), _ago(now, pulse.first_ns)),
                epoch=pulse.epoch - 1 if pulse.epoch else None,
                counted=pulse.counted or None,
            )
            for rank, pulse in self._pulses.items()
        ]

    def is_busy(self) -> bool:
        """Whether a worker is in a phase that makes no steps, such as an evaluation."""
        return any(pulse.doing() != Activity.NONE for pulse in self._pulses.values())

    def usual(self) -> float:
        """Mean seconds of a step, of the slowest worker; 0 while unknown."""
        steps = [(pulse, pulse.step - pulse.resumed - 1) for pulse in self._pulses.values()]
        return max(((p.stepped_ns - p.first_ns) / 1e9 / made for p, made in steps if made > 0), default=0.0)

    def stood(self) -> float:
        """Seconds since any worker made a step; for ever while none has."""
        newest = max((pulse.stepped_ns for pulse in self._pulses.values()), default=0)
        return (time.monotonic_ns() - newest) / 1e9

    def is_watched(self) -> bool:
        """Whether somebody may take a stand-still of these workers for a hang: they have made steps, or are done."""
        return any(pulse.stepped_ns or pulse.ended for pulse in self._pulses.values())

    def begun(self) -> bool:
        """Whether every worker has made a step."""
        return all(pulse.first_ns for pulse in self._pulses.values())

    def ended_well(self) -> bool:
        """Whether each of them has ended by itself, with exit code 0."""
        ends = [state.end for state in self.states.values()]
        return bool(ends) and all(end is not None and end.code == 0 for end in ends)

    def pids(self) -> dict[int, int]:
        """The workers that run, by rank."""
        return {
            rank: state.pid
            for rank, state in self.states.items()
            if state.state == "running" and state.pid is not None
        }

    def pulse(self, rank: int) -> Pulse | None:
        """Of a worker that may be asked for something; None once the next generation has taken its place."""
        return self._pulses.get(rank)

    def stack_files(self) -> dict[int, Path]:
        """Where each worker's stacks go, by rank."""
        return dict(self._stack_files)

    async def _stop(self, grace: float, how: str) -> None:
        assert self._life is not None, "workers that have not been started are not stopped"
        for rank in self._left():
            self.states[rank] = replace(self.states[rank], killed=True)
            if how == "save" and self._pulses[rank].source >= Source.CAN_PAUSE:
                self._pulses[rank].pause = 1
            elif how != "kill":
                self._life.stop(self._key(rank), grace)
        try:
            await asyncio.wait_for(self.done.wait(), grace)
        except (TimeoutError, asyncio.TimeoutError):
            for rank in self._left():
                self._life.signal(self._key(rank), signal.SIGKILL)

    def _left(self) -> list[int]:
        return [rank for rank, state in self.states.items() if state.state != "exited"]

    def _hear(self, fate: Fate) -> None:
        rank = int(fate.key.rpartition("-r")[2])
        if isinstance(fate, Spawned):
            cold = fate.why or ""
            self.states[rank] = replace(self.states[rank], state="running", pid=fate.pid, cold=cold)
            self._on_change(self.states[rank])
        elif isinstance(fate, SpawnFailed):
            self._over(rank, 127, None, error=WorkerError(fate.error, "", time.monotonic()))
        elif isinstance(fate, Orphaned):
            why = "with the process that starts the workers"
            self._over(rank, None, int(signal.SIGKILL), why=why)
        else:
            self._over(rank, fate.code, fate.signal)

    def _over(
        self,
        rank: int,
        code: int | None,
        number: int | None,
        *,
        why: str = "",
        error: WorkerError | None = None,
    ) -> None:
        state, pulse, memory = self.states[rank], self._pulses[rank], ""
        recorded = read_error(self._error_files[rank])
        if recorded is not None and code != 0:
            error = recorded
        was_killed = number == signal.SIGKILL and not state.killed
        if was_killed and machine.memory_kills() > self._memory_kills:
            memory = "the kernel's OOM killer; give the job more memory or a smaller batch"
        end = WorkerEnd(code, number, bool(pulse.paused), bool(pulse.ended), why, error, memory)
        self.states[rank] = replace(state, state="exited", time=time.monotonic(), end=end)
        if not self._left():
            self.done.set()
        self._on_change(self.states[rank])

    def _key(self, rank: int) -> str:
        return f"g{self.generation}-r{rank}"


def in_brief(states: Iterable[WorkerReport]) -> list[WorkerReport]:
    """The same in the order of their ends: the first errors with their tracebacks, as far as a message has room."""
    told, left = list[WorkerReport](), _TOLD_BYTES
    for state in sorted(states, key=_moment_of):
        end = state.end
        if end is not None and end.error is not None:
            left -= len(json.dumps(end.error.traceback))  # as it travels
            if left < 0:
                state = replace(state, end=replace(end, error=replace(end.error, traceback="")))
        told.append(state)
    return told


def _moment_of(state: WorkerReport) -> float:
    """Monotonic time of a worker's error, or of what became of it else."""
    error = state.end.error if state.end is not None else None
    return (error.time if error is not None else 0.0) or state.time


def _ago(now: int, moment: int) -> float | None:
    """Seconds since a moment, both in nanoseconds; None when it has not come."""
    return round((now - moment) / 1e9, 4) if moment else None


def read_error(path: Path, clock: Clock = MACHINE) -> WorkerError | None:
    """What a worker recorded of its exception, in the format of torch's ``@record``; None when it recorded none.

    Its time is the file's own: the format has whole seconds, too few to tell which of two ranks failed first.
    """
    try:
        message = json.loads(path.read_text(errors="replace"))["message"]
        when = _moment(path.stat().st_mtime, clock)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(message, str):
        last = message.strip().splitlines()[-1] if message.strip() else ""
        return WorkerError(last[:_SUMMARY], _shortened(message), when)
    if not isinstance(message, dict):
        return None
    extra = message.get("extraInfo")
    extra = extra if isinstance(extra, dict) else {}
    return WorkerError(
        str(message.get("message", ""))[:_SUMMARY], _shortened(str(extra.get("py_callstack", ""))), when
    )


def _moment(unix: float, clock: Clock) -> float:
    """Monotonic time of a Unix time at which a worker has just written something.

    Should the machine's clock be set in between, it is still the time in which a process ends.
    """
    return clock.monotonic() - min(max(0.0, clock.unix() - unix), _ENDING)


def _shortened(text: str) -> str:
    """A traceback that fits into a message, also when the exception printed a tensor."""
    if len(text) <= _TRACEBACK:
        return text
    return f"{text[: _TRACEBACK // 3]}\n[...]\n{text[-2 * _TRACEBACK // 3 :]}"
