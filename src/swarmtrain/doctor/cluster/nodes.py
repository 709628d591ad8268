"""Checks of the nodes by what a container on each finds there. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.cluster.facts import is_pretend
from swarmtrain.doctor.cluster.tried import TrialReports, clocks_ahead
from swarmtrain.protocol.probes.reports import MachineReport
from swarmtrain.wire.plural import counted

GIB = 1 << 30
_OLDEST_PYTHON = (3, 10)
_LITTLE_DISK, _NO_DISK = 10 * GIB, 1 * GIB
_LITTLE_MEMORY = 0.1  # of all
_SWAPPED = 0.25
_SLOW_WRITE = 1.0  # seconds for 4 MB
_FEW_FILES = 4096
_CLOCK_SECONDS = 0.5


# Why a container does not start, in Docker's words, and what is said instead: sentence and what to do.
_NO_STARTS = (
    (
        r"exec format error|no match(ing|es)? .*platform|unsupported platform",
        "the image is for another architecture than its",
        "docker buildx build --platform linux/amd64,linux/arm64 --push",
    ),
    (
        r"executable file not found|no such file or directory",
        "the image has no interpreter of this name",
        "--python /path/to/python, or another image",
    ),
    (
        r"non-zero exit",
        "the image's Python did not come to its end: it must be 3.10 or newer",
        "an image with a newer Python, or --python",
    ),
    (
        "",
        "no container of this image runs there",
        "docker pull IMAGE there, or docker save here and docker load there",
    ),
)


def _not_started(tried: TrialReports) -> Iterator[Flaw]:
    for node, why in sorted(tried.failed.items()):
        sentence, mend = next(each[1:] for each in _NO_STARTS if re.search(each[0], why))
        wrote = (f"it wrote: {tried.words}",) if tried.words else ()
        yield Flaw(node, sentence, mend, (why, *wrote))


def _gpus(tried: TrialReports) -> Iterator[Flaw]:
    pretended = {node.hostname for node in tried.nodes if is_pretend(node)}
    for each in tried.gpus:
        if each.node in pretended:
            continue
        seen = tuple(uuid for uuid in each.visible if uuid)
        evidence = (
            f"assigned: {', '.join(each.assigned) or 'nothing'}",
            f"visible: {', '.join(seen) or len(each.visible)}",
        )
        if not each.visible:
            yield Flaw(
                each.node,
                "a task that has reserved a GPU sees none",
                '"default-runtime": "nvidia" in its daemon.json, with the NVIDIA Container Toolkit and the driver',
                evidence,
            )
        elif len(each.visible) > len(each.assigned) or (seen and set(seen) != set(each.assigned)):
            yield Flaw(
                each.node,
                "a task that has reserved one GPU sees others: two tasks would share them unknowingly",
                'swarm-resource = "DOCKER_RESOURCE_GPU" in /etc/nvidia-container-runtime/config.toml, GPUs by their '
                "UUIDs in node-generic-resources, and a toolkit that is not 1.18",
                evidence,
            )
    heard = {each.node for each in tried.gpus}
    for node in tried.silent.get("gpus", []):
        if node not in heard | pretended:
            yield Flaw(
                node,
                "no GPU of it was free, so none was tried",
                "swarmtrain ps: who has them?",
                severity=Severity.NOTE,
            )


def _gpus_good(tried: TrialReports) -> str:
    pretended = {node.hostname for node in tried.nodes if is_pretend(node)}
    real = [each.node for each in tried.gpus if each.node not in pretended]
    return f"a task sees the GPU that it has reserved, on {', '.join(real)}" if real else ""


def _locked(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if each.infiniband and 0 <= each.memlock < GIB:
            yield Flaw(
                node,
                f"a container may lock {each.memlock >> 10} KiB of memory, and its InfiniBand adapter "
                "needs more",
                "memlock: true in the job; or default-ulimits in its daemon.json",
            )


def _silent(tried: TrialReports) -> Iterator[Flaw]:
    for node in tried.silent.get("answer", []):
        if node not in tried.failed:
            yield Flaw(
                node,
                "its container runs, and nothing that it says arrives: the node does not hear its manager "
                "well",
                "on it: journalctl -u docker; 2377/tcp must be open to the managers",
            )


def _started_good(tried: TrialReports) -> str:
    return f"a container runs on {counted(len(tried.machines), 'node')}" if tried.machines else ""


def _python(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if tuple(map(int, each.python.split(".")[:2])) < _OLDEST_PYTHON:
            yield Flaw(
                node,
                f"the image has Python {each.python}: swarmtrain needs 3.10",
                "an image with a newer Python, or --python",
            )


def _torch(tried: TrialReports) -> Iterator[Flaw]:
    by_version: dict[str, list[str]] = defaultdict(list)
    for node, each in tried.machines.items():
        by_version[each.torch].append(node)
    if len(by_version) > 1:
        yield Flaw(
            "",
            "one name of an image, and different torches: the nodes hold different images, which cannot "
            "train together",
            "a tag for each version, and docker pull on every node",
            tuple(
                f"torch {version or 'none'}: {', '.join(nodes)}"
                for version, nodes in sorted(by_version.items())
            ),
        )
    elif "" in by_version:
        yield Flaw(
            "",
            "the image has no torch (or not for this Python)",
            "an image with torch, or --python",
            severity=Severity.WARNING,
        )


def _torch_good(tried: TrialReports) -> str:
    versions = {each.torch for each in tried.machines.values()}
    return f"torch {versions.pop()} in the image" if len(versions) == 1 else ""


def _disk(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if each.write_seconds is None:
            yield Flaw(
                node, "nothing can be written to its disk", "on it: df -h /var/lib/docker, mount | grep ro,"
            )
        elif each.disk_free < _LITTLE_DISK:
            yield Flaw(
                node,
                f"{_size(each.disk_free)} of {_size(each.disk)} are free where its containers live",
                "docker system prune there, or a larger disk",
                severity=None if each.disk_free < _NO_DISK else Severity.WARNING,
            )


def _slow_disk(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if each.write_seconds is not None and each.write_seconds > _SLOW_WRITE:
            yield Flaw(
                node,
                f"4 MB take {each.write_seconds:.1f} s to be on its disk: snapshots will be slow",
                "on it: iostat -x 1, smartctl -a",
            )


def _memory(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if each.memory and each.memory_free < _LITTLE_MEMORY * each.memory:
            yield Flaw(
                node,
                f"{_size(each.memory_free)} of {_size(each.memory)} of memory are free",
                "on it: ps aux --sort -rss | head",
            )
        if each.swap and each.swap_used > _SWAPPED * each.swap:
            yield Flaw(
                node,
                f"it uses {_size(each.swap_used)} of swap: what comes back from there makes a step slow",
                "on it: swapoff -a && swapon -a, when there is memory again",
                severity=Severity.NOTE,
            )


def _memory_good(tried: TrialReports) -> str:
    free = [each.memory_free for each in tried.machines.values()]
    return f"at least {_size(min(free))} of memory are free on each" if free else ""


def _busy(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if each.cpus and each.load > 2 * each.cpus:
            yield Flaw(
                node,
                f"its load is {each.load:.0f} with {each.cpus:g} processors: something else works there",
                "on it: top",
            )


def _open_files(tried: TrialReports) -> Iterator[Flaw]:
    for node, each in tried.machines.items():
        if 0 <= each.nofile < _FEW_FILES:
            yield Flaw(
                node,
                f"a container may open {each.nofile} files there: few for data loaders and sockets",
                "nothing with swarmtrain run, whose stacks ask for more; else ulimits: {nofile: 524288}",
            )


def _kernels(tried: TrialReports) -> Iterator[Flaw]:
    yield from _differs(
        tried,
        lambda each: each.kernel,
        "kernels",
        "the same release everywhere, where something differs without a cause",
    )


def _mtus(tried: TrialReports) -> Iterator[Flaw]:
    yield from _differs(
        tried,
        lambda each: str(each.mtu),
        "packet sizes (MTU) in one overlay network",
        "docker network rm, then make it anew",
    )


def _differs(tried: TrialReports, of: Callable[[MachineReport], str], what: str, mend: str) -> Iterator[Flaw]:
    by_value: dict[str, list[str]] = defaultdict(list)
    for node, each in tried.machines.items():
        by_value[of(each)].append(node)
    if len(by_value) > 1:
        yield Flaw(
            "",
            f"the nodes have different {what}",
            mend,
            tuple(f"{value}: {', '.join(nodes)}" for value, nodes in sorted(by_value.items())),
        )


def _clocks(tried: TrialReports) -> Iterator[Flaw]:
    offsets = clocks_ahead(tried.pairs)
    if len(offsets) == 2:  # of two, nobody can tell which is right
        apart = max(offsets.values()) - min(offsets.values())
        if apart > _CLOCK_SECONDS:
            yield Flaw(", ".join(sorted(offsets)), f"their clocks are {apart:.1f} s apart", _MEND_CLOCK)
        return
    for node, offset in sorted(offsets.items()):
        if abs(offset) > _CLOCK_SECONDS:
            yield Flaw(
                node,
                f"its clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the others': "
                "times in logs "
                "mislead, and certificates may not hold",
                _MEND_CLOCK,
            )


_MEND_CLOCK = "on it: timedatectl set-ntp true, or systemctl restart chrony"


def _clocks_good(tried: TrialReports) -> str:
    offsets = clocks_ahead(tried.pairs).values()
    return f"clocks are within {(max(offsets) - min(offsets)) * 1000:.0f} ms of each other" if offsets else ""


def _size(amount: float) -> str:
    return f"{amount / GIB:.1f} GiB"


CHECKS: tuple[Check[TrialReports], ...] = (
    Check(
        "image-missing",
        Severity.ERROR,
        "nodes that do not run the image",
        _not_started,
        _started_good,
    ),
    Check("node-silent", Severity.ERROR, "nodes whose containers are not heard", _silent),
    Check("image-python", Severity.ERROR, "a Python that is new enough", _python),
    Check("image-torch", Severity.ERROR, "the same torch on every node", _torch, _torch_good),
    Check("disk", Severity.ERROR, "room on the disk, and whether it can be written", _disk),
    Check("disk-slow", Severity.WARNING, "how long a flushed write takes", _slow_disk),
    Check("memory", Severity.WARNING, "free memory, and swap in use", _memory, _memory_good),
    Check("busy", Severity.WARNING, "nodes on which something else works", _busy),
    Check("container-files", Severity.WARNING, "how many files a container may open", _open_files),
    Check(
        "gpu-assigned",
        Severity.ERROR,
        "whether a task sees the GPU that it reserves, and no other",
        _gpus,
        _gpus_good,
    ),
    Check(
        "memlock",
        Severity.WARNING,
        "how much memory a container may lock, where there is InfiniBand",
        _locked,
    ),
    Check("kernels", Severity.NOTE, "kernels of different versions", _kernels),
    Check("network-mtu", Severity.WARNING, "packet sizes that differ between nodes", _mtus),
    Check("clocks", Severity.WARNING, "clocks that differ", _clocks, _clocks_good),
)
