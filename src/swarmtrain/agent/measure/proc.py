"""What the kernel's files say, as numbers: /proc, and the control groups below /sys/fs/cgroup. Pure.

Sources: proc(5); Documentation/admin-guide/iostats.rst, accounting/psi.rst, cgroup-v1 and cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_SECTOR = 512  # bytes, in diskstats, whatever the disk's own are
# Parts of disks, and what is no disk or lies on top of one that is counted already.
_NO_DISK = re.compile(
    r"(loop|ram|zram|sr|fd|dm-|md|nbd|drbd)\d|([shv]d[a-z]+|xvd[a-z]+)\d|(nvme\d+n\d+|mmcblk\d+)p\d"
)
_UNLIMITED = 1 << 60  # bytes: what version 1 has for no limit is near 2^63


class CpuTimes(NamedTuple):
    """Times of all processors together since the start, in ticks."""

    busy: int
    idle: int
    wait: int
    steal: int

    @property
    def all(self) -> int:
        """All of it."""
        return sum(self)


def cpu_times(text: str) -> CpuTimes | None:
    """The first line of /proc/stat; guests' time is a part of their users'."""
    match = re.match(r"cpu +([\d ]+)", text)
    if match is None:
        return None
    user, nice, system, idle, wait, irq, softirq, steal, *_ = [*map(int, match[1].split()), *[0] * 8]
    return CpuTimes(user + nice + system + irq + softirq, idle, wait, steal)


class Throttling(NamedTuple):
    """In how many periods a container's limit of the processor was looked at, and in how many it held back."""

    periods: int
    throttled: int


def throttling(text: str) -> Throttling | None:
    """``cpu.stat``, of either version; None where there is no limit."""
    told = fields(text)
    periods = told.get("nr_periods", 0)
    return Throttling(periods, told.get("nr_throttled", 0)) if periods else None


def fields(text: str) -> dict[str, int]:
    """Lines of a word and a number, as /proc/vmstat and the files of control groups have them."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdecimal():
            found[name] = int(value)
    return found


def meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    pairs = re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)
    return {name: int(number) * 1024 for name, number in pairs}


def memory_in_use(usage: str, stat: str) -> int | None:
    """Bytes of a container that cannot simply be dropped; of either version."""
    if not usage.strip().isdecimal():
        return None
    told = fields(stat)
    return max(0, int(usage) - told.get("total_inactive_file", told.get("inactive_file", 0)))


def limit(text: str) -> int | None:
    """A limit in bytes; None where there is none."""
    text = text.strip()
    return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None


def pressure(text: str) -> int | None:
    """Microseconds since the start in which some process waited: ``total`` of the line ``some`` of /proc/pressure."""
    match = re.search(r"^some .*\btotal=(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else None


def load(text: str) -> float | None:
    """The last minute's of /proc/loadavg."""
    match = re.match(r"[\d.]+", text)
    return float(match[0]) if match else None


class DiskCounts(NamedTuple):
    """Of one disk since the start; times are milliseconds."""

    reads: int
    read_bytes: int
    read_ms: int
    writes: int
    written_bytes: int
    write_ms: int
    busy_ms: int


def disks(text: str) -> dict[str, DiskCounts]:
    """/proc/diskstats: whole disks that were used."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 14 or _NO_DISK.match(parts[2]):
            continue
        reads, _, read, read_ms, writes, _, written, write_ms, _, busy = map(int, parts[3:13])
        if reads or writes:
            sizes = read * _SECTOR, written * _SECTOR
            found[parts[2]] = DiskCounts(reads, sizes[0], read_ms, writes, sizes[1], write_ms, busy)
    return found


class InterfaceCounts(NamedTuple):
    """Of one interface since it is up."""

    received: int
    receive_errors: int
    receive_drops: int
    sent: int
    transmit_errors: int
    transmit_drops: int


def interfaces(text: str) -> dict[str, InterfaceCounts]:
    """/proc/net/dev: interfaces that were used, without the far ends of containers' ones."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        parts = rest.split()
        if (
            not colon
            or len(parts) < 16
            or not all(map(str.isdecimal, parts))
            or name.strip().startswith("veth")
        ):
            continue
        received, _, errors, drops, *_ = map(int, parts[:8])
        sent, _, sent_errors, sent_drops, *_ = map(int, parts[8:])
        if received or sent:
            found[name.strip()] = InterfaceCounts(received, errors, drops, sent, sent_errors, sent_drops)
    return found


def own_group(text: str) -> Mapping[str, str]:
    """/proc/self/cgroup: the path of this process by controller; that of version 2 has none, and is under ``""``."""
    found = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for each in controllers.split(","):
            found[each] = path
    return found
