"""The local launcher: the coordinator and every node's agent as processes on this machine. Needs no Docker.

A "node" is one agent with its own directories, so ``-j 3x1`` behaves as three machines with one worker each would.
Runs are kept under ``$SWARMTRAIN_HOME``, by default ``~/.local/share/swarmtrain``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers import local_files
from swarmtrain.launchers.base import Notice, Run, parse_handle
from swarmtrain.launchers.gpus import Shares, share
from swarmtrain.launchers.link import process_link
from swarmtrain.launchers.processes import TOLD_TO_GO, Process, ProcessTable, kill_trees
from swarmtrain.swarm import bundle, code
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.swarm.task import task_of, ticket_of
from swarmtrain.swarm.tree import RUNS_MARKER
from swarmtrain.wire import names, private
from swarmtrain.wire.gpus import VISIBLE, cards, visible
from swarmtrain.wire.link import Link
from swarmtrain.wire.sockets import UNIX, dial_unix
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Resumption

_KILL_SECONDS = 5.0
_LEAVE_SECONDS = 120.0  # for workers to save and end
_HAS_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
_UNUSED = ("image", "volumes", "constraints", "memlock", "coordinator", "linger")


def home() -> Path:
    """Where local runs are kept."""
    explicit = os.environ.get("SWARMTRAIN_HOME", "")
    if explicit:
        return Path(explicit).expanduser().resolve()
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "swarmtrain"


@dataclass(frozen=True)
class _Checked:
    """What was found out about a job before it is submitted."""

    job: LoadedJob
    sent: code.Code
    shares: Shares


class LocalLauncher:
    """Processes on this machine."""

    name = "local"

    def __init__(self) -> None:
        self._storage = Storage(home())
        self._checked: _Checked | None = None  # what `check` found last
        self.say: Callable[[str], None] = lambda text: None

    def check(self, job: LoadedJob) -> list[Notice]:
        """See Launcher.check."""
        self._check_home()
        checked = self._checked = _Checked(job, code.of(job, limit=None), _shares(job))
        _, notices = _interpreter(job.job)
        notices += [Notice(text) for text in (checked.shares.notice, *checked.sent.notices) if text]
        unused = [key for key in _UNUSED if key in job.sources]
        if unused:
            notices.append(
                Notice(f"{', '.join(unused)}: not used on local, where workers are plain processes")
            )
        return notices

    def submit(self, job: LoadedJob, run: Run, resume: Resumption | None = None) -> None:
        """See Launcher.submit."""
        if self._checked is None or self._checked.job is not job:
            self.check(job)
        assert self._checked is not None, "a check leaves what it found"
        sent, shares = self._checked.sent, self._checked.shares
        interpreter, _ = _interpreter(job.job)
        nodes = job.job.node_names or tuple(f"node{index}" for index in range(job.job.nodes_max))
        task = task_of(job.job)
        task = dataclasses.replace(task, cpus=task.cpus or len(os.sched_getaffinity(0)) / len(nodes))
        ticket = ticket_of(job, run.id, resume)
        if shares.by_node is not None:
            ticket.env.pop(VISIBLE, None)  # each agent has its own part of it
        for directory in (self._storage.root, self._storage.root / "data"):
            private.make(directory)
        (self._storage.root / RUNS_MARKER).touch()
        files = {
            "job.json": task.dump().encode(),
            "origin.json": Origin.of(job).dump().encode(),
            "code.zip": sent.archive,
            "ticket.json": ticket.dump().encode(),
        }
        try:
            place = local_files.lay_out(self._storage.root / "runs", run.id, files)
        except FileExistsError:
            raise ClusterError(f"{run.id} was started by somebody else at this moment", "try again") from None
        environment = os.environ | {
            names.ENV_JOB_FILE: str(place / "job.json"),
            names.ENV_SECRET_FILE: str(place / "ticket.json"),
            names.ENV_STORAGE: str(self._storage.root),
            names.ENV_COORDINATOR: f"{UNIX}{place / 'agents'}",
            names.ENV_CODE: str(place / "code.zip") if sent.archive else "",
        }
        if shares.by_node is not None:
            environment[names.ENV_GPUS] = ";".join(shares.by_node)
        table = self._processes(run.id)
        try:
            table.start("", [*interpreter, "coordinator", "--leave"], environment, place)
            for index, node in enumerate(nodes):
                variables = _of_node(environment, node, index)
                directory = self._storage.run(run.id) / node
                directory.mkdir(parents=True, exist_ok=True)
                table.start(node, [*interpreter, "agent", "--again"], variables, directory)
        except BaseException:  # also Ctrl-C: those that are there would train on
            self.kill(run)
            raise

    def roots(self, run: Run) -> dict[str, int]:
        """The live processes that everything of a run descends from, by node; the coordinator's name is empty."""
        return {node: each.pid for node, each in self._processes(run.id).read().items() if each.lives}

    def start_node(self, run: Run, node: str) -> None:
        """Start the agent of a node again, as `submit` did: with the command and the variables of the coordinator.

        Raises:
            ClusterError: the run has no such node or no coordinator any more. Nothing happens to a node that lives.
        """
        table = self._processes(run.id)
        processes = table.read()
        nodes = [name for name in processes if name]
        if node not in nodes:
            raise ClusterError(f"{run.id} has no node {node}", f"its nodes: {', '.join(nodes)}")
        if processes[node].lives:
            return
        if not processes[""].lives:
            raise ClusterError(f"the coordinator of {run.id} has gone: there is nothing to join")
        words, variables = processes[""].as_started()
        argv = [*words[: words.index("coordinator")], "agent", "--again"]
        variables = _of_node(variables, node, nodes.index(node))
        table.start(node, argv, variables, self._storage.run(run.id) / node)

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Start agents that have gone, or tell some to go, the last ones first."""
        table = self._processes(run.id)
        agents = {node: process for node, process in table.read().items() if node}
        up = [node for node, process in agents.items() if process.lives]
        for node in [node for node in agents if node not in up][: max(0, nodes - len(up))]:
            self.start_node(run, node)
        for node in sorted(up, key=lambda node: node not in busy)[nodes:]:
            if not agents[node].end(_LEAVE_SECONDS):
                raise ClusterError(f"the agent of {node} has not gone within {_LEAVE_SECONDS:.0f} s")
            table.note(node, TOLD_TO_GO)

    def runs(self) -> list[Run]:
        """See Launcher.runs."""
        found = []
        self._check_home()
        for directory in self._storage.runs():
            try:
                job, number = parse_handle(directory)
                created = (self._storage.coordinator(directory) / "job.json").stat().st_mtime
            except (SwarmtrainError, OSError):
                continue
            if number is not None:
                live, origin = self._coordinator_lives(directory), self._origin(directory)
                found.append(Run(job, number, self.name, live, created, origin, rests=not live))
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

    def trouble(self, run: Run) -> Obstacle:
        """See Launcher.trouble."""
        for node, process in self._processes(run.id).read().items():
            if process != TOLD_TO_GO and not process.lives:
                place = self._place(run.id, node)
                who = f"the agent of {node}" if node else "the coordinator"
                return Obstacle(f"{who} ended: {_last_words(place / 'log')}")
        return Obstacle()

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
        self._kill(run)
        self._conclude(run, "stopped", "killed by a person")

    def refuse(self, run: Run, reason: str) -> None:
        """End it; its files tell why."""
        self._kill(run)
        self._conclude(run, "failed", reason)

    def _kill(self, run: Run) -> None:
        live = [process for process in self._processes(run.id).read().values() if process.lives]
        if left := kill_trees(live, _KILL_SECONDS):
            raise ClusterError(f"some processes of {run.id} cannot be killed: {left}")
        self._storage.clear_memory(run.id)

    def _conclude(self, run: Run, outcome: str, reason: str) -> None:
        """Write down how a run has ended that nobody leads any more, where nobody has."""
        place = self._storage.coordinator(run.id)
        if place.is_dir():
            with _archive(place) as link:
                for _ in link.request(op="conclude", outcome=outcome, reason=reason):
                    pass

    def remove(self, run: Run) -> None:
        """See Launcher.remove."""
        self._kill(run)
        try:
            self._storage.remove(run.id)
        except OSError as error:
            raise ClusterError(f"{run.id} could not be removed whole: {error}") from error

    def _check_home(self) -> None:
        """Runs are kept, and found, only where nobody else could have put one.

        Raises:
            ClusterError: somebody else could.
        """
        root = self._storage.root
        try:
            why = private.trouble(root)
        except OSError:
            why = ""  # it is yet to be made
        if not why and (shared := private.above(root)):
            root, why = Path(shared), "can be written by everybody (it has no sticky bit)"
        if why:
            raise ClusterError(
                f"runs on this machine would be kept in {self._storage.root}, but {root} {why}",
                "others could put their code in place of yours there: `chmod go-w` it if it is yours, or set "
                "SWARMTRAIN_HOME to a directory of your own",
            )

    def _coordinator_lives(self, directory: str) -> bool:
        process = self._processes(directory).read().get("")
        if process is not None:
            return process.lives
        place = self._storage.coordinator(directory)  # its client has not come so far, or was killed
        return Process.kept_in(place) is not None or local_files.is_being_submitted(place)

    def _processes(self, directory: str) -> ProcessTable:
        table = self._storage.coordinator(directory) / "processes.json"
        return ProcessTable(table, partial(self._place, directory))

    def _place(self, directory: str, node: str) -> Path:
        """Where a node's agent was started; the coordinator's name is empty."""
        return self._storage.run(directory) / node if node else self._storage.coordinator(directory)

    def _origin(self, directory: str) -> Origin | None:
        try:
            return Origin.load((self._storage.coordinator(directory) / "origin.json").read_text())
        except OSError:
            return None


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


def _of_node(environment: Mapping[str, str], node: str, index: int) -> dict[str, str]:
    """The variables of one node's agent, out of those of the whole run."""
    mine = {names.ENV_NODE: node, names.ENV_SLOT: str(index)}
    if names.ENV_GPUS in environment:
        mine[VISIBLE] = environment[names.ENV_GPUS].split(";")[index]
    return {**environment, **mine}


def _shares(job: LoadedJob) -> Shares:
    """Who sees which GPU; the job's own CUDA_VISIBLE_DEVICES, or the one here, names those that are shared out."""
    named = job.environment.get(VISIBLE, os.environ.get(VISIBLE))
    hidden = named == "" or job.job.resources.gpus == 0
    return share(job.job, [] if hidden else visible(named, cards()))


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


def _last_words(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"
