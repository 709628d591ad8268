"""The processes that the local launcher started, as they are written down beside each run.

What is written down is the init of each (`wire.machine.init`). An init that is killed leaves its child behind,
which goes on; the init has written down which it is, so that the child is found in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from swarmtrain.wire.clock import MACHINE
from swarmtrain.wire.disk.storage import write_whole
from swarmtrain.wire.machine.init import CHILD_FILE
from swarmtrain.wire.machine.processes import began, cleaning, descendants, kill_all

_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class LocalProcess:
    """A process, living or not.

    Attributes:
        pid: its number.
        began: when it started, in clock ticks since the machine did; 0 of one that was over before anybody asked.
        boot: the machine's boot that both are of.
    """

    pid: int
    began: int
    boot: str = ""

    @classmethod
    def start(cls, argv: list[str], environment: Mapping[str, str], directory: Path) -> LocalProcess:
        """Start one that outlives this process; its words go to the file ``log`` of its directory."""
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process.returncode = 0  # it is nobody's child to wait for: subprocess should not warn of it
        return cls.of(process.pid)

    @classmethod
    def of(cls, pid: int) -> LocalProcess:
        """The process that has this number now."""
        return cls(pid, began(pid), MACHINE.boot())

    @classmethod
    def left_by_init(cls, directory: Path) -> LocalProcess | None:
        """The child of the init that was started in this directory, its last one, if it lives."""
        try:
            fields = json.loads((directory / CHILD_FILE).read_text())
        except (OSError, ValueError):
            return None
        process = cls.noted(fields)
        return process if process is not None and process.lives else None

    @classmethod
    def noted(cls, fields: object) -> LocalProcess | None:
        """One that was written down, maybe by another version; None where that does not tell which it is."""
        match fields:
            case {"pid": int(pid), "began": int(since), "boot": str(boot)}:
                return cls(pid, since, boot)
        return None

    @property
    def lives(self) -> bool:
        """Whether it is still there, and still the same."""
        return self.began != 0 and began(self.pid) == self.began and self.boot == MACHINE.boot()

    def end(self, seconds: float) -> bool:
        """Ask it to end, as Docker would, and wait; False: it has not within ``seconds``."""
        if self.lives:
            kill_all([self.pid], signal.SIGTERM)
        limit = time.monotonic() + seconds
        while self.lives:
            if time.monotonic() > limit:
                return False
            time.sleep(0.05)
        return True

    def as_started(self) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment that it was started with. Raises OSError."""
        words, variables = (
            os.fsdecode(Path(f"/proc/{self.pid}/{name}").read_bytes()).split("\0")[:-1]
            for name in ("cmdline", "environ")
        )
        return words, dict(variable.split("=", 1) for variable in variables if "=" in variable)


TOLD_TO_GO = LocalProcess(0, 0)  # in place of one that was told to go: nothing is wrong with its absence


class ProcessTable:
    """The processes of one run by node, in a file; the coordinator is under the empty name.

    Args:
        place: the directory that the process of a node was started in.
    """

    def __init__(self, path: Path, place: Callable[[str], Path]) -> None:
        self._path, self._place = path, place

    def read(self) -> dict[str, LocalProcess]:
        """All that are known, and what outlived its init in that one's place; none before any was written down."""
        try:
            table = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        noted = (
            {node: LocalProcess.noted(each) for node, each in table.items()}
            if isinstance(table, dict)
            else {}
        )
        return {
            node: process if process.lives else LocalProcess.left_by_init(self._place(node)) or process
            for node, process in noted.items()
            if process is not None
        }

    def start(self, node: str, argv: list[str], environment: Mapping[str, str], directory: Path) -> None:
        """Start the process of a node and write it down; a signal that comes between the two waits.

        Raises OSError, and none is left: one that is not written down would be found by nobody, and be started again.
        """
        with _undisturbed():
            process = LocalProcess.start(argv, environment, directory)
            try:
                self.note(node, process)
            except BaseException:
                kill_trees([process], _KILL_SECONDS)
                raise

    def note(self, node: str, process: LocalProcess) -> None:
        """Write down the process of a node."""
        with self._path.with_suffix(".lock").open("w") as lock:  # several faults of a plan may end at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = {name: asdict(each) for name, each in (self.read() | {node: process}).items()}
            # Nobody waits for the disk: after a power cut there is none of them.
            write_whole(self._path, json.dumps(table).encode(), sync=False)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back the signals by which people end this process: what has been started is written down first.

    Not by blocking them, which the started process would inherit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread
        return
    came: list[int] = []
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for each, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for each, handler in before.items():
            if handler is not None:
                signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def kill_trees(roots: Iterable[LocalProcess], seconds: float) -> list[int]:
    """Kill processes and all that descends from them; return the numbers of those that live on after ``seconds``.

    They are stopped before: one that is killed as it starts another would leave that behind, as nobody's child.
    """
    known = {process.pid: process for process in roots if process.lives}
    tops, fresh = list(known), set(known)
    asked = time.monotonic()
    limit = asked + seconds
    while fresh:
        kill_all(fresh - cleaning(fresh, since=asked), signal.SIGSTOP)
        fresh = {pid for top in tops for pid in descendants(top)} - known.keys()
        known |= {pid: LocalProcess.of(pid) for pid in fresh}
    while left := [process.pid for process in known.values() if process.lives]:
        kill_all(set(left) - cleaning(left, since=asked))
        if time.monotonic() > limit:
            return left
        time.sleep(0.05)
    return []
