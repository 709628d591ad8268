"""The doctor's containers at work on a Swarm: started, waited for, heard, and removed whatever happens.

What they find comes back by ``docker service logs``, which leads through the managers: the network that is tried is not
needed to hear that it fails.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmtrain.docker.command import Docker, DockerFailed
from swarmtrain.doctor.cluster import containers, leftovers
from swarmtrain.doctor.cluster.containers import GPUS, DoctorStack
from swarmtrain.doctor.cluster.facts import SwarmFacts, gpu_kinds
from swarmtrain.doctor.cluster.tried import TrialReports
from swarmtrain.launchers.swarm.stacks import Stack
from swarmtrain.payload import bundle
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import (
    CollectiveReport,
    GpuReport,
    MachineReport,
    PairReport,
    PortReport,
    ProbeDone,
)
from swarmtrain.protocol.schema import Struct
from swarmtrain.swarm.cluster import SECONDS, Node, inspect
from swarmtrain.wire.plural import counted

Say = Callable[[str], None]

_POLL_SECONDS = 0.7
_START_SECONDS = 120.0  # a node may have to pull the image
_PAIR_SECONDS = 4.0  # that a node takes for each other one, at most and as a rule much less
_COLLECTIVE_SECONDS = 150.0
_ENDED = ("complete", "failed", "rejected", "shutdown", "orphaned")


@dataclass(frozen=True)
class TrialTask:
    """A container of a part: where, in which state, at which address of the overlay network."""

    node: str  # its id
    state: str
    error: str
    address: str


@dataclass(frozen=True)
class TrialOptions:
    """What is tried besides asking.

    Args:
        image: of the containers; empty for none.
        python: the interpreter in it.
        collectives: whether torch is tried, too, where the ways between the nodes are good.
    """

    image: str = ""
    python: str = "python3"
    collectives: bool = False


def try_out(docker: Docker, swarm: SwarmFacts, options: TrialOptions, say: Say) -> TrialReports:
    """Start the containers on every node that takes tasks, and hear what they find.

    Raises:
        ClusterError: Docker does not take them, or something of them stays.
    """
    nodes = swarm.ready
    name = f"{containers.PREFIX}{secrets.token_hex(4)}"
    seconds = _START_SECONDS + 60 + _PAIR_SECONDS * len(nodes) + _COLLECTIVE_SECONDS * options.collectives
    stack = DoctorStack(name, leftovers.owner(), options.image, options.python, seconds)
    with _removed(docker, name, say):
        say(f"starting a container of {options.image} on {counted(len(nodes), 'node')}")
        docker.run(*stack.make_network(), timeout=SECONDS)
        docker.run(*stack.make_bundle(), input=bundle.build().data, timeout=SECONDS)
        return _Trial(docker, stack, nodes, say).run(options.collectives)


def remove_leftovers(docker: Docker) -> list[str]:
    """Remove what earlier doctors left; the names of their stacks. Raises ClusterError."""
    left = leftovers.stacks(docker)
    for name in left:
        Stack(docker, name).remove()
    return left


@contextlib.contextmanager
def _removed(docker: Docker, name: str, say: Say) -> Iterator[None]:
    """Remove everything at the end; a second Ctrl-C does not stop that halfway."""
    try:
        yield
    finally:
        say("removing the containers")
        ends = (
            (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        )
        before = {each: signal.signal(each, signal.SIG_IGN) for each in ends}
        try:
            Stack(docker, name).remove()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class _Trial:
    """One trial while it lasts."""

    def __init__(self, docker: Docker, stack: DoctorStack, nodes: Sequence[Node], say: Say) -> None:
        self._docker, self._stack, self._say = docker, stack, say
        self._found = TrialReports(nodes)

    def run(self, collectives: bool) -> TrialReports:
        nodes = self._found.nodes
        self._start("answer")
        self._start("ports", containers.HOST, {reports.ENV_PEERS: containers.ports(nodes)})
        kinds = sorted({kind for node in nodes for kind in gpu_kinds(node)})
        for kind in kinds:
            self._start(GPUS, gpu_kind=kind)
        addresses = self._await_addresses()
        if self._found.failed:
            self._found.words = last_words(self._log(self._stack.service("answer")))
        there = [node for node in nodes if node.id in addresses]
        if len(there) > 1:
            self._say(f"trying the way between {len(there)} nodes, each to each other")
            self._start("ask", "", {reports.ENV_PEERS: containers.peers(there, addresses)})
            self._hear("ask", there, 20.0 + _PAIR_SECONDS * len(there))
        self._hear("ports", there, 10.0)
        self._hear("answer", there, 10.0)
        for kind in kinds:
            self._hear(GPUS, [node for node in there if kind in gpu_kinds(node)], 10.0, kind)
        if collectives and len(there) > 1 and not self._found.broken_ways():
            self._say(f"trying collectives of torch's on {len(there)} nodes")
            self._start("collect", "", {reports.ENV_PEERS: containers.peers(there, addresses, "collect")})
            self._hear("collect", there, _COLLECTIVE_SECONDS)
        return self._found

    def _start(
        self, part: str, network: str = "", env: Mapping[str, str] | None = None, gpu_kind: str = ""
    ) -> None:
        self._docker.run(*self._stack.make_service(part, network, env, gpu_kind), timeout=SECONDS)

    def _await_addresses(self) -> dict[str, str]:
        """By node id, where the containers answer; of those that do not start, why not."""
        names = {node.id: node.hostname for node in self._found.nodes}
        deadline = time.monotonic() + _START_SECONDS
        while True:
            tasks = self._tasks("answer")
            up = {task.node: task.address for task in tasks if task.state == "running" and task.address}
            over = {task.node: task.error or task.state for task in tasks if task.state in _ENDED}
            waiting = set(names) - set(up) - set(over)
            if not waiting or time.monotonic() > deadline:
                states = {task.node: task.state for task in tasks}
                late = {
                    node: f"it was still {states.get(node, 'pending')} after {_START_SECONDS:.0f} s"
                    for node in waiting
                }
                self._found.failed = {
                    names[node]: why for node, why in {**over, **late}.items() if node in names
                }
                return up
            time.sleep(_POLL_SECONDS)

    def _hear(self, part: str, nodes: Sequence[Node], seconds: float, gpu_kind: str = "") -> None:
        """Take what a part's containers say, until each is done or the time is over."""
        deadline = time.monotonic() + seconds
        wanted = {node.hostname for node in nodes}
        while True:
            heard = self._reports(self._stack.service(part, gpu_kind))
            missing = wanted - {each.node for each in heard if isinstance(each, ProbeDone)}
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        if missing:
            self._found.silent.setdefault(part, []).extend(sorted(missing))
        for each in heard:
            if isinstance(each, MachineReport):
                self._found.machines[each.node] = each
            elif isinstance(each, PairReport):
                self._found.pairs.append(each)
            elif isinstance(each, PortReport):
                self._found.ports.append(each)
            elif isinstance(each, CollectiveReport):
                self._found.collectives.append(each)
            elif isinstance(each, GpuReport):
                self._found.gpus.append(each)

    def _reports(self, service: str) -> list[Struct]:
        return reports.reports_in(self._log(service))

    def _log(self, service: str) -> str:
        try:
            done = self._docker.completed("service", "logs", "--raw", service, timeout=SECONDS)
        except DockerFailed:
            return ""  # a node that is cut off makes it wait; asked for again
        return (done.stdout + done.stderr).decode(errors="replace")

    def _tasks(self, part: str) -> list[TrialTask]:
        service = self._stack.service(part)
        ids = self._docker.run("service", "ps", "--quiet", "--no-trunc", service, timeout=SECONDS).split()
        return [task_of(each, self._stack.network) for each in inspect(self._docker, "task", ids)]


def task_of(inspected: Mapping[str, Any], network: str) -> TrialTask:
    """A task from what ``docker inspect --type task`` says of it."""
    status = inspected["Status"]
    addresses = [
        address.partition("/")[0]
        for attachment in inspected.get("NetworksAttachments") or ()
        if attachment["Network"]["Spec"]["Name"] == network
        for address in attachment.get("Addresses") or ()
    ]
    return TrialTask(
        inspected.get("NodeID", ""), status["State"], status.get("Err", ""), addresses[0] if addresses else ""
    )


def last_words(log: str) -> str:
    """The last line of a log that is no report: why a container ended, as a rule."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and reports.MARK not in line]
    return lines[-1][:200] if lines else ""
