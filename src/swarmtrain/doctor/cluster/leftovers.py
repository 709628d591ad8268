"""What an earlier doctor left on a Swarm when it was killed, and how one is told from another that is at work."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from swarmtrain.docker.command import Docker
from swarmtrain.doctor.cluster.containers import LABEL_OWNER, PREFIX
from swarmtrain.swarm.cluster import SECONDS, STACK_LABEL, inspect

_LONGEST_SECONDS = 900.0  # no doctor works longer
_OWNER = re.compile(r"(\w*)/(\d+)/(\d+)/(\d+)")
_KINDS = ("service", "network", "config")


def owner() -> str:
    """This process: its machine, its id, when it started by the kernel's count, and the Unix time."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}/{time.time():.0f}"


def is_left(owner: str, now: float, machine: str, started: int | None) -> bool:
    """Whether who made something has gone. Pure.

    Args:
        machine: this one.
        started: when the process with the owner's id here has started; None where there is none.
    """
    found = _OWNER.fullmatch(owner)
    if found is None or now - int(found[4]) > _LONGEST_SECONDS:
        return True
    return found[1] == machine and machine != "" and started != int(found[3])


def stacks(docker: Docker) -> list[str]:
    """The stacks that earlier doctors left. Raises ClusterError."""
    owners: dict[str, str] = {}
    shown = "{{.ID}}"
    for kind in _KINDS:
        ids = docker.run(
            kind, "ls", "--filter", f"label={LABEL_OWNER}", "--format", shown, timeout=SECONDS
        ).split()
        for each in ids:
            labels = _labels(docker, kind, each)
            if (name := labels.get(STACK_LABEL, "")).startswith(PREFIX):
                owners[name] = labels.get(LABEL_OWNER, "")
    return sorted(_left(owners.items()))


def _left(owners: Iterable[tuple[str, str]]) -> list[str]:
    now, machine = time.time(), _machine()
    found = []
    for name, made_by in owners:
        process = _OWNER.fullmatch(made_by)
        if is_left(made_by, now, machine, _started(int(process[2])) if process else None):
            found.append(name)
    return found


def _labels(docker: Docker, kind: str, identity: str) -> dict[str, str]:
    found = inspect(docker, kind, [identity])
    if not found:
        return {}
    return found[0].get("Labels") or found[0].get("Spec", {}).get("Labels") or {}


def _machine() -> str:
    """This boot of this machine, and which processes can be seen here: a container has numbers of its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return re.sub(r"\W", "", boot + str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ""


def _started(process: int) -> int | None:
    """When a process here has started, in the kernel's ticks since the boot."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
