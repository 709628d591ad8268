"""What a node has: GPUs, processors, and whether the kernel killed for want of memory. No torch, no device touched."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def gpus(env: dict[str, str]) -> int:
    """How many NVIDIA GPUs a worker here would see; 0 where there are none.

    nvidia-smi is asked, since torch must not be imported here and a device must not be touched before the fork.
    """
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1", "NoDevFiles")])
    if env.get("NVIDIA_VISIBLE_DEVICES") in ("void", "none", ""):
        return 0
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")])


def reserved_gpus(env: dict[str, str]) -> int | None:
    """How many GPUs the Swarm reserved for this task; None when it reserved none."""
    values = [value for name, value in env.items() if name.startswith("DOCKER_RESOURCE_") and "GPU" in name]
    return sum(len(value.split(",")) for value in values) if values else None


def processors(limit: float | None) -> float:
    """Processors this node's workers may use: the job's limit, the cgroup's, or all that the process may run on."""
    counts = [float(len(os.sched_getaffinity(0)))]
    if limit:
        counts.append(limit)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            counts.append(int(quota) / int(period))
    except (OSError, ValueError):
        pass
    return min(counts)


def memory_kills() -> int:
    """How often the kernel has killed in this container for want of memory; machine-wide outside of a container."""
    for path in _CGROUPS:
        try:
            match = re.search(r"^oom_kill (\d+)$", Path(path).read_text(), re.MULTILINE)
        except OSError:
            continue
        if match:
            return int(match[1])
    try:
        match = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return int(match[1]) if match else 0
