"""The workers of one node: started through the spawner, watched, stopped; one generation at a time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swarmtrain.agent import machine
from swarmtrain.agent.environment import Node, Part, worker
from swarmtrain.wire.frames import Message
from swarmtrain.wire.pulse import Activity, Pulse, Source
from swarmtrain.wire.task import Task

_SUMMARY = 2_000
_TRACEBACK = 60_000
_ENDING = 60.0  # seconds in which a process that has recorded its exception ends
SPAWNER_FD = "SWARMTRAIN_SPAWNER_FD"


class Workers:
    """The local ranks of the current generation.

    Args:
        task: the job.
        env: what environment.shared gave: for the spawner, and so for every worker.
        on_change: called with a worker's state whenever it changes.
        on_note: called with a kind and a sentence for the journal.
    """

    def __init__(
        self,
        task: Task,
        env: Mapping[str, str],
        on_change: Callable[[Message], None],
        on_note: Callable[[str, str], None],
    ) -> None:
        self._task, self._env = task, dict(env)
        self._on_change, self._on_note = on_change, on_note
        self._writer: asyncio.StreamWriter | None = None
        self._spawner: asyncio.subprocess.Process | None = None
        self._error_files: dict[int, Path] = {}
        self._stack_files: dict[int, Path] = {}
        self._pulses: dict[int, Pulse] = {}
        self._memory_kills = 0
        self._stopping: asyncio.Task[None] | None = None
        self.generation = 0
        self.states: dict[int, Message] = {}
        self.warm = asyncio.Event()  # the spawner has imported what it will, or has failed to
        self.done = asyncio.Event()
        self.done.set()

    async def open(self, directory: Path) -> None:
        """Start the spawner, which begins at once to import what workers will need."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        start = "cold" if self._task.kind == "command" else self._task.start
        self._spawner = await asyncio.create_subprocess_exec(
            *entrance("spawner"),
            f"--{start}",
            env=self._env | {SPAWNER_FD: str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            cwd=directory,
        )
        theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._listening = asyncio.ensure_future(self._listen(reader))

    def begin(
        self, parts: list[Part], node: Node, work: Path, output: Path, memory: Path
    ) -> list[tuple[str, int, Path]]:
        """Start one generation's workers; return the files they write that are carried away: kind, rank, path.

        Raises:
            OSError: their files cannot be laid out. Nothing runs then.
        """
        output.mkdir(parents=True, exist_ok=True)
        memory.mkdir(parents=True, exist_ok=True)
        pulses = {part.rank: memory / f"r{part.local_rank}.pulse" for part in parts}
        self._pulses = {rank: Pulse.create(path) for rank, path in pulses.items()}
        self.generation = parts[0].generation
        self.states, self._error_files, self._stack_files = {}, {}, {}
        self._memory_kills = machine.memory_kills()
        self.done.clear()
        files: list[tuple[str, int, Path]] = []
        for part in parts:
            stem = f"g{part.generation}-r{part.rank}"
            paths = {kind: output / f"{stem}.{kind}" for kind in ("out", "metrics", "error", "stack")}
            paths["pulse"] = pulses[part.rank]
            self._error_files[part.rank], self._stack_files[part.rank] = paths["error"], paths["stack"]
            self.states[part.rank] = self._state(part.rank, "starting", local_rank=part.local_rank)
            files += [("output", part.rank, paths["out"]), ("metrics", part.rank, paths["metrics"])]
            env = worker(part, node, self._task, self._env, {kind: str(path) for kind, path in paths.items()})
            self._tell(
                {
                    "spawn": {
                        "key": stem,
                        "kind": self._task.kind,
                        "target": self._task.target,
                        "args": list(self._task.args),
                        "cwd": str(work),
                        "env": env,
                        "output": str(paths["out"]),
                        "path": [bundle()] if bundle() else [],
                        "start": self._task.start,
                    }
                }
            )
        if self._listening.done():
            asyncio.get_running_loop().call_soon(self._gone)
        return files

    def stop(self, grace: float, how: str = "term") -> None:
        """End all workers. Safe to call again; a shorter grace wins.

        Args:
            grace: seconds until what is left is killed.
            how: ``term``: SIGTERM first, to the ranks, and to what they have started when they have gone or two thirds
                of the grace are over. ``save``: those that can save and leave are asked to, the others get
                SIGTERM. ``kill``: nothing first; their group is broken, and what they would save is of no use.
        """
        if self._stopping is not None:
            self._stopping.cancel()
        self._stopping = asyncio.ensure_future(self._stop(grace, how))

    def pause(self, on: bool) -> None:
        """Ask the workers to save and leave; or take it back."""
        for pulse in self._pulses.values():
            pulse.pause = int(on)

    def pulses(self) -> list[list[Any]]:
        """The pulses of this generation's workers: generation, rank, and what the coordinator's `Vitals.take` reads."""
        now = time.monotonic_ns()
        return [
            [
                *(self.generation, rank, pulse.step, pulse.mark, pulse.doing(), pulse.source, pulse.paused),
                *(pulse.busy_ns / 1e9, pulse.resumed, _ago(now, pulse.stepped_ns), _ago(now, pulse.first_ns)),
            ]
            for rank, pulse in self._pulses.items()
        ]

    def is_busy(self) -> bool:
        """Whether a worker is in a phase that makes no steps, such as an evaluation."""
        return any(pulse.doing() != Activity.NONE for pulse in self._pulses.values())

    def usual(self) -> float:
        """Mean seconds of a step, of the slowest worker; 0 while unknown."""
        steps = [(pulse, pulse.step - pulse.resumed - 1) for pulse in self._pulses.values()]
        return max(((p.stepped_ns - p.first_ns) / 1e9 / made for p, made in steps if made > 0), default=0.0)

    def begun(self) -> bool:
        """Whether every worker has made a step."""
        return all(pulse.first_ns for pulse in self._pulses.values())

    def pids(self) -> dict[int, int]:
        """The workers that run, by rank."""
        return {rank: state["pid"] for rank, state in self.states.items() if state["state"] == "running"}

    def stack_files(self) -> dict[int, Path]:
        """Where each worker's stacks go, by rank."""
        return dict(self._stack_files)

    async def close(self) -> None:
        """End the spawner and with it whatever still runs."""
        if self._writer is not None:
            self._writer.close()
        if self._spawner is not None:
            await self._spawner.wait()

    async def _stop(self, grace: float, how: str) -> None:
        for rank, state in self.states.items():
            if state["state"] in ("starting", "running"):
                state["killed"] = True
                if how == "save" and self._pulses[rank].source >= Source.COOPERATIVE:
                    self._pulses[rank].pause = 1
                elif how != "kill":
                    self._tell({"stop": {"key": self._key(rank), "grace": grace}})
        try:
            await asyncio.wait_for(self.done.wait(), grace)
        except (TimeoutError, asyncio.TimeoutError):
            for rank, state in self.states.items():
                if state["state"] in ("starting", "running"):
                    self._tell({"signal": {"key": self._key(rank), "signal": int(signal.SIGKILL)}})

    def _key(self, rank: int) -> str:
        return f"g{self.generation}-r{rank}"

    def _tell(self, message: Message) -> None:
        assert self._writer is not None, "the spawner is started before anything is asked of it"
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._hear(json.loads(line))
        except (OSError, ValueError) as error:  # it died with requests that it had not read
            print(f"spawner: {error!r}", file=sys.stderr, flush=True)
        self._gone()

    def _gone(self) -> None:
        """The spawner has died, and its workers with it."""
        for rank, state in list(self.states.items()):
            if state["state"] in ("starting", "running"):
                self._over(rank, code=None, number=int(signal.SIGKILL))

    def _hear(self, message: Message) -> None:
        match message:
            case {"ready": {"torch": version, "error": error}}:
                self.warm.set()
                if version:
                    self._on_note("warm", f"torch {version} is imported; workers are forked")
                elif error:
                    self._on_note(
                        "cold", f"workers start cold, as torch could not be imported ahead: {error}"
                    )
            case {"started": {"key": key, "pid": pid, **rest}}:
                rank = self._rank(key)
                if rank is not None:
                    if rest.get("why"):
                        self._on_note("cold", f"rank {rank} starts cold: {rest['why']}")
                    self.states[rank] |= {"state": "running", "pid": pid}
                    self._on_change(self.states[rank])
            case {"exited": {"key": key, "code": code, "signal": number}}:
                rank = self._rank(key)
                if rank is not None:
                    self._over(rank, code, number)
            case {"failed": {"key": key, "error": error}}:
                rank = self._rank(key)
                if rank is not None:
                    self.states[rank]["error"] = {"summary": error, "traceback": "", "time": time.monotonic()}
                    self._over(rank, 127, None)

    def _rank(self, key: str) -> int | None:
        generation, _, rank = key[1:].partition("-r")
        return int(rank) if int(generation) == self.generation else None

    def _over(self, rank: int, code: int | None, number: int | None) -> None:
        state = self.states[rank]
        pulse = self._pulses[rank]
        state |= {
            "state": "exited",
            "code": code,
            "signal": number,
            "t": time.monotonic(),
            "paused": bool(pulse.paused),
        }
        recorded = read_error(self._error_files[rank])
        if recorded and code != 0:
            state["error"] = recorded
        if (
            number == signal.SIGKILL
            and not state.get("killed")
            and machine.memory_kills() > self._memory_kills
        ):
            state["memory"] = "the kernel's OOM killer; give the job more memory or a smaller batch"
        if all(each["state"] == "exited" for each in self.states.values()):
            self.done.set()
        self._on_change(state)

    def _state(self, rank: int, state: str, **fields: Any) -> Message:
        return {"g": self.generation, "rank": rank, "state": state, "t": time.monotonic(), **fields}


def _ago(now: int, moment: int) -> float | None:
    """Seconds since a moment, both in nanoseconds; None when it has not come."""
    return round((now - moment) / 1e9, 4) if moment else None


def bundle() -> str:
    """The zip that this process runs from; empty when it runs from an installed package."""
    path = sys.argv[0]
    return os.path.abspath(path) if path.endswith(".zip") else ""  # noqa: PTH100 - argv[0] may be relative


def entrance(what: str) -> list[str]:
    """The command that starts another part of the bundle the way this one was started."""
    return [sys.executable, bundle(), what] if bundle() else [sys.executable, "-m", "swarmtrain.inside", what]


def read_error(path: Path) -> Message | None:
    """What a worker recorded of its exception, in the format of torch's ``@record``; None when it recorded none."""
    try:
        message = json.loads(path.read_text(errors="replace"))["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(message, str):
        last = message.strip().splitlines()[-1] if message.strip() else ""
        return {"summary": last[:_SUMMARY], "traceback": _shortened(message)}
    if not isinstance(message, dict):
        return None
    extra = message.get("extraInfo")
    extra = extra if isinstance(extra, dict) else {}
    return {
        "summary": str(message.get("message", ""))[:_SUMMARY],
        "traceback": _shortened(str(extra.get("py_callstack", ""))),
        "time": _moment(extra.get("timestamp")),
    }


def _moment(unix: object) -> float:
    """Monotonic time of a Unix time that a worker has just written down; 0 for none.

    Should the machine's clock be set in between, it is still the time in which a process ends.
    """
    try:
        ago = time.time() - float(str(unix))
    except ValueError:
        return 0.0
    return time.monotonic() - min(max(0.0, ago), _ENDING)


def _shortened(text: str) -> str:
    """A traceback that fits into a message, also when the exception printed a tensor."""
    if len(text) <= _TRACEBACK:
        return text
    return f"{text[: _TRACEBACK // 3]}\n[...]\n{text[-2 * _TRACEBACK // 3 :]}"
