"""Plays the agent towards a real spawner, so that tests see workers from where the agent sees them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import swarmtrain

PACKAGE = Path(swarmtrain.__file__).parent
SCRIPTS = Path(__file__).parents[1] / "local" / "scripts"
PATIENCE = 120.0  # generous, because the machine may be busy with other tests


@dataclass
class Worker:
    """What the agent knows of one worker."""

    key: str
    output_file: Path
    asked: float = field(default_factory=time.time)
    started: dict[str, Any] | None = None
    exited: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        assert self.started, f"{self.key} has not started: {self.failed}"
        return int(self.started["pid"])

    @property
    def output(self) -> bytes:
        return self.output_file.read_bytes() if self.output_file.exists() else b""

    @property
    def text(self) -> str:
        return self.output.decode(errors="backslashreplace")

    @property
    def status(self) -> int:
        """As subprocess gives it: the exit code, or minus the signal."""
        assert self.exited, f"{self.key} has not ended; its output: {self.text}"
        return int(self.exited["code"]) if self.exited["signal"] is None else -int(self.exited["signal"])


class Spawner:
    """A spawner process and its socket."""

    def __init__(
        self,
        mode: str,
        directory: Path,
        bundle: Path | None = None,
        *,
        patience: float = PATIENCE,
        **env: str,
    ) -> None:
        self.mode = mode
        self.patience = patience
        self.directory = directory
        self.cookie = uuid.uuid4().hex  # in the environment of everything that descends from it
        self.workers: dict[str, Worker] = {}
        ours, theirs = socket.socketpair()
        self.socket = ours
        self._lines = b""
        entrance = [str(bundle)] if bundle else ["-m", "swarmtrain.inside"]
        self.process = subprocess.Popen(
            [sys.executable, *entrance, "spawner", f"--{mode}", " " * 1024],
            env={
                **environment(),
                **env,
                "TEST_COOKIE": self.cookie,
                "SWARMTRAIN_SPAWNER_FD": str(theirs.fileno()),
            },
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.ready = self._next()["ready"]

    def start(
        self, target: str | Path, *args: object, kind: str = "script", wait: bool = True, **fields: Any
    ) -> Worker:
        """Ask for a worker; by default wait until it has started, or failed to."""
        key = fields.pop("key", f"g1-r{len(self.workers)}")
        worker = Worker(key, self.directory / f"{key}.out")
        self.workers[key] = worker
        request = {
            "key": key,
            "kind": kind,
            "target": str(target),
            "args": [str(arg) for arg in args],
            "cwd": str(self.directory),
            "env": {},
            "output": str(worker.output_file),
            "path": [],
            "start": self.mode,
        }
        self.send(spawn={**request, **fields})
        if wait:
            self.until(lambda: bool(worker.started or worker.failed))
        return worker

    def run(self, target: str | Path, *args: object, **fields: Any) -> Worker:
        """Start a worker and wait for its end."""
        return self.wait(self.start(target, *args, **fields))

    def wait(self, worker: Worker) -> Worker:
        self.until(lambda: bool(worker.exited or worker.failed))
        return worker

    def signal(self, worker: Worker, number: int) -> None:
        self.send(signal={"key": worker.key, "signal": number})

    def stop(self, worker: Worker, grace: float) -> None:
        self.send(stop={"key": worker.key, "grace": grace})

    def send(self, **message: Any) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def until(self, condition: Callable[[], bool]) -> None:
        """Read what the spawner says until the condition holds."""
        while not condition():
            for what, fields in self._next().items():
                setattr(self.workers[fields["key"]], what, fields)

    def read_until(self, worker: Worker, text: str) -> str:
        """The worker's output once ``text`` is in it."""
        wait_for(lambda: text in worker.text, f"{text!r} in the output of {worker.key}")
        return worker.text

    def family(self) -> set[int]:
        """Every process that descends from the spawner, by the environment that it was started with."""
        return processes_with(f"TEST_COOKIE={self.cookie}")

    def close(self) -> None:
        """Leave as an agent that dies does; nothing may remain."""
        self.socket.close()
        self.process.wait(PATIENCE)
        assert not self.family(), "the spawner has left processes behind"

    def _next(self) -> dict[str, Any]:
        self.socket.settimeout(self.patience)
        while b"\n" not in self._lines:
            data = self.socket.recv(1 << 16)
            assert data, "the spawner has closed its socket"
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


@contextlib.contextmanager
def spawner(mode: str, directory: Path, bundle: Path | None = None, **env: str) -> Iterator[Spawner]:
    """A spawner for the length of a with block."""
    running = Spawner(mode, directory, bundle, **cast(dict[str, Any], env))
    try:
        yield running
    finally:
        running.close()


def make_bundle(directory: Path) -> Path:
    """The parts that workers need, as the one file that travels to the nodes."""
    bundle = directory / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("__main__.py", "from swarmtrain.inside import main\n\nmain()\n")
        parts = ("wire", "protocol", "worker")
        for source in [
            *PACKAGE.glob("*.py"),
            *(file for part in parts for file in PACKAGE.glob(f"{part}/**/*.py")),
        ]:
            archive.write(source, source.relative_to(PACKAGE.parent))
    return bundle


def environment() -> dict[str, str]:
    """A quiet and small environment; Python's own defaults for buffering."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return {**env, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}


def plain_python(*command: object, cwd: Path, output: Path, **env: str) -> tuple[int, bytes]:
    """What Python itself makes of the same command: exit status and output, both streams in one file."""
    with output.open("wb") as file:
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env={**environment(), **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=PATIENCE,
        )
    return done.returncode, output.read_bytes()


def processes_with(variable: str) -> set[int]:
    """The living processes that were started with this in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process can still run code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Poll, because nobody announces what we wait for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port that was free a moment ago, and is none that the kernel gives out to others meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def rank_env(rank: int, world_size: int, port: int) -> dict[str, str]:
    """torchrun's contract, as far as ``init_process_group`` reads it."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
