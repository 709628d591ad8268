"""What Swarm says of a stack's tasks, and why they do not get to their place, in sentences. `explain` is pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from swarmtrain.swarm.cluster import SECONDS, Node, Service, inspect, node_of, read_services
from swarmtrain.swarm.docker import Docker
from swarmtrain.swarm.stack import LABEL_LEAST
from swarmtrain.wire import names

_ALIVE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")
_SLOW_SECONDS = 20.0  # before we say what a node is busy with


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

    @property
    def alive(self) -> bool:
        """Neither ended nor given up."""
        return self.state in _ALIVE


def read(docker: Docker, stack: str) -> list[Task]:
    """The tasks of a stack, also the recent ones that have ended.

    Raises:
        ClusterError: Docker does not answer, or is not a manager of a Swarm.
    """
    services = {each.id: each for each in read_services(docker, f"label=com.docker.stack.namespace={stack}")}
    if not services:
        return []
    ids = docker.run("service", "ps", "--quiet", "--no-trunc", *services, timeout=SECONDS).split()
    node_ids = docker.run("node", "ls", "--quiet", timeout=SECONDS).split()
    nodes = {node.id: node for node in map(node_of, inspect(docker, "node", node_ids))}
    found = inspect(docker, "task", ids)
    return [task_of(each, services, nodes) for each in found if each["ServiceID"] in services]


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
    )


def seconds(text: str) -> float:
    """The Unix time of a time as Docker writes it, with nanoseconds; 0 for none."""
    match = re.match(r"(\d+-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None or match[1].startswith("0001"):
        return 0.0
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).timestamp() + float(match[2] or 0)


def explain(tasks: Iterable[Task], now: float) -> str:
    """Why the tasks are not where they should be; empty while all is well."""
    tasks = [task for task in tasks if task.role in (names.COORDINATOR_SERVICE, names.AGENT_SERVICE)]
    latest: dict[tuple[str, int], Task] = {}
    earlier: dict[tuple[str, int], list[Task]] = {}
    for task in sorted(tasks, key=lambda each: (each.created, each.changed)):
        key = (task.service, task.slot)
        if key in latest:
            earlier.setdefault(key, []).append(latest[key])
        latest[key] = task
    running = sum(
        task.role == names.AGENT_SERVICE and task.state in ("running", "complete") for task in latest.values()
    )
    sentences = (
        _explain_one(task, earlier.get(key, []), now, enough=running >= task.least)
        for key, task in latest.items()
    )
    return "; ".join(list(dict.fromkeys(filter(None, sentences)))[:3])


def _explain_one(task: Task, earlier: Sequence[Task], now: float, enough: bool) -> str:
    if task.state in ("running", "complete"):
        if task.state == "running" and task.node is not None and task.node.state == "down":
            return f"{task.node.hostname} is down"
        return _exits(task, earlier, now) if task.desired == "running" else ""
    if task.alive and task.desired not in ("running", "ready"):
        return ""  # on its way out
    if task.state in ("new", "pending") and task.error:
        return "" if enough and task.role == names.AGENT_SERVICE else _unplaced(task)
    if not task.alive:
        return _failure(task) if task.desired in ("running", "ready") or task.error else ""
    failed = [each for each in earlier if each.error]
    if failed:
        return _failure(failed[-1], len(failed))
    if now - task.changed > _SLOW_SECONDS and task.state == "preparing":
        return f"{_where(task)} is still getting the image {task.image} (for {now - task.changed:.0f} s)"
    return ""


def _exits(task: Task, earlier: Sequence[Task], now: float) -> str:
    """A process that ends again and again."""
    recent = [each for each in earlier if each.exit_code and now - each.changed < 60.0]
    return _failure(recent[-1], len(recent)) if len(recent) >= 2 else ""


def _where(task: Task) -> str:
    return task.node.hostname if task.node else "a node"


_FAILURES = (
    (
        r"no such image|pull access denied|manifest (unknown|for .* not found)|repository .* not found",
        "{node} has no image {image} and cannot pull it; push it, or: docker save {image} | ssh {node} docker load",
    ),
    (
        r"bind source path does not exist: (?P<what>\S+)",
        "{node} has no directory {what}, which volumes: mounts; make it on every node",
    ),
    (
        r'exec: \\?"(?P<what>[^"\\]+)\\?": (executable file not found|stat .*: no such file)',
        "the image {image} has no {what}; python: names the interpreter that it has",
    ),
    (
        r"non-overlapping|pool overlaps|address pool",
        "{node} has no free addresses for another network; remove networks that are not used: docker network prune",
    ),
    (r"network .* not found|could not find network", "{node} does not see the run's network ({error})"),
    (r"out of memory|oom", "the {role} on {node} ran out of memory; raise resources.memory"),
    (r"unhealthy container", "the {role} on {node} stopped giving signs of life and was restarted"),
    (
        r"exec format error",
        "the image {image} is built for another kind of processor than {node}'s; build it for that",
    ),
    (r"could not select device driver|nvidia", "{node} cannot give a container its GPUs ({error})"),
)


def _failure(task: Task, times: int = 1) -> str:
    """What became of a task that failed or was rejected."""
    facts = {"node": _where(task), "image": task.image, "role": task.role, "error": task.error.rstrip(".")}
    if task.exit_code == 137 and "unhealthy" not in task.error:
        return f"the {task.role} on {_where(task)} was killed, perhaps for want of memory (exit code 137)"
    for pattern, sentence in _FAILURES:
        if match := re.search(pattern, task.error, re.IGNORECASE):
            return sentence.format(**facts, **match.groupdict())
    if task.exit_code:
        often = f", {times} times" if times > 1 else ""
        return (
            f"the {task.role} on {_where(task)} ended with exit code {task.exit_code}{often}; "
            f"docker service logs {task.service} shows what it said"
        )
    if task.node is not None and task.node.state == "down":
        return f"{task.node.hostname} is down"
    return f"the {task.role} on {_where(task)} did not start: {facts['error']}" if task.error else ""


def _unplaced(task: Task) -> str:
    """Why the scheduler finds no node."""
    reason = re.sub(r"^no suitable node \((.*)\)$", r"\1", task.error.strip()).replace(
        "limit exceed", "reached"
    )
    which = (
        "the coordinator" if task.role == names.COORDINATOR_SERVICE else f"agent {task.service}.{task.slot}"
    )
    hint = ""
    if "insufficient resources" in reason:
        hint = "; other services hold the CPUs, memory or GPUs: docker service ls"
    elif "not available" in reason or "max replicas" in reason or "constraints" in reason:
        hint = "; nodes are down, drained or already taken: docker node ls"
    return f"Swarm finds no node for {which} ({reason}){hint}"
