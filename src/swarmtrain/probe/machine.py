"""What a container sees of its node. Nothing is started but a write of some megabytes."""

from __future__ import annotations

import os
import platform
import re
import resource
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from swarmtrain.agent.machine import processors
from swarmtrain.protocol.probes.reports import GpuReport, MachineReport
from swarmtrain.wire.machine.gpus import cards

_WRITE_BYTES = 4 << 20


def look(node: str, interface: str) -> MachineReport:
    """The facts of this container and its node.

    Args:
        interface: by which it reaches the others.
    """
    memory = _meminfo()
    here, (shm, shm_free) = os.statvfs("."), _shm()
    return MachineReport(
        node=node,
        python=platform.python_version(),
        kernel=os.uname().release,
        arch=os.uname().machine,
        cpus=processors(None),
        load=os.getloadavg()[0],
        memory=memory.get("MemTotal", 0),
        memory_free=memory.get("MemAvailable", 0),
        swap=memory.get("SwapTotal", 0),
        swap_used=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        disk=here.f_blocks * here.f_frsize,
        disk_free=here.f_bavail * here.f_frsize,
        shm=shm,
        nofile=_limit(resource.RLIMIT_NOFILE),
        memlock=_limit(resource.RLIMIT_MEMLOCK),
        write_seconds=_write(),
        torch=_version("torch"),
        infiniband=any(Path("/sys/class/infiniband").glob("*")),
        mtu=mtu(interface),
        shm_free=shm_free,
    )


def gpus(node: str, env: Mapping[str, str]) -> GpuReport:
    """The GPUs that Swarm has assigned to this task, and those that it sees."""
    assigned = [
        name
        for key, value in sorted(env.items())
        if key.startswith("DOCKER_RESOURCE_") and "GPU" in key.upper()
        for name in value.split(",")
    ]
    return GpuReport(node=node, assigned=assigned, visible=[card.uuid for card in cards()])


def mtu(interface: str) -> int:
    """The largest packet of an interface; 0 where there is none."""
    try:
        return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    except (OSError, ValueError):
        return 0


def _meminfo() -> dict[str, int]:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return {}
    return {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def _shm() -> tuple[int, int]:
    """The room in /dev/shm, and what of it is free."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0, 0
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return -1 if soft == resource.RLIM_INFINITY else soft


def _write() -> float | None:
    """How long some megabytes take to be on the disk: of a run, where its workers write."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=".") as file:
            file.write(os.urandom(_WRITE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return None
    return time.monotonic() - began


def _version(package: str) -> str:
    """The version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
