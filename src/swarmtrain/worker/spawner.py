"""The spawner: starts, signals and buries the workers of one agent.

What is said between the two is in protocol/spawner.py. When the agent's end of the socket closes, the agent is gone:
every worker is killed and the spawner exits.

One thread and no event loop of any library, because the process forks.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from signal import SIGKILL

from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.spawner import (
    TO_SPAWNER,
    FromSpawner,
    Ping,
    Pong,
    SignalWorker,
    Spawned,
    SpawnerReady,
    SpawnFailed,
    SpawnWorker,
    StopWorker,
    ToSpawner,
    WorkerExited,
)
from swarmtrain.wire import names
from swarmtrain.wire.machine.processes import cleaning, kill_all
from swarmtrain.worker import guard, processes
from swarmtrain.worker.launch import CannotLaunch, cold_command, launch
from swarmtrain.worker.user import run_and_end
from swarmtrain.worker.warm import module_path
from swarmtrain.worker.warm.preload import Preload, preload, why_cold
from swarmtrain.worker.warm.trial import Trial, TrialNote

_PATIENCE = 10.0  # seconds until a process that even SIGKILL does not end (stuck in a driver) is given up
_AGAIN = 0.02  # seconds between looks at a tree that is ending
_REST = 1 / 3  # the last part of a grace: what a worker that still saves has started is asked to end, too


def main(argv: list[str]) -> int:
    """Serve the agent; in a warm worker, which is a fork of this process, run the user's program.

    Args:
        argv: ``["--warm"]`` to import torch first, else ``["--cold"]``.
    """
    processes.show([word for word in sys.orig_argv if word.strip()])  # less the room that the agent has made
    # No worker has it, so what torch imports may not have read it: tqdm reads all variables.
    descriptor = int(os.environ.pop(names.ENV_SPAWNER_FD))
    guard.split(descriptor)
    agent = socket.socket(fileno=descriptor)
    agent.set_inheritable(False)
    spawner = Spawner(agent)
    module_path.drop_launcher()
    loaded = preload() if "--warm" in argv else Preload()
    order = spawner.serve(loaded)
    if order is not None:
        request, remark = order
        trial = Trial(loaded.record, loaded.environment, cold_command(request.program), remark)
        run_and_end(request.program, trial)
    return 0


@dataclass
class _Worker:
    """A worker from its start until the agent has been told of its end."""

    key: str
    pid: int
    remark: TrialNote | None = None  # what a warm worker may say
    ended: float | None = None  # when it was first seen dead (monotonic)
    # until when its tree may end by itself; when the rest of it is asked to
    grace: tuple[float, float] | None = None
    asked: bool = False  # the rest of its tree has been
    killed: set[int] = field(default_factory=set)  # a dying process loses the marks by which it was found


class Spawner:
    """The loop between one agent and its workers."""

    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._buffer = b""
        self._workers: dict[str, _Worker] = {}
        self._stopping = False
        self._preload = Preload()
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: self._stop())

    def serve(self, preload: Preload) -> tuple[SpawnWorker, TrialNote] | None:
        """Serve the agent until it is gone: then None. In a warm worker, return what it is to fulfil."""
        self._preload = preload
        self._tell(SpawnerReady(preload.torch, round(preload.seconds, 3), preload.error, preload.nccl))
        while not self._stopping:
            ending = any(worker.ended is not None or worker.grace for worker in self._workers.values())
            readable, _, _ = select.select([self._agent, self._woken], [], [], _AGAIN if ending else None)
            if self._woken in readable:
                self._woken.recv(4096)
            self._bury()
            if self._agent in readable:
                for order in self._receive():
                    if isinstance(order, SpawnWorker):
                        if remark := self._spawn(order):
                            return order, remark
                    else:
                        self._obey(order)
        processes.end_descendants(_PATIENCE)
        return None

    def _obey(self, order: StopWorker | SignalWorker | Ping) -> None:
        if isinstance(order, Ping):
            self._tell(Pong())
        elif (worker := self._workers.get(order.key)) is not None:
            if isinstance(order, StopWorker):
                self._stop_worker(worker, order.grace)
            else:
                self._signal(worker, order.number)

    def _spawn(self, request: SpawnWorker) -> TrialNote | None:
        """Start a worker; in the warm worker itself, return by what it can say something here."""
        why = None
        if request.start == "warm":
            why = self._why_cold(request)
        warm = request.start == "warm" and why is None
        remark = TrialNote() if warm else None
        try:
            if request.key in self._workers:
                raise CannotLaunch(f"{request.key} is still there")
            pid = launch(request, warm=warm, close=self._close)
        except CannotLaunch as error:
            self._tell(SpawnFailed(request.key, str(error)))
            return None
        if pid == 0:
            return remark
        self._workers[request.key] = _Worker(request.key, pid, remark)
        self._tell(Spawned(request.key, pid, "warm" if warm else "cold", why))
        return None

    def _why_cold(self, request: SpawnWorker) -> str | None:
        if self._preload.torch is None:
            return self._preload.error or "this spawner is a cold one"
        return why_cold(request, os.environ)

    def _stop_worker(self, worker: _Worker, grace: float) -> None:
        """Ask a worker to end. What it has started, such as the workers of a data loader, it may need until then."""
        if worker.ended is not None:
            return
        now = time.monotonic()
        worker.grace = now + grace, now + grace * (1 - _REST)
        kill_all([worker.pid], signal.SIGTERM)

    def _signal(self, worker: _Worker, signal: int) -> None:
        """Signal a worker's whole tree: its process group at once, then what has left that group."""
        if signal == SIGKILL:
            worker.grace = None
        if worker.ended is not None:
            return
        table = processes.table()
        tree = self._tree(worker, table) | {worker.pid}
        if signal == SIGKILL:  # what is missed is ended after the worker
            kill_all(tree - cleaning(tree, since=time.monotonic()), SIGKILL)
            return
        processes.send_group(worker.pid, signal)
        kill_all((pid for pid in tree if pid in table and table[pid].group != worker.pid), signal)

    def _tree(self, worker: _Worker, table: processes.Table) -> set[int]:
        """Every process that the worker has brought into being, without itself.

        An orphan of unknown descent counts as the worker's when no other worker is left that it could belong to.
        """
        others = {other.pid for other in self._workers.values()} - {worker.pid}
        tree = {process.pid for process in table.values() if process.session == worker.pid}
        for process in table.values():
            orphan = process.parent == os.getpid() and process.pid not in others
            if orphan and process.session not in others:
                mark = processes.mark_of(process.pid)
                if mark == worker.key or (mark not in self._workers and not others):
                    tree.add(process.pid)
        tree |= processes.descendants(table, [worker.pid, *tree])
        return tree - {worker.pid}

    def _bury(self) -> None:
        """End what dead workers have left, tell the agent of those that have left nothing, reap orphans."""
        for worker in list(self._workers.values()):
            if worker.remark is not None and (why := worker.remark.read()) is not None:
                worker.remark = None
                self._tell(Spawned(worker.key, worker.pid, "cold", why))
            if worker.ended is None and _has_ended(worker.pid):
                worker.ended = time.monotonic()
            if worker.grace and not worker.asked and (worker.ended or time.monotonic() >= worker.grace[1]):
                worker.asked = True
                kill_all(self._tree(worker, processes.table()), signal.SIGTERM)
            if worker.ended is not None:
                self._end(worker, worker.ended)
        table = processes.table()
        workers = {worker.pid for worker in self._workers.values()}
        for process in table.values():
            if process.parent == os.getpid() and not process.alive and process.pid not in workers:
                os.waitpid(process.pid, os.WNOHANG)

    def _end(self, worker: _Worker, ended: float) -> None:
        table = processes.table()
        tree = processes.alive(table, self._tree(worker, table))
        if tree and worker.grace:
            if time.monotonic() < worker.grace[0]:
                return
            ended = worker.grace[0]
        spared = cleaning(tree, since=ended)
        kill_all(tree - spared, SIGKILL)
        worker.killed |= tree - spared
        if spared or (processes.alive(table, worker.killed) and time.monotonic() < ended + _PATIENCE):
            return
        # Only now, because until it is reaped nobody else can get its pid, by which its session is found.
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        del self._workers[worker.key]
        exit_code, signal_number = (code, None) if code >= 0 else (None, -code)
        self._tell(WorkerExited(worker.key, worker.pid, exit_code, signal_number))

    def _receive(self) -> list[ToSpawner]:
        try:
            data = self._agent.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self._stop()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [TO_SPAWNER.load(json.loads(line)) for line in lines if line]

    def _tell(self, message: FromSpawner) -> None:
        try:
            self._agent.sendall(json.dumps(dump(message)).encode() + b"\n")
        except ConnectionError:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True

    def _close(self) -> None:
        """In a worker: let go of what is the spawner's."""
        for end in (self._agent, self._woken, self._wake):
            end.close()


def _has_ended(pid: int) -> bool:
    """Whether a child is dead, leaving it to be reaped later."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
