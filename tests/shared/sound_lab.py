"""What `doctor` finds of a lab that is sound: what is true of its host and of its engines, and nobody's fault here."""

from __future__ import annotations

from swarmtrain.docker.command import Docker

# What two busy cores, on which three machines are, make of speed, memory and disks.
_OF_THIS_HOST = {"slow-way", "lopsided", "latency", "stalled", "disk-slow", "memory", "disk"}
_KEEPS_GPU_TASKS = 23  # the first version of Docker; the lab's machines pretend to have GPUs


def known() -> set[str]:
    """The codes of what is found whenever somebody looks."""
    versions = set(Docker().run("node", "ls", "--format", "{{.EngineVersion}}").split())
    found = set(_OF_THIS_HOST)
    if any(int(version.partition(".")[0]) < _KEEPS_GPU_TASKS for version in versions):
        found.add("gpu-restarts")
    if len(versions) > 1:
        found.add("engines")
    return found
