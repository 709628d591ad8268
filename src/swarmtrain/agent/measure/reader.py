"""Reads the kernel's files and counts, the disks' room and the GPUs for a sample. What is not there is passed over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from swarmtrain.agent.measure import proc
from swarmtrain.agent.measure.connections import TcpCounts, connections
from swarmtrain.agent.measure.sample import NodeSample

_GROUPS = "sys/fs/cgroup"


class SampleReader:
    """Takes the samples of one node.

    Args:
        place: where the run keeps its files.
        gpus: the levels of this node's GPUs, by their series.
        peers: the other nodes, by their addresses.
        root: of the file system.
    """

    def __init__(
        self,
        place: Path,
        gpus: Callable[[], dict[str, float]] = dict,
        peers: Callable[[], Mapping[str, str]] = dict,
        root: Path = Path("/"),
    ) -> None:
        self._place, self._gpus, self._peers, self._root = place, gpus, peers, root
        groups = proc.own_group(self._read("proc/self/cgroup"))
        unified = self._root / _GROUPS / "cgroup.controllers"
        if unified.exists():
            self._cpu = self._memory = self._group("", groups.get("", "/"))
            self._names = ("memory.current", "memory.max")
        else:
            self._cpu = self._group("cpu", groups.get("cpu", "/"))
            self._memory = self._group("memory", groups.get("memory", "/"))
            self._names = ("memory.usage_in_bytes", "memory.limit_in_bytes")

    def take(self) -> NodeSample:
        """This moment. It may wait for a disk, so it is taken in a thread."""
        swap = proc.fields(self._read("proc/vmstat"))
        waited = {
            what: total
            for what in ("cpu", "memory", "io")
            if (total := proc.pressure(self._read(f"proc/pressure/{what}"))) is not None
        }
        return NodeSample(
            moment=time.monotonic(),
            cpu=proc.cpu_times(self._read("proc/stat")),
            throttling=proc.throttling(self._read(f"{self._cpu}/cpu.stat")),
            pressure=waited,
            swapped=(swap["pswpin"], swap["pswpout"]) if "pswpin" in swap and "pswpout" in swap else None,
            disks=proc.disks(self._read("proc/diskstats")),
            interfaces=proc.interfaces(self._read("proc/net/dev")),
            links=self._links(),
            levels={**dict(self._levels()), **self._gpus()},
        )

    def _levels(self) -> Iterator[tuple[str, float]]:
        if (load := proc.load(self._read("proc/loadavg"))) is not None:
            yield "node/load", load
        memory = proc.meminfo(self._read("proc/meminfo"))
        if (whole := memory.get("MemTotal")) and (free := memory.get("MemAvailable")) is not None:
            yield "node/memory_used_ratio", 1 - free / whole
            yield "node/memory_available_bytes", free
        if memory.get("SwapTotal"):
            yield "node/swap_used_bytes", memory["SwapTotal"] - memory.get("SwapFree", 0)
        usage, limit = (self._read(f"{self._memory}/{name}") for name in self._names)
        if (used := proc.memory_in_use(usage, self._read(f"{self._memory}/memory.stat"))) is not None:
            yield "node/container_memory_bytes", used
        if (most := proc.limit(limit)) is not None:
            yield "node/container_memory_limit_bytes", most
        yield from _room("disk", self._place)
        yield from _room("shm", self._root / "dev/shm")

    def _links(self) -> dict[int, TcpCounts]:
        if not (peers := self._peers()):
            return {}
        try:
            found = connections(peers)
        except OSError:
            return {}
        return {
            number: counts._replace(peer=peers[counts.peer])
            for number, counts in found.items()
            if counts.peer in peers
        }

    def _group(self, controller: str, path: str) -> str:
        """Where the files of this process's control group are; a container sees its own at the top."""
        base = Path(_GROUPS, *filter(None, [controller]))
        own = base / path.lstrip("/")
        return str(own if (self._root / own / "cpu.stat").exists() or (self._root / own).is_dir() else base)

    def _read(self, name: str) -> str:
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            parts = []
            while part := os.read(descriptor, 1 << 16):
                parts.append(part)
            return b"".join(parts).decode("utf-8", "replace")
        except OSError:
            return ""
        finally:
            os.close(descriptor)


def _room(what: str, place: Path) -> Iterator[tuple[str, float]]:
    """What is left there for who is not root, and how much is in use."""
    try:
        told = os.statvfs(place)
    except OSError:
        return
    in_use = told.f_blocks - told.f_bfree
    yield f"node/{what}_free_bytes", told.f_bavail * told.f_frsize
    if in_use + told.f_bavail > 0:
        yield f"node/{what}_used_ratio", in_use / (in_use + told.f_bavail)
