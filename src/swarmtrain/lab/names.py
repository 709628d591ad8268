"""How everything that belongs to a lab is called and where it lies. Pure, but for looking where the checkout is."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from swarmtrain.errors import RequestError

PREFIX = "swarmtrain-lab-"

LABEL_LAB = "swarmtrain.lab"  # the lab's name
LABEL_NODE = "swarmtrain.lab.node"  # the node's number, from 1
# the node's address in the lab's network, also while it is unplugged
LABEL_ADDRESS = "swarmtrain.lab.address"
LABEL_GPUS = "swarmtrain.lab.gpus"  # how many pretend GPUs the node declares
LABEL_ENGINE = "swarmtrain.lab.engine"  # the Debian release whose engine the node has
LABEL_SETTINGS = "swarmtrain.lab.settings"  # hash of what the node was made from
LABEL_STAGE = "swarmtrain.stage"  # on stages of a build that nobody needs afterwards
LABEL_RECIPE = "swarmtrain.recipe"  # on images: hash of what the image was built from

# Addresses in the lab's network start here, so that node 1 is the network's .11.
FIRST_ADDRESS = 10

# Longest path of a Unix socket that Linux takes (sun_path, with its final zero).
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class LabNames:
    """The names of one lab.

    Args:
        lab: the lab's own name, unique on this machine.
        state: the directory that holds every lab's files.
    """

    lab: str
    state: Path

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", self.lab):
            raise RequestError(
                f"{self.lab!r} cannot be the name of a lab",
                "use up to 20 lower-case letters, digits and dashes",
            )
        if len(str(self.socket(99))) > LONGEST_SOCKET_PATH:
            raise RequestError(
                f"the path {self.socket(99)} is too long for a socket",
                "set XDG_STATE_HOME to a shorter directory",
            )

    @property
    def project(self) -> str:
        """The name of the lab's network and docker context, and the stem of its containers' names."""
        return PREFIX + self.lab

    @property
    def directory(self) -> Path:
        return self.state / self.lab

    @property
    def lock(self) -> Path:
        """Held by whoever changes the lab."""
        return self.state / f"{self.lab}.lock"

    def container(self, index: int) -> str:
        """The name of a node's container and of the volume that is its disk."""
        return f"{self.project}-{index}"

    def node_directory(self, index: int) -> Path:
        """Mounted into the node: its engine's configuration, log and socket."""
        return self.directory / str(index)

    def socket(self, index: int) -> Path:
        return self.node_directory(index) / "docker.sock"

    def host(self, index: int) -> str:
        """The address of a node's engine, as in DOCKER_HOST."""
        return f"unix://{self.socket(index)}"


def hostname(index: int) -> str:
    """The name by which the Swarm knows a node."""
    return f"lab-{index}"


def node_index(text: str) -> int:
    """The number of a node that is called ``2``, ``lab-2`` or by its container's name."""
    found = re.fullmatch(r"(?:(?:swarmtrain-)?lab-(?:.*-)?)?([1-9][0-9]?)", text)
    if not found:
        raise RequestError(f"{text!r} is no node of the lab", "nodes are called lab-1, lab-2, ...")
    return int(found[1])


def pretend_gpus(lab: str, index: int, count: int) -> list[str]:
    """Identities of a node's pretend GPUs, in the form of NVIDIA's and the same every time."""
    return [f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'gpu{k}.lab-{index}.{lab}')}" for k in range(count)]


def state_directory() -> Path:
    """Where labs keep their files: ``$XDG_STATE_HOME/swarmtrain/labs``, as the XDG base directories have it."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "swarmtrain" / "labs"


def default_name(start: Path | None = None) -> str:
    """The lab of this checkout: a hash of its path; outside of any checkout, of the home directory."""
    start = (start or Path.cwd()).resolve()
    root = next((path for path in (start, *start.parents) if (path / ".git").exists()), Path.home())
    return hashlib.sha256(str(root).encode()).hexdigest()[:6]
