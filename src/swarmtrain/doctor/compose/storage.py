"""Checks of a stack file: shared memory, files that must be there or stay, limits. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack
from swarmtrain.swarm.engines import OPEN_FILES, has_few_files

_SHM = "volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 4294967296}}]"
# Flags in which scripts take the place of what they save.
_SAVES = (
    "--snapshot_path",
    "--snapshot-path",
    "--checkpoint",
    "--checkpoint_dir",
    "--checkpoint-dir",
    "--output_dir",
    "--save_dir",
)
_FEW_FILES = 1024


def _shared_memory(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        if not any(mount.target == "/dev/shm" for mount in service.mounts):
            yield Flaw(
                str(service.line_of("volumes")),
                "/dev/shm has 64 MiB, too few for DataLoader workers and for NCCL",
                _SHM,
            )


def _binds(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for mount in service.mounts:
            if mount.kind != "bind" or mount.source.startswith(("/var/run/docker.sock", "/dev/", "/etc/")):
                continue
            relative = mount.source.startswith((".", "~"))
            sentence = (
                f"{mount.source} is a directory beside this file on the machine that deploys: every node "
                "must have the same path"
                if relative
                else f"{mount.source} must be there on every node: Swarm makes no directories, and refuses "
                "the task"
            )
            yield Flaw(
                str(mount.line), sentence, "a named volume; or mkdir on each node, and the absolute path"
            )


def _saved(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, launch in stack.launches:
        for flag in _SAVES:
            path = launch.value_of(flag)
            kept = [mount.target for mount in service.mounts if mount.kind != "tmpfs"]
            root = service.written.text("working_dir")
            whole = path if path.startswith("/") else f"{root.rstrip('/')}/{path}" if root else ""
            if path and not any(
                whole == target or whole.startswith(f"{target.rstrip('/')}/") for target in kept
            ):
                if not whole and kept:
                    continue  # beneath the image's own working directory, which may be one of them
                yield Flaw(
                    str(stack.source.line_of(flag, service.written.get("command") or service.written)),
                    f"{flag} {path} lies in the container: a task that is started again has a new one, and "
                    "begins anew",
                    "a named volume, and a path below it; each node then keeps its own, so the ranks must "
                    "agree on which they load",
                )


def _local_driver(stack: HandWrittenStack) -> Iterator[Flaw]:
    for name, written in stack.source.root.entries("volumes").items():
        driver = written.get("driver")
        if driver is not None and driver.text() == "local" and written.get("driver_opts") is None:
            yield Flaw(
                str(driver.line),
                f"{name} is another volume on every node: what one writes the others do not see",
                "nothing, if each node is to have its own; else a driver that shares (NFS by driver_opts)",
            )


def _open_files(stack: HandWrittenStack) -> Iterator[Flaw]:
    engines = (
        sorted({node.engine for node in stack.cluster.nodes if has_few_files(node.engine)})
        if stack.cluster
        else []
    )
    mend = f"ulimits: {{nofile: {{soft: {OPEN_FILES}, hard: {OPEN_FILES}}}}}"
    for service in stack.training:
        limit = service.written.get("ulimits", "nofile")
        if limit is None and engines:
            sentence = f"Docker {engines[0]}, which nodes here have, gives containers 1024 open files"
            yield Flaw(str(service.line), sentence, mend)
        elif limit is not None:
            text = limit.text() or limit.text("soft")
            if text.isdecimal() and int(text) <= _FEW_FILES:
                yield Flaw(str(limit.line), f"{text} open files are few for data loaders and sockets", mend)


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check("shared-memory", Severity.WARNING, "room in /dev/shm", _shared_memory),
    Check("bind-mount", Severity.WARNING, "directories that must be there on every node", _binds),
    Check("snapshots-lost", Severity.WARNING, "snapshots that go with the container", _saved),
    Check("volume-local", Severity.NOTE, "volumes that are another one on every node", _local_driver),
    Check("open-files", Severity.WARNING, "how many files a container may open", _open_files),
)
