"""What Swarm says of a stack's tasks, and why they do not get to their place, in sentences. `explain` is pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

from swarmtrain.docker.command import Docker
from swarmtrain.swarm.cluster import SECONDS, Node, Service, inspect, read_nodes, read_services
from swarmtrain.swarm.obstacles import VERBS, WHO, Obstacle, has_not_started, meaning_of, never_heard
from swarmtrain.swarm.stack import LABEL_LEAST
from swarmtrain.wire import names
from swarmtrain.wire.plural import plural

_ALIVE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")
_PLACED = (*_ALIVE[2:], "complete")
_MOST_SENTENCES = 3
_RECENT_SECONDS = 60.0  # exits further apart than this are no loop


@dataclass(frozen=True)
class Task:
    """One attempt of Swarm to have a container somewhere."""

    service: str  # its name
    role: str  # coordinator, agent or helper
    slot: int = 0
    node: Node | None = None
    state: str = "running"
    desired: str = "running"
    error: str = ""
    exit_code: int = 0
    created: float = 0.0  # Unix time
    changed: float = 0.0  # when it came into its state
    image: str = ""
    container: str = ""  # its id
    least: int = field(default=1, compare=False)  # nodes that the run needs
    down: tuple[str, ...] = field(default=(), compare=False)  # nodes of the Swarm that it waits for in vain

    @property
    def alive(self) -> bool:
        """Neither ended nor given up."""
        return self.state in _ALIVE

    @property
    def has_run(self) -> bool:
        """Whether its process runs or ever did."""
        return bool(self.container) and not has_not_started(self.error)


def read(docker: Docker, stack: str) -> list[Task]:
    """The tasks of a stack, also the recent ones that have ended.

    Raises:
        ClusterError: Docker does not answer, or is not a manager of a Swarm.
    """
    services = {each.id: each for each in read_services(docker, f"label=com.docker.stack.namespace={stack}")}
    if not services:
        return []
    with ThreadPoolExecutor() as pool:  # behind ssh each question takes a connection
        machines = pool.submit(read_nodes, docker)
        ids = docker.run("service", "ps", "--quiet", "--no-trunc", *services, timeout=SECONDS).split()
        found = inspect(docker, "task", ids)
    nodes = {node.id: node for node in machines.result()}
    return [task_of(each, services, nodes) for each in found if each["ServiceID"] in services]


def rests(tasks: Iterable[Task]) -> bool:
    """Whether a service has done its work: one task has ended well, and no other is there or on its way."""
    found = list(tasks)
    return any(task.state == "complete" for task in found) and not any(
        task.alive and task.desired in ("ready", "running") for task in found
    )


def resting(docker: Docker, services: Sequence[Service]) -> set[str]:
    """The names of those services that have done their work. Raises ClusterError."""
    known = {each.id: each for each in services}
    ids = (
        docker.run("service", "ps", "--quiet", "--no-trunc", *known, timeout=SECONDS).split() if known else []
    )
    found: dict[str, list[Task]] = {}
    for each in inspect(docker, "task", ids):
        task = task_of(each, known, {})
        found.setdefault(task.service, []).append(task)
    return {name for name, tasks in found.items() if rests(tasks)}


def task_of(inspected: Mapping[str, Any], services: Mapping[str, Service], nodes: Mapping[str, Node]) -> Task:
    """A task from what ``docker inspect --type task`` says of it."""
    service, status = services[inspected["ServiceID"]], inspected["Status"]
    container = status.get("ContainerStatus") or {}
    return Task(
        service=service.name,
        role=service.labels.get(names.LABEL_ROLE, ""),
        slot=inspected.get("Slot", 0),
        node=nodes.get(inspected.get("NodeID", "")),
        state=status["State"],
        desired=inspected["DesiredState"],
        error=status.get("Err", ""),
        exit_code=container.get("ExitCode", 0),
        created=seconds(inspected["CreatedAt"]),
        changed=seconds(status["Timestamp"]),
        image=service.image.partition("@")[0],
        container=container.get("ContainerID", ""),
        least=int(service.labels.get(LABEL_LEAST, "1")),
        down=()
        if "NodeID" in inspected
        else tuple(sorted(each.hostname for each in nodes.values() if each.state == "down")),
    )


def seconds(text: str) -> float:
    """The Unix time of a time as Docker writes it, with nanoseconds; 0 for none."""
    match = re.match(r"(\d+-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None or match[1].startswith("0001"):
        return 0.0
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).timestamp() + float(match[2] or 0)


def explain(tasks: Iterable[Task], now: float) -> Obstacle:
    """Why the tasks are not where they should be; nothing while all is well.

    What never passes is told before what may pass by itself.

    Getting an image takes as long as it takes, and a process that ended once is started again: neither is trouble.
    """
    tasks = [task for task in tasks if task.role in (names.COORDINATOR_SERVICE, names.AGENT_SERVICE)]
    latest: dict[tuple[str, int], Task] = {}
    earlier: dict[tuple[str, int], list[Task]] = {}
    ours = [task for task in tasks if task.role != names.DASHBOARD_SERVICE]  # a run goes on without its page
    for task in sorted(ours, key=lambda each: (each.created, each.changed)):
        key = (task.service, task.slot)
        if key in latest:
            earlier.setdefault(key, []).append(latest[key])
        latest[key] = task
    placed = sum(_on_its_way(task, key in earlier) for key, task in latest.items())
    found: dict[Obstacle, list[str]] = {}
    for key, task in latest.items():
        trouble = _explain_one(task, earlier.get(key, []), now, enough=placed >= task.least)
        if trouble is not None:
            found.setdefault(trouble.what, []).append(trouble.who)
    passes = min((what.passes for what in found), default=0.0)
    sentences = [
        _sentence(what.text, sorted(set(who)))
        for what, who in sorted(found.items(), key=lambda each: each[0].passes)
    ]
    return Obstacle("; ".join(sentences[:_MOST_SENTENCES]), passes)


def unheard(tasks: Iterable[Task], heard: Collection[str], *, has_overlay: bool = True) -> str:
    """Why nodes that Swarm has started an agent on may have kept silent, in a sentence; empty where none has.

    Args:
        heard: the nodes whose agents have joined.
        has_overlay: see never_heard.
    """
    silent = {
        task.node.hostname
        for task in tasks
        if task.role == names.AGENT_SERVICE
        and task.state in ("running", "complete")
        and task.node is not None
        if task.node.state == "ready" and task.node.hostname not in heard
    }
    return never_heard(_and(sorted(silent)), len(silent) > 1, has_overlay=has_overlay) if silent else ""


class _Trouble(NamedTuple):
    """What is wrong, with blanks for the node or task that has it: the same trouble of several is said once."""

    who: str
    what: Obstacle


def _sentence(text: str, who: Sequence[str]) -> str:
    """A trouble's text with its blanks filled in."""
    for blank, (one, many) in VERBS.items():
        text = text.replace(blank, plural(len(who), one, many))
    return text.replace(WHO, _and(who))


def _and(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _on_its_way(task: Task, again: bool) -> bool:
    """Whether an agent runs, or will unless something comes in between."""
    if task.role != names.AGENT_SERVICE or (task.node is not None and task.node.state == "down"):
        return False
    return task.state in ("running", "complete") or (task.state in _PLACED and not again)


def _explain_one(task: Task, earlier: Sequence[Task], now: float, enough: bool) -> _Trouble | None:
    spare = enough and task.role == names.AGENT_SERVICE
    if task.state == "complete" or (task.alive and task.desired not in ("running", "ready")):
        return None  # done, or on its way out
    if task.state == "running" and task.node is not None and task.node.state == "down":
        return None if spare else _Trouble(task.node.hostname, Obstacle(f"{WHO} {{is}} down"))
    if task.state in ("new", "pending") and task.error:
        return None if spare else _unplaced(task)
    if not task.alive:
        earlier = [*earlier, task]
    exits = [
        each for each in earlier if each.exit_code and each.has_run and now - each.changed < _RECENT_SECONDS
    ]
    if len(exits) >= 2:
        return _failure(exits[-1], len(exits))
    rejected = [each for each in earlier if each.error and not (each.exit_code and each.has_run)]
    return _failure(rejected[-1]) if rejected and task.state != "running" else None


def _where(task: Task) -> str:
    return task.node.hostname if task.node else "a node"


def _failure(task: Task, times: int = 1) -> _Trouble | None:
    """What became of a task that failed or was rejected."""
    what = _what_failed(task, times)
    return _Trouble(_where(task), what) if what else None


def _what_failed(task: Task, times: int) -> Obstacle:
    error = re.sub(r"^.*unable to start container process: |: unknown$", "", task.error.rstrip("."))
    if task.exit_code == 137 and task.has_run and "unhealthy" not in task.error:
        return Obstacle(f"the {task.role} on {WHO} was killed, perhaps for want of memory (exit code 137)")
    facts = {blank.strip("{}"): blank for blank in VERBS}
    facts |= {"node": WHO, "image": task.image, "role": task.role, "error": error}
    if known := meaning_of(task.error, facts):
        return known
    if task.exit_code and task.has_run:
        often = f", {times} times" if times > 1 else ""
        return Obstacle(
            f"the {task.role} on {WHO} ended with exit code {task.exit_code}{often}; "
            f"docker service logs {task.service} shows what it said"
        )
    if task.node is not None and task.node.state == "down":
        return Obstacle(f"{WHO} {{is}} down")
    return Obstacle(f"the {task.role} on {WHO} did not start: {error}" if task.error else "")


def _unplaced(task: Task) -> _Trouble:
    """Why the scheduler finds no node."""
    reason = re.sub(r"^no suitable node \((.*)\)$", r"\1", task.error.strip()).replace(
        "limit exceed", "reached"
    )
    which = (
        "the coordinator" if task.role == names.COORDINATOR_SERVICE else f"agent {task.service}.{task.slot}"
    )
    if task.down:
        away = _sentence(f"{WHO} {{is}} down", task.down)
        return _Trouble(which, Obstacle(f"Swarm finds no node for {WHO}: {away} ({reason})"))
    hint = ""
    if "insufficient resources" in reason:
        hint = "; other services hold the CPUs, memory or GPUs: docker service ls"
    elif "not available" in reason or "max replicas" in reason or "constraints" in reason:
        hint = "; nodes are down, drained or already taken: docker node ls"
    return _Trouble(which, Obstacle(f"Swarm finds no node for {WHO} ({reason}){hint}"))
