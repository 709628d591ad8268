"""What a node has: GPUs, processors, and whether the kernel killed for want of memory. No torch, no device touched."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from swarmtrain.structs import Struct
from swarmtrain.wire.machine.gpus import VISIBLE, Card, cards, usable, visible

_CGROUPS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def gpus(env: Mapping[str, str]) -> int:
    """How many NVIDIA GPUs a worker here would see; 0 where there are none.

    Args:
        env: what workers will find, CUDA_VISIBLE_DEVICES above all.
    """
    if env.get("NVIDIA_VISIBLE_DEVICES") in ("void", "none", ""):
        return 0
    named = env.get(VISIBLE)
    return 0 if named == "" else usable(visible(named, cards()))


class GpuUse(Struct):
    """How much of the last second a GPU was in use, in percent: by any kernel, and of its memory's time."""

    kernels: int
    memory: int


def gpu_use(env: Mapping[str, str]) -> list[GpuUse | None]:
    """What the GPUs that workers see do just now, in their order; None for one of which the driver does not tell.

    Args:
        env: what workers find, CUDA_VISIBLE_DEVICES above all.
    """
    fields = "index,uuid,utilization.gpu,utilization.memory"
    ask = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in told.stdout.splitlines()]
    use: dict[str, GpuUse] = {}
    for index, uuid, kernels, memory in (row for row in rows if len(row) == 4):
        if kernels.isdecimal() and memory.isdecimal():  # parts of a divided one tell nothing
            use[index] = use[uuid] = GpuUse(int(kernels), int(memory))
    present = [Card(row[1]) for row in rows if len(row) == 4]
    return [
        next((each for name, each in use.items() if name == device or _is_short_for(device, name)), None)
        for device in visible(env.get(VISIBLE), present)
    ]


def _is_short_for(device: str, uuid: str) -> bool:
    return device.startswith("GPU-") and uuid.startswith(device)


def reserved_gpus(env: Mapping[str, str]) -> int | None:
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
