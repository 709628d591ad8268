"""The local launcher: the coordinator and every node's agent as processes on this machine. Needs no Docker.

A "node" is one agent with its own directories, so ``-j 3x1`` behaves as three machines with one worker each would.
Runs are kept under ``$SWARMTRAIN_HOME``, by default ``~/.local/share/swarmtrain``.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Notice, Run, parse_handle
from swarmtrain.launchers.link import process_link
from swarmtrain.swarm import bundle, code
from swarmtrain.swarm.task import task_of, ticket_of
from swarmtrain.wire import names
from swarmtrain.wire.link import Link
from swarmtrain.wire.processes import descendants, kill_all
from swarmtrain.wire.sockets import UNIX, dial_unix
from swarmtrain.wire.storage import Storage, write_whole

_KILL_SECONDS = 5.0
_LEAVE_SECONDS = 120.0  # for workers to save and end
_STOPPED = {"pid": 0, "began": 0}  # in place of a process: it was told to go, and nothing is wrong with that
_HAS_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
_UNUSED = ("image", "volumes", "constraints", "memlock", "coordinator")


def home() -> Path:
    """Where local runs are kept."""
    explicit = os.environ.get("SWARMTRAIN_HOME", "")
    if explicit:
        return Path(explicit).expanduser().resolve()
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "swarmtrain"


class LocalLauncher:
    """Processes on this machine."""

    name = "local"

    def __init__(self) -> None:
        self._storage = Storage(home())

    def check(self, job: LoadedJob) -> list[Notice]:
        """See Launcher.check."""
        code.of(job, limit=None)
        _, notices = _interpreter(job.job)
        unused = [key for key in _UNUSED if key in job.sources]
        if unused:
            notices.append(
                Notice(f"{', '.join(unused)}: not used on local, where workers are plain processes")
            )
        return notices

    def submit(self, job: LoadedJob, run: Run, resume: str = "") -> None:
        """See Launcher.submit."""
        sent = code.of(job, limit=None)
        interpreter, _ = _interpreter(job.job)
        place = self._storage.coordinator(run.id)
        try:
            place.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            raise ClusterError(f"{run.id} was started by somebody else at this moment", "try again") from None
        nodes = job.job.node_names or tuple(f"node{index}" for index in range(job.job.nodes_max))
        task = task_of(job.job)
        task = dataclasses.replace(task, cpus=task.cpus or len(os.sched_getaffinity(0)) / len(nodes))
        (place / "job.json").write_text(task.dump())
        (place / "origin.json").write_text(Origin.of(job).dump())
        (place / "code.zip").write_bytes(sent.archive)
        _write_secret(place / "ticket.json", ticket_of(job, run.id, resume).dump())
        environment = os.environ | {
            names.ENV_JOB_FILE: str(place / "job.json"),
            names.ENV_SECRET_FILE: str(place / "ticket.json"),
            names.ENV_STORAGE: str(self._storage.root),
            names.ENV_COORDINATOR: f"{UNIX}{place / 'agents'}",
            names.ENV_CODE: str(place / "code.zip") if sent.archive else "",
        }
        try:
            self._note(run, "", _start([*interpreter, "coordinator", "--leave"], environment, place))
            for index, node in enumerate(nodes):
                variables = _of_node(environment, node, index, len(nodes))
                directory = self._storage.run(run.id) / node
                directory.mkdir(parents=True, exist_ok=True)
                self._note(run, node, _start([*interpreter, "agent", "--again"], variables, directory))
        except BaseException:  # also Ctrl-C: those that are there would train on
            self.kill(run)
            raise

    def roots(self, run: Run) -> dict[str, int]:
        """The live processes that everything of a run descends from, by node; the coordinator's name is empty."""
        return {node: each["pid"] for node, each in self._processes(run.id).items() if _lives(each)}

    def start_node(self, run: Run, node: str) -> None:
        """Start the agent of a node again, as `submit` did: with the command and the variables of the coordinator.

        Raises:
            ClusterError: the run has no such node or no coordinator any more. Nothing happens to a node that lives.
        """
        processes = self._processes(run.id)
        nodes = [name for name in processes if name]
        if node not in nodes:
            raise ClusterError(f"{run.id} has no node {node}", f"its nodes: {', '.join(nodes)}")
        if _lives(processes[node]):
            return
        if not _lives(processes[""]):
            raise ClusterError(f"the coordinator of {run.id} has gone: there is nothing to join")
        words, variables = _as_started(processes[""]["pid"])
        argv = [*words[: words.index("coordinator")], "agent", "--again"]
        variables = _of_node(variables, node, nodes.index(node), len(nodes))
        self._note(run, node, _start(argv, variables, self._storage.run(run.id) / node))

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Start agents that have gone, or tell some to go, the last ones first."""
        agents = {node: process for node, process in self._processes(run.id).items() if node}
        up = [node for node, process in agents.items() if _lives(process)]
        for node in [node for node in agents if node not in up][: max(0, nodes - len(up))]:
            self.start_node(run, node)
        for node in sorted(up, key=lambda node: node not in busy)[nodes:]:
            self._stop_node(run, node, agents[node])

    def _stop_node(self, run: Run, node: str, process: dict[str, int]) -> None:
        """Tell an agent to go, as Docker would, and wait until it has."""
        if _lives(process):
            with suppress(ProcessLookupError):
                os.kill(process["pid"], signal.SIGTERM)
        limit = time.monotonic() + _LEAVE_SECONDS
        while _lives(process):
            if time.monotonic() > limit:
                raise ClusterError(f"the agent of {node} has not gone within {_LEAVE_SECONDS:.0f} s")
            time.sleep(0.05)
        self._note(run, node, _STOPPED)

    def _note(self, run: Run, node: str, process: dict[str, int]) -> None:
        """Write down the process of a node."""
        path = self._storage.coordinator(run.id) / "processes.json"
        with path.with_suffix(".lock").open("w") as lock:  # several faults of a plan may end at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            write_whole(path, json.dumps(self._processes(run.id) | {node: process}).encode())

    def runs(self) -> list[Run]:
        """See Launcher.runs."""
        found = []
        for directory in self._storage.runs():
            try:
                job, number = parse_handle(directory)
                created = (self._storage.coordinator(directory) / "job.json").stat().st_mtime
            except (SwarmtrainError, OSError):
                continue
            if number is not None:
                live, origin = self._coordinator_lives(directory), self._origin(directory)
                found.append(Run(job, number, self.name, live, created, origin))
        return sorted(found)

    def connect(self, run: Run) -> Link:
        """See Launcher.connect."""
        place = self._storage.coordinator(run.id)
        if not place.is_dir():
            raise ClusterError(f"there is no {run.id} on this machine", "`swarmtrain ps -a` lists the runs")
        for _ in range(50):
            try:
                return _direct(place / "socket")
            except OSError:
                if not self._coordinator_lives(run.id):
                    return _archive(place)
                if not (place / "journal.jsonl").exists():
                    break
            time.sleep(0.02)  # it is about to listen, or about to leave
        raise ClusterError(f"the coordinator of {run.id} does not answer yet")

    def trouble(self, run: Run) -> str:
        """See Launcher.trouble."""
        for node, process in self._processes(run.id).items():
            if process != _STOPPED and not _lives(process):
                place = self._storage.run(run.id) / node if node else self._storage.coordinator(run.id)
                who = f"the agent of {node}" if node else "the coordinator"
                return f"{who} ended: {_last_words(place / 'log')}"
        return ""

    def reach(self, run: Run, node: str) -> None:
        """Every node's files are on this machine; there is nothing to do."""

    def program(self, run: Run) -> list[str]:
        """See Launcher.program."""
        return [sys.executable, "-I", str(bundle.on_disk())]

    def recover(self, run: Run, node: str) -> None:
        """See Launcher.recover."""
        raise ClusterError(
            f"the coordinator of {run.id} cannot move: the machine it runs on is the only one there is"
        )

    def kill(self, run: Run) -> None:
        """See Launcher.kill."""
        roots = [process["pid"] for process in self._processes(run.id).values() if _lives(process)]
        limit = time.monotonic() + _KILL_SECONDS
        known = {pid: _began(pid) for pid in roots}
        while left := [pid for pid, began in known.items() if began and _began(pid) == began]:
            for pid in {each for root in roots for each in descendants(root)} - known.keys():
                known[pid] = _began(pid)  # before their parents' death hands them to init
                left.append(pid)
            kill_all(left)
            if time.monotonic() > limit:
                raise ClusterError(f"some processes of {run.id} cannot be killed: {left}")
            time.sleep(0.05)
        self._storage.clear_memory(run.id)

    def remove(self, run: Run) -> None:
        """See Launcher.remove."""
        self.kill(run)
        try:
            self._storage.remove(run.id)
        except OSError as error:
            raise ClusterError(f"{run.id} could not be removed whole: {error}") from error

    def _coordinator_lives(self, directory: str) -> bool:
        process = self._processes(directory).get("")
        if process is not None:
            return _lives(process)
        return (self._storage.coordinator(directory) / "job.json").exists() and not (
            self._storage.coordinator(directory) / "journal.jsonl"
        ).exists()

    def _origin(self, directory: str) -> Origin | None:
        try:
            return Origin.load((self._storage.coordinator(directory) / "origin.json").read_text())
        except OSError:
            return None

    def _processes(self, directory: str) -> dict[str, dict[str, int]]:
        """The processes of a run by node, the coordinator under the empty name."""
        try:
            return dict(json.loads((self._storage.coordinator(directory) / "processes.json").read_text()))
        except (OSError, ValueError):
            return {}


def _interpreter(job: Job) -> tuple[list[str], list[Notice]]:
    """The command that starts a part of the bundle, and what to say of the choice.

    Raises:
        ClusterError: no Python that has torch was found.
    """
    ours = [sys.executable, "-m", "swarmtrain.inside"]
    if job.python == "python3" and (job.command or importlib.util.find_spec("torch") is not None):
        return ours, []
    python = shutil.which(job.python)
    if python is None:
        raise ClusterError(f"there is no {job.python} on this machine", "set `python` to one that has torch")
    found = [python, str(bundle.on_disk())]
    if job.command is not None:
        return found, []
    if subprocess.run([python, "-c", _HAS_TORCH], check=False, capture_output=True).returncode != 0:
        raise ClusterError(
            f"neither {sys.executable} nor {python} has torch",
            "pip install torch, activate the environment that has it, or set `python` to its interpreter",
        )
    return found, [
        Notice(f"workers run on {python}, since {sys.executable} is not the one that was asked for")
    ]


def _of_node(environment: Mapping[str, str], node: str, index: int, nodes: int) -> dict[str, str]:
    """The variables of one node's agent, out of those of the whole run."""
    mine = {names.ENV_NODE: node, names.ENV_SLOT: str(index)}
    gpus = _gpus_for(nodes)
    if gpus and "CUDA_VISIBLE_DEVICES" not in environment:
        mine["CUDA_VISIBLE_DEVICES"] = gpus[index]
    return {**environment, **mine}


def _as_started(pid: int) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that a process was started with. Raises OSError."""
    words, variables = (
        os.fsdecode(Path(f"/proc/{pid}/{name}").read_bytes()).split("\0")[:-1]
        for name in ("cmdline", "environ")
    )
    return words, dict(variable.split("=", 1) for variable in variables if "=" in variable)


def _gpus_for(nodes: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES for each node: this machine's GPUs dealt out evenly; empty when there is nothing to deal."""
    try:
        count = len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        return []
    if nodes < 2 or count == 0:
        return []
    each = max(1, count // nodes)
    return [",".join(str((node * each + one) % count) for one in range(each)) for node in range(nodes)]


def _start(argv: list[str], environment: dict[str, str], directory: Path) -> dict[str, int]:
    """Start a process of the run, which outlives this one; its words go to a file."""
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
    return {"pid": process.pid, "began": _began(process.pid)}


def _began(pid: int) -> int:
    """When a process started, in clock ticks: with its number it says which process is meant. 0: it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def _lives(process: dict[str, int]) -> bool:
    return process["began"] != 0 and _began(process["pid"]) == process["began"]


def _direct(path: Path) -> Link:
    connection = dial_unix(path)

    source, sink = connection.makefile("rb"), connection.makefile("wb")

    ends: tuple[Callable[[], object], ...] = (
        partial(connection.shutdown, socket.SHUT_RDWR),
        source.close,
        sink.close,
        connection.close,
    )

    def hang_up() -> None:
        for end in ends:
            try:
                end()
            except OSError:
                pass  # the coordinator went first

    return Link(source, sink, hang_up)


def _archive(place: Path) -> Link:
    """A link to what a run left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "swarmtrain.inside", "connect", str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    return process_link(process)


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _last_words(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"
