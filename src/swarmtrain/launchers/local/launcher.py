"""The local launcher: the coordinator and every node's agent as processes on this machine. Needs no Docker.

A "node" is one agent with its own directories, so ``-j 3x1`` behaves as three machines with one worker each would.
Runs are kept under ``$SWARMTRAIN_HOME``, by default ``~/.local/share/swarmtrain``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.errors import ChannelError, ClusterError, SwarmtrainError
from swarmtrain.job import LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Checked, Machines, Run, no_stack, parse_handle
from swarmtrain.launchers.local import checks, files, links
from swarmtrain.launchers.local.machines import LocalMachines
from swarmtrain.launchers.local.processes import TOLD_TO_GO, LocalProcess, ProcessTable, kill_trees
from swarmtrain.payload import bundle
from swarmtrain.payload.run_spec import secret_of, spec_of
from swarmtrain.payload.tree import RUNS_MARKER
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.requests import KILLED, ConcludeRequest, StatusRequest
from swarmtrain.protocol.status import Status
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.wire import names
from swarmtrain.wire.disk import private, submission
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.link import Link
from swarmtrain.wire.machine.gpus import VISIBLE
from swarmtrain.wire.run_spec import Resumption
from swarmtrain.wire.sockets import UNIX

if TYPE_CHECKING:
    from swarmtrain.swarm.plan import Plan

_KILL_SECONDS = 5.0
_LEAVE_SECONDS = 120.0  # for workers to save and end
_ANSWER_SECONDS = 15.0  # for a coordinator on a busy machine that goes, after the end, or comes


class LocalLauncher:
    """Processes on this machine."""

    name = "local"

    def __init__(self) -> None:
        self._storage = Storage(checks.home())
        self.say: Callable[[str], None] = lambda text: None

    def check(self, job: LoadedJob) -> checks.CheckedOnMachine:
        """See Launcher.check."""
        checks.check_home(self._storage.root)
        return checks.check(job)

    def plan(self, job: LoadedJob, *, is_plain: bool = False) -> Plan:
        """There is none."""
        raise no_stack(self.name)

    def submit(self, checked: Checked, run: Run, resume: Resumption | None = None) -> None:
        """See Launcher.submit."""
        assert isinstance(checked, checks.CheckedOnMachine), "what `check` has returned"
        job, sent, shares, interpreter = checked.job, checked.sent, checked.shares, checked.interpreter
        nodes = job.job.node_names or tuple(f"node{index}" for index in range(job.job.nodes_max))
        task = spec_of(job)
        task = dataclasses.replace(task, cpus=task.cpus or len(os.sched_getaffinity(0)) / len(nodes))
        secret = secret_of(job, run.id, resume)
        if shares.by_node is not None:
            secret.env.pop(VISIBLE, None)  # each agent has its own part of it
        for directory in (self._storage.root, self._storage.root / "data"):
            private.make(directory)
        (self._storage.root / RUNS_MARKER).touch()
        parts = {
            "job.json": task.dump().encode(),
            "origin.json": Origin.of(job).dump().encode(),
            "code.zip": sent.archive,
            names.SECRET_ON_LOCAL: secret.dump().encode(),
        }
        try:
            place = files.lay_out(self._storage.root / "runs", run.id, parts)
        except FileExistsError:
            raise ClusterError(f"{run.id} was started by somebody else at this moment", "try again") from None
        environment = os.environ | {
            names.ENV_JOB_FILE: str(place / "job.json"),
            names.ENV_SECRET_FILE: str(place / names.SECRET_ON_LOCAL),
            names.ENV_STORAGE: str(self._storage.root),
            names.ENV_COORDINATOR: f"{UNIX}{place / 'agents'}",
            names.ENV_CODE: str(place / "code.zip") if sent.archive else "",
            names.ENV_SUBMITTED: str(place / submission.MARK),
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
            (place / submission.MARK).touch()
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
        checks.check_home(self._storage.root)
        for directory in self._storage.runs():
            try:
                job, number = parse_handle(directory)
                created = (self._storage.coordinator(directory) / "job.json").stat().st_mtime
            except (SwarmtrainError, OSError):
                continue
            if number is not None:
                live, origin = self._coordinator_lives(directory), self._origin(directory)
                found.append(Run(job, number, self.name, created, origin, live=live, rests=not live))
        return sorted(found)

    def connect(self, run: Run) -> Link:
        """See Launcher.connect."""
        place = self._storage.coordinator(run.id)
        if not place.is_dir():
            raise ClusterError(f"there is no {run.id} on this machine", "`swarmtrain ps -a` lists the runs")
        limit = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < limit:
            try:
                return links.direct(place / "socket")
            except OSError:
                if not self._coordinator_lives(run.id):
                    return links.archive(place)
                if not (place / "journal.jsonl").exists():
                    break
            time.sleep(0.02)  # it is about to listen, about to leave, or about to be started again
        raise ClusterError(f"the coordinator of {run.id} does not answer yet")

    def may_answer(self, run: Run) -> bool:
        """See Launcher.may_answer: to connect is cheap here."""
        return True

    def left(self, run: Run) -> Status | None:
        """See Launcher.left; of a coordinator that was killed, its files tell."""
        try:
            return load(Status, json.loads(self._storage.left(run.id).read_text()))
        except (OSError, ValueError, ChannelError):
            with self.connect(run) as link:
                (reply,) = ask(link, StatusRequest())
                return reply.status

    def trouble(self, run: Run) -> Obstacle:
        """See Launcher.trouble."""
        for node, process in self._processes(run.id).read().items():
            if process != TOLD_TO_GO and not process.lives:
                place = self._place(run.id, node)
                who = f"the agent of {node}" if node else "the coordinator"
                return Obstacle(f"{who} ended: {links.last_words(place / 'log')}")
        return Obstacle()

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        """Of processes on one machine there is nothing to tell."""
        return ""

    def reach(self, run: Run, node: str) -> None:
        """Every node's files are on this machine: one whose files are not has lost them."""
        raise ClusterError(f"its files are not on this machine any more ({self._storage.root})")

    def program(self, run: Run) -> list[str]:
        """See Launcher.program."""
        return [sys.executable, "-I", str(bundle.on_disk())]

    def machines(self, run: Run) -> Machines:
        """Every node is a tree of processes."""
        return LocalMachines(lambda: self.roots(run), lambda node: self.start_node(run, node))

    def recover(self, run: Run, node: str) -> None:
        """See Launcher.recover."""
        raise ClusterError(
            f"the coordinator of {run.id} cannot move: the machine it runs on is the only one there is"
        )

    def kill(self, run: Run, reason: str = KILLED) -> None:
        """See Launcher.kill."""
        self._kill(run)
        self._conclude(run, "stopped", reason)

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
            with links.archive(place) as link:
                for _ in ask(link, ConcludeRequest(outcome, reason)):
                    pass

    def remove(self, run: Run) -> None:
        """See Launcher.remove."""
        self._kill(run)
        try:
            self._storage.remove(run.id)
        except OSError as error:
            raise ClusterError(f"{run.id} could not be removed whole: {error}") from error

    def _coordinator_lives(self, directory: str) -> bool:
        process = self._processes(directory).read().get("")
        if process is not None:
            return process.lives
        place = self._storage.coordinator(directory)  # its client has not come so far, or was killed
        return LocalProcess.left_by_init(place) is not None or submission.is_under_way(place)

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


def _of_node(environment: Mapping[str, str], node: str, index: int) -> dict[str, str]:
    """The variables of one node's agent, out of those of the whole run."""
    mine = {names.ENV_NODE: node, names.ENV_SLOT: str(index)}
    if names.ENV_GPUS in environment:
        mine[VISIBLE] = environment[names.ENV_GPUS].split(";")[index]
    return {**environment, **mine}
