"""What a value of a job may look like: names, images, constraints, volumes, variables.

Pure functions. They return the value, tidied, or raise ValueError with a sentence that goes on from the key
("nodes: ..."); `job.spec` hangs them on its fields. The rules are Docker's and Swarm's own.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from swarmtrain.job.problems import did_you_mean, shown
from swarmtrain.wire import names

NAME_LENGTH = 40  # leaves room for a run's number and a service's name in the 63 characters of a DNS label
MOST = 1000  # nodes, and workers on each: more are a slip of the hand
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_RANGE = re.compile(r"([0-9]+) *\.\. *([0-9]+)")
_DIGITS = 20  # of no number that anybody means; thousands of them Python itself refuses to read
_DOCKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# github.com/distribution/reference: [domain/]path[:tag][@digest]
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@\w+:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)

# moby/swarmkit, manager/constraint/constraint.go
_CONSTRAINT = re.compile(r"\s*(?P<key>[^=!]+?)\s*(?P<operator>==|!=)\s*(?P<value>.+?)\s*", re.DOTALL)
_CONSTRAINT_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
_NODE_FACTS = ["id", "hostname", "ip", "role", "platform.os", "platform.arch"]
_CONSTRAINT_KEYS = [f"node.{fact}" for fact in _NODE_FACTS]
_LABEL_KEY = re.compile(r"(?:node|engine)\.labels\.[A-Za-z0-9_][\w.\-]*", re.ASCII)

# The contract between torchrun and a worker, which the launcher keeps: variable to what sets it.
OWNED = dict.fromkeys(
    ["RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"],
    "swarmtrain sets it in every worker",
) | dict.fromkeys(
    ["WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"],
    "it follows from the keys nodes and workers_per_node",
)
_OWNED_PREFIXES = ("TORCHELASTIC_", "SWARMTRAIN_")


# What may stand for a mapping under `restart`, and the mapping it stands for.
RESTART_WORDS: Mapping[str, Mapping[str, int]] = {"auto": {}, "never": {"max": 0}}
_LIKE_AUTO = ("always", "any", "on", "on-failure", "unless-stopped", "yes", True)
_LIKE_NEVER = ("no", "none", "off", False)


class Volume(NamedTuple):
    """One mount in every worker's container: ``source:target[:ro]``."""

    source: str  # an absolute path on the node, or the name of a volume
    target: str  # an absolute path in the container
    read_only: bool = False

    @property
    def is_path(self) -> bool:
        """A directory of the node (a bind mount), not a named volume."""
        return self.source.startswith("/")


def job_name(value: str) -> str:
    """A DNS label of at most 40 characters: stacks, services and hostnames are made out of it."""
    if _NAME.fullmatch(value) and len(value) <= NAME_LENGTH:
        return value
    raise ValueError(
        f"{shown(value)} is no name: up to {NAME_LENGTH} lower-case letters, digits and hyphens, not at the ends "
        f"(for example {made_name(value)})"
    )


def made_name(text: str) -> str:
    """The nearest valid name to any text: ``My_Train v2`` is ``my-train-v2``; ``job`` when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_LENGTH].rstrip("-") or "job"


def image(value: str) -> str:
    """An image reference that Docker accepts."""
    if _IMAGE.fullmatch(value):
        return value
    lower = " (a repository's name is lower-case)" if _IMAGE.fullmatch(value.lower()) else ""
    raise ValueError(f"{shown(value)} is no image reference{lower}, which looks like registry:5000/name:tag")


def node_name(value: object) -> str:
    """A hostname or an id of a node."""
    if isinstance(value, str) and _NODE.fullmatch(value):
        return value
    quotes = " (put it in quotes)" if isinstance(value, (int, float, bool)) else ""
    raise ValueError(f"{shown(value)} is not the name of a node{quotes}")


def nodes(value: object) -> int | str | tuple[str, ...]:
    """A count, a range "2..4", or a list of names."""
    if isinstance(value, int) and not isinstance(value, bool):
        return bounded(value)
    if isinstance(value, str):
        low, high = node_range(value)
        return f"{low}..{high}"
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"must be a count (3), a range (2..4) or a list of names, not {shown(value)}")
    if not value:
        raise ValueError("the list of names is empty")
    bounded(len(value))
    listed = tuple(node_name(name) for name in value)
    if same := twice(listed):
        raise ValueError(f"the same node twice: {', '.join(same)}")
    return listed


def node_range(value: int | str | Sequence[str]) -> tuple[int, int]:
    """The fewest and the most nodes: ``2..4`` as (2, 4), a number or names as just so many."""
    if not isinstance(value, str):
        count = value if isinstance(value, int) else len(value)
        return count, count
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        name = f"; one node by its name is [{value}]" if _NODE.fullmatch(value) else ""
        raise ValueError(f"{shown(value)} is no range, which looks like 2..4{name}")
    low, high = (int(text) if len(text) < _DIGITS else MOST + 1 for text in match.groups())
    if not 1 <= low <= high:
        raise ValueError(f"the range {value} must go from at least 1 up to as many or more")
    return low, bounded(high)


def bounded(value: int) -> int:
    """How many nodes there are, or workers on each."""
    if value < 1:
        raise ValueError(f"must be at least 1, not {shown(value)}")
    if value > MOST:
        raise ValueError(f"must be at most {MOST}")
    return value


def constraint(value: str) -> str:
    """A placement constraint of Swarm, tidied to ``key == value``."""
    match = _CONSTRAINT.fullmatch(value)
    if match is None:
        raise ValueError(f"{shown(value)} is no constraint, which looks like node.labels.gpu == true")
    key, wanted = match["key"], match["value"]
    if key not in _CONSTRAINT_KEYS and not _LABEL_KEY.fullmatch(key):
        label = f"node.labels.{key.rpartition('.')[2]}"
        near = did_you_mean(key, [*_CONSTRAINT_KEYS, label]) or f" (a label is written {label})"
        raise ValueError(f"Swarm knows no {key} of a node{near}")
    if not _CONSTRAINT_VALUE.fullmatch(wanted) or wanted.startswith("="):
        raise ValueError(f"{shown(value)}: Swarm does not take {shown(wanted)} as a value")
    if key == "node.role" and wanted not in ("manager", "worker"):
        raise ValueError(f"{shown(value)}: a node's role is manager or worker")
    return f"{key} {match['operator']} {wanted}"


def network_name(value: object) -> str:
    """The name of a network that exists already."""
    if isinstance(value, str) and value in ("host", "bridge", "none", "ingress"):
        raise ValueError(
            f"{value} is Docker's own network" + (", written network: host" if value == "host" else "")
        )
    if isinstance(value, str) and _DOCKER_NAME.fullmatch(value):
        return value
    raise ValueError(f"{shown(value)} is not the name of a network")


def resource_kind(value: str) -> str:
    """What a generic resource of Swarm is called."""
    if _DOCKER_NAME.fullmatch(value):
        return value
    raise ValueError(f"{shown(value)} is not the name of a resource, such as gpu or NVIDIA-GPU")


def variable_name(value: str) -> str:
    """The name of an environment variable that is the user's to set."""
    if not is_variable(value):
        raise ValueError(
            f"{shown(value)} is no variable's name: letters, digits and _, not beginning with a digit"
        )
    if why := OWNED.get(value, ""):
        raise ValueError(f"{value} cannot be set: {why}")
    if value.startswith(_OWNED_PREFIXES):
        raise ValueError(
            f"{value} cannot be set: names beginning with {value.split('_')[0]}_ are the launcher's"
        )
    return value


def is_variable(value: str) -> bool:
    """Whether it can be a variable's name."""
    return _VARIABLE.fullmatch(value) is not None


def text(value: str) -> str:
    """Any text that an argument or a variable can carry: all but the zero character."""
    if "\0" in value:
        raise ValueError("holds a zero character, which no process can be given")
    return value


def restart(value: object) -> object:
    """The mapping that a word under ``restart`` stands for; a mapping as it is."""
    if isinstance(value, str) and value in RESTART_WORDS:
        return RESTART_WORDS[value]
    if not isinstance(value, (str, int, float, list, tuple)) and value is not None:
        return value
    near = did_you_mean(str(value), RESTART_WORDS)
    if isinstance(value, (str, bool)):
        word = "auto" if value in _LIKE_AUTO else "never" if value in _LIKE_NEVER else ""
        near = f" (did you mean {word}?)" if word else near
    elif isinstance(value, int):
        near = f" (did you mean {{max: {value}}}?)"
    raise ValueError(f"must be auto, never or a mapping of keys to values, not {shown(value)}{near}")


def volume(value: str) -> str:
    """``source:target[:ro]``, as `parse_volume` reads it."""
    parse_volume(value)
    return value


def parse_volume(value: str) -> Volume:
    """The parts of ``source:target[:ro]``.

    Raises:
        ValueError: it has none, or it would hide something that the run needs.
    """
    source, *rest = value.split(":")
    if len(rest) not in (1, 2) or rest[1:] not in ([], ["ro"], ["rw"]):
        raise ValueError(f"{shown(value)} is no volume, which looks like /data:/data:ro or name:/data")
    target = rest[0]
    if source.startswith((".", "~")):
        raise ValueError(f"{shown(value)}: a path on the nodes must be absolute")
    if not source.startswith("/") and not _DOCKER_NAME.fullmatch(source):
        raise ValueError(f"{shown(value)}: {shown(source)} is neither an absolute path nor a volume's name")
    if source == names.VOLUME:
        raise ValueError(f"{shown(value)}: the volume {names.VOLUME} holds the runs themselves")
    if not target.startswith("/") or ".." in target.split("/"):
        raise ValueError(f"{shown(value)}: {shown(target)} is no absolute path in the container")
    target = posixpath.normpath(target)
    for taken in (names.STORAGE, posixpath.dirname(names.BUNDLE), posixpath.dirname(names.SECRET)):
        if (
            target == "/"
            or target == taken
            or target.startswith(f"{taken}/")
            or taken.startswith(f"{target}/")
        ):
            raise ValueError(f"{shown(value)}: {target} would hide {taken}, which the run needs")
    return Volume(source, target, read_only=rest[1:] == ["ro"])


def volumes(values: Iterable[str]) -> tuple[str, ...]:
    """Volumes with targets of their own."""
    listed = tuple(values)
    if same := twice(parse_volume(each).target for each in listed):
        raise ValueError(f"the same target twice: {', '.join(same)}")
    return listed


def script(value: str) -> str:
    """A path below the job's directory, tidied, or an absolute one (inside the image)."""
    if not value.strip() or value.endswith("/") or not value.isprintable():
        raise ValueError(f"{shown(value)} is no path of a script")
    path = posixpath.normpath(value)
    if path.startswith("../"):
        raise ValueError(f"{value} lies outside the job's directory, which is all that is sent to the nodes")
    return path


def command(value: Sequence[str]) -> tuple[str, ...]:
    """A program and its arguments."""
    if not value[0].strip():
        raise ValueError(f"{shown(value[0])} is no program")
    return tuple(value)


def module(value: str) -> str:
    """What follows ``python -m``."""
    if all(part.isidentifier() for part in value.split(".")) and not value.endswith(".py"):
        return value
    hint = " (a file goes under script)" if value.endswith(".py") or "/" in value else ""
    raise ValueError(f"{shown(value)} is no module's name, which looks like package.train{hint}")


def interpreter(value: str) -> str:
    """The Python in the image: a name or an absolute path."""
    if not value or value != value.strip() or ("/" in value and not value.startswith("/")):
        raise ValueError(f"{shown(value)} is neither a program's name nor an absolute path")
    return text(value)


def pattern(value: str) -> str:
    """A glob of files below the job's directory."""
    if not value.strip() or value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{shown(value)} is no pattern of files below the job's directory")
    return value


def twice(values: Iterable[str]) -> list[str]:
    """Those that are there more than once."""
    seen: dict[str, int] = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
    return [value for value, count in seen.items() if count > 1]
