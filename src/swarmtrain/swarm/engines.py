"""What is known of versions of the Docker Engine that a run may meet: pure, called by `swarm.placement`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from swarmtrain.errors import ClusterError
from swarmtrain.swarm.cluster import Node

Version = tuple[int, int, int]

# Managers before this one restart tasks that reserve GPUs whenever their node changes in any way
# (github.com/moby/moby/issues/44378).
KEEPS_GPU_TASKS: Version = (23, 0, 0)
# From this one on a container has 1024 open files, where it had a million: the daemon has systemd's own limits.
FEW_FILES: Version = (29, 0, 0)
# The most that systemd's own limits let a process ask for.
OPEN_FILES = 524288
# These derive the number of an encrypted connection in a way of their own, so that the other end, of any other version,
# drops what comes (github.com/moby/moby/issues/51798).
_OTHER_ENCRYPTION = ((25, 0, 13), (25, 0, 14), (28, 2, 2))
_OTHER_ENCRYPTION_FROM, _OTHER_ENCRYPTION_BEFORE = (29, 0, 0), (29, 2, 1)


def version_of(text: str) -> Version | None:
    """``26.1.5+dfsg1`` as (26, 1, 5); None for what is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def is_before(node: Node, version: Version) -> bool:
    """Whether a node's engine is older, as far as that is known."""
    its = version_of(node.engine)
    return its is not None and its < version


def has_few_files(engine: str) -> bool:
    """Whether a container of an engine of this version may have too few files open."""
    version = version_of(engine)
    return version is not None and version >= FEW_FILES


def files_notice(engine: str, whose: str = "") -> str:
    """What is said where containers are allowed more."""
    return f"containers may have {OPEN_FILES} files open: by itself, Docker {engine}{whose} gives them 1024"


def check_encryption(nodes: Sequence[Node]) -> None:
    """Refuse an encrypted network between engines that do not understand each other.

    Raises:
        ClusterError: nothing would ever arrive.
    """
    known = [node for node in nodes if version_of(node.engine) is not None]
    faulty = [node for node in known if _encrypts_otherwise(node)]
    others = [node for node in known if not _encrypts_otherwise(node)]
    if faulty and others:
        raise ClusterError(
            f"an encrypted network passes nothing between {_named(faulty)} and {_named(others)} "
            "(github.com/moby/moby/issues/51798)",
            "update Docker to 29.2.1 or newer on the former; or keep them apart with constraints:, or leave out "
            "network: encrypted",
        )


def _encrypts_otherwise(node: Node) -> bool:
    version = version_of(node.engine)
    assert version is not None, "only known versions are asked for"
    return version in _OTHER_ENCRYPTION or _OTHER_ENCRYPTION_FROM <= version < _OTHER_ENCRYPTION_BEFORE


def _named(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{node.hostname} (Docker {node.engine})" for node in nodes)
