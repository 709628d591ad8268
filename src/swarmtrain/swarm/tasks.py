"""What Swarm says of a stack's tasks, and why they do not get to their place, in sentences. `explain` is pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

from swarmtrain.swarm.cluster import SECONDS, Node, Service, inspect, node_of, read_services
from swarmtrain.swarm.docker import Docker
from swarmtrain.swarm.stack import LABEL_LEAST
from swarmtrain.wire import names

_ALIVE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")
_PLACED = (*_ALIVE[2:], "complete")
_NO_START = "starting container failed"
_MOST_SENTENCES = 3
# Blanks in the text of a trouble: who has it, and verbs in their number.
_WHO = "{who}"
_VERBS = {"{has}": ("has", "have"), "{is}": ("is", "are"), "{does}": ("does", "do")}
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
        return bool(self.container) and _NO_START not in self.error


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


def explain(tasks: Iterable[Task], now: float) -> str:
    """Why the tasks are not where they should be; empty while all is well.

    Getting an image takes as long as it takes, and a process that ended once is started again: neither is trouble.
    """
    tasks = [task for task in tasks if task.role in (names.COORDINATOR_SERVICE, names.AGENT_SERVICE)]
    latest: dict[tuple[str, int], Task] = {}
    earlier: dict[tuple[str, int], list[Task]] = {}
    for task in sorted(tasks, key=lambda each: (each.created, each.changed)):
        key = (task.service, task.slot)
        if key in latest:
            earlier.setdefault(key, []).append(latest[key])
        latest[key] = task
    placed = sum(_on_its_way(task, key in earlier) for key, task in latest.items())
    found: dict[str, list[str]] = {}
    for key, task in latest.items():
        trouble = _explain_one(task, earlier.get(key, []), now, enough=placed >= task.least)
        if trouble is not None:
            found.setdefault(trouble.text, []).append(trouble.who)
    sentences = [_sentence(text, sorted(set(who))) for text, who in found.items()]
    return "; ".join(sentences[:_MOST_SENTENCES])


class _Trouble(NamedTuple):
    """What is wrong, with blanks for the node or task that has it: the same trouble of several is said once."""

    who: str
    text: str


def _sentence(text: str, who: Sequence[str]) -> str:
    """A trouble's text with its blanks filled in."""
    for blank, (one, many) in _VERBS.items():
        text = text.replace(blank, one if len(who) == 1 else many)
    return text.replace(_WHO, _and(who))


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
        return None if spare else _Trouble(task.node.hostname, f"{_WHO} {{is}} down")
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
    rejected = [each for each in rejected if not _PASSING.search(each.error)]
    return _failure(rejected[-1]) if rejected and task.state != "running" else None


def cannot_start(error: str) -> bool:
    """Whether an error means that a node cannot even start the image's Python."""
    return _NO_START in error or re.search(_FAILURES[0][0], error, re.IGNORECASE) is not None


def _where(task: Task) -> str:
    return task.node.hostname if task.node else "a node"


# Managers before Docker 23 reject tasks with generic resources whenever their node changes in any way, and start them
# again elsewhere (github.com/moby/moby/issues/44378).
_PASSING = re.compile("assigned node no longer meets constraints")

_FAILURES = (
    (
        r"no such image|pull access denied|manifest (unknown|for .* not found)|repository .* not found",
        "{node} {has} no image {image} and cannot pull it; push it, or: docker save {image} | ssh NODE docker load",
    ),
    (
        r"bind source path does not exist: (?P<what>\S+)",
        "{node} {has} no directory {what}, which volumes: mounts; make it on every node",
    ),
    (
        r'exec: \\?"(?P<what>[^"\\]+)\\?": (executable file not found|stat .*: no such file)',
        "the image {image} has no {what}; python: names the interpreter that it has",
    ),
    (
        r"non-overlapping|pool overlaps|address pool",
        "{node} {has} no free addresses for another network; remove networks that are not used: docker network prune",
    ),
    (
        r"network .* not found|could not find network",
        "{node} {does} not see the run's network ({error})",
    ),
    (r"setting rlimit|ulimit", "{node} may not lift the limit on locked memory; leave out memlock:"),
    (r"out of memory|oom", "the {role} on {node} ran out of memory; raise resources.memory"),
    (r"unhealthy container", "the {role} on {node} stopped giving signs of life and was restarted"),
    (
        r"exec format error",
        "the image {image} is built for another kind of processor than {node}'s; build it for that",
    ),
    (r"could not select device driver|nvidia", "{node} cannot give a container its GPUs ({error})"),
)


def _failure(task: Task, times: int = 1) -> _Trouble | None:
    """What became of a task that failed or was rejected."""
    text = _failure_text(task, times)
    return _Trouble(_where(task), text) if text else None


def _failure_text(task: Task, times: int) -> str:
    error = re.sub(r"^.*unable to start container process: |: unknown$", "", task.error.rstrip("."))
    facts = {blank.strip("{}"): blank for blank in _VERBS}
    facts |= {"node": _WHO, "image": task.image, "role": task.role, "error": error}
    if task.exit_code == 137 and task.has_run and "unhealthy" not in task.error:
        return f"the {task.role} on {_WHO} was killed, perhaps for want of memory (exit code 137)"
    for pattern, sentence in _FAILURES:
        if match := re.search(pattern, task.error, re.IGNORECASE):
            return sentence.format(**facts, **match.groupdict())
    if task.exit_code and task.has_run:
        often = f", {times} times" if times > 1 else ""
        return (
            f"the {task.role} on {_WHO} ended with exit code {task.exit_code}{often}; "
            f"docker service logs {task.service} shows what it said"
        )
    if task.node is not None and task.node.state == "down":
        return f"{_WHO} {{is}} down"
    return f"the {task.role} on {_WHO} did not start: {facts['error']}" if task.error else ""


def _unplaced(task: Task) -> _Trouble:
    """Why the scheduler finds no node."""
    reason = re.sub(r"^no suitable node \((.*)\)$", r"\1", task.error.strip()).replace(
        "limit exceed", "reached"
    )
    which = (
        "the coordinator" if task.role == names.COORDINATOR_SERVICE else f"agent {task.service}.{task.slot}"
    )
    if task.down:
        away = _sentence(f"{_WHO} {{is}} down", task.down)
        return _Trouble(which, f"Swarm finds no node for {_WHO}: {away} ({reason})")
    hint = ""
    if "insufficient resources" in reason:
        hint = "; other services hold the CPUs, memory or GPUs: docker service ls"
    elif "not available" in reason or "max replicas" in reason or "constraints" in reason:
        hint = "; nodes are down, drained or already taken: docker node ls"
    return _Trouble(which, f"Swarm finds no node for {_WHO} ({reason}){hint}")
