"""What Swarm's complaints about a task mean, and which of them pass by themselves: tables of sentences. Pure.

Swarm tries a task that it could not start again and again, so a complaint that ends by itself ends in a start. Nobody
should be told of it before the time is over that it may take; and nobody should wait for one that never ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

# Blanks in the sentences: who has it, and verbs in their number.
WHO = "{who}"
VERBS = {"{has}": ("has", "have"), "{is}": ("is", "are"), "{does}": ("does", "do")}

_NO_IMAGE = r"no such image|pull access denied|manifest (unknown|for .* not found)|repository .* not found"
_NO_START = "starting container failed"


@dataclass(frozen=True)
class Obstacle:
    """What keeps a run's processes from their place; false while nothing does.

    Args:
        text: in a sentence, or in several with semicolons between them.
        passes: the seconds that it may take to pass by itself; 0 when it is not known to.
    """

    text: str = ""
    passes: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.text)


class Meaning(NamedTuple):
    """What a complaint means.

    Args:
        pattern: in what Swarm says.
        sentence: what a person is told, with blanks: ``{node}`` has it, ``{image}``, ``{role}``, ``{error}``, and what
            the pattern names.
        passes: see Obstacle.
    """

    pattern: str
    sentence: str
    passes: float = 0.0


# In order: the first that matches counts.
MEANINGS = (
    # ---- these pass
    # Managers before Docker 23 reject tasks with generic resources whenever their node changes in any way, and start
    # them again elsewhere (github.com/moby/moby/issues/44378).
    Meaning(
        "assigned node no longer meets constraints",
        "Swarm takes tasks with GPUs away from {node} again and again; update Docker on the managers to 23 or newer",
        60.0,
    ),
    # A manager gives a subnet away as soon as its network is removed; the nodes that had it learn of that seconds
    # later, once the last container in it is gone (seen on 28.5).
    Meaning(
        "pool overlaps with other one on this address space",
        "{node} {has} a network with the addresses of the run's own; docker network ls shows it, and a Swarm gets "
        "other addresses with: docker swarm init --default-addr-pool",
        60.0,
    ),
    # The address or the interface of a container that has just gone.
    Meaning(
        "address already in use|vxlan interface: file exists",
        "{node} {does} not let go of what an earlier container had ({error}); restart Docker there",
        60.0,
    ),
    # A node is told of a task before it is told of its network.
    Meaning(
        r"network \S+ not found|could not find network",
        "{node} {does} not see the run's network ({error})",
        30.0,
    ),
    Meaning(
        "missing network attachments",
        "the run's network has no address left for a container on {node}; give it a larger subnet, or remove "
        "services: docker service ls",
        30.0,
    ),
    # The engine of the node, or its containerd, is being started again.
    Meaning(
        r"context (deadline exceeded|canceled)|transport is closing|code = unavailable|containerd\.sock",
        "the engine of {node} {does} not answer Swarm ({error}); look at the daemon there: journalctl -u docker",
        60.0,
    ),
    # ---- these never do
    Meaning(
        _NO_IMAGE,
        "{node} {has} no image {image} and cannot pull it; push it, or: docker save {image} | ssh NODE docker load",
    ),
    Meaning(
        r"bind source path does not exist: (?P<what>\S+)",
        "{node} {has} no directory {what}, which volumes: mounts; make it on every node",
    ),
    Meaning(
        r'exec: \\?"(?P<what>[^"\\]+)\\?": (executable file not found|stat .*: no such file)',
        "the image {image} has no {what}; python: names the interpreter that it has",
    ),
    Meaning(
        r"non-overlapping|address pool",
        "{node} {has} no free addresses for another network; remove networks that are not used: docker network prune",
    ),
    Meaning(
        r"setting rlimit type 7|rlimit.*nofile",
        "{node} may not allow so many open files; raise the limit of its Docker daemon (LimitNOFILE)",
    ),
    Meaning(
        r"setting rlimit|ulimit",
        "{node} may not lift the limit on locked memory; leave out memlock:",
    ),
    Meaning(r"out of memory|oom", "the {role} on {node} ran out of memory; raise resources.memory"),
    Meaning("unhealthy container", "the {role} on {node} stopped giving signs of life and was restarted"),
    Meaning(
        "exec format error",
        "the image {image} is built for another kind of processor than {node}'s; build it for that",
    ),
    Meaning("could not select device driver|nvidia", "{node} cannot give a container its GPUs ({error})"),
)


def meaning_of(error: str, facts: Mapping[str, str]) -> Obstacle:
    """What a complaint of Swarm means; a false one where the tables do not know it.

    Args:
        error: what Swarm says.
        facts: what the blanks of the sentences become.
    """
    for known in MEANINGS:
        if match := re.search(known.pattern, error, re.IGNORECASE):
            return Obstacle(known.sentence.format(**facts, **match.groupdict()), known.passes)
    return Obstacle()


def never_heard(nodes: str, many: bool, *, has_overlay: bool = True) -> str:
    """Why agents that Swarm has started may not have reached the coordinator, in a sentence.

    Args:
        nodes: where they are, in words.
        many: whether these are several.
        has_overlay: whether the run's network is one of Swarm's, and not the machines' own.
    """
    ports = "7946/tcp, 7946/udp and 4789/udp" if has_overlay else "the coordinator's port"
    was = "they were" if many else "it was"
    return (
        f"Swarm has started the {'agents' if many else 'agent'} on {nodes}, but {was} never heard: "
        f"the run's network may not reach {nodes}. Between all nodes {ports} must be open; "
        'docs/troubleshooting.md has more, under "Nodes do not find each other"'
    )


def has_not_started(error: str) -> bool:
    """Whether an error means that a container was made but its process could not be started."""
    return _NO_START in error


def cannot_start(error: str) -> bool:
    """Whether an error means that a node cannot even start the image's Python."""
    return has_not_started(error) or re.search(_NO_IMAGE, error, re.IGNORECASE) is not None
