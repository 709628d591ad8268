"""A run as containers on one engine: their names, and the arguments of docker that make them. Pure.

This is the guide's "manual container deployment": a bridge network for the run, a container for the coordinator and
one for each node. Files and the secret are copied into the containers before they start, so the engine may be far
away, and neither an argument nor a variable holds the secret.
"""

from __future__ import annotations

import csv
import io
import math
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmtrain.job import Job
from swarmtrain.swarm.parts import NO_GPU
from swarmtrain.swarm.stack import LABEL_ORIGIN, STOP_MARGIN
from swarmtrain.wire import names

PROGRAM = names.BUNDLE


@dataclass(frozen=True)
class Layout:
    """What the containers of one run are called.

    Args:
        job: the job.
        run: the run's id, ``digits.3``.
        stack: the run's name without dots, ``digits-3``.
        deployment: different for every submission.
        nodes: the nodes' names, in the order of their ranks.
        origin: where the run comes from, as text.
    """

    job: Job
    run: str
    stack: str
    deployment: str
    nodes: tuple[str, ...]
    origin: str = ""

    @property
    def network(self) -> str:
        return self.job.existing_network or self.stack

    @property
    def coordinator(self) -> str:
        return f"{self.stack}-{names.COORDINATOR_SERVICE}"

    def node(self, name: str) -> str:
        """The container of a node."""
        return f"{self.stack}-{name}"


def node_names(job: Job) -> tuple[str, ...]:
    """What the nodes are called: as the job says, or node0, node1, ..."""
    return job.node_names or tuple(f"node{index}" for index in range(job.nodes_max))


def create_network(layout: Layout) -> list[str]:
    """The arguments after ``docker`` that create the run's network."""
    return ["network", "create", "--driver", "bridge", *_labels(layout, "network"), layout.network]


def create_coordinator(layout: Layout) -> list[str]:
    """The arguments after ``docker`` that create the coordinator's container."""
    return [
        *_create(layout, layout.coordinator, names.COORDINATOR_SERVICE, names.COORDINATOR_SERVICE),
        *("--restart", "on-failure", *_variables(NO_GPU | {names.ENV_SUBMITTED: names.SUBMITTED})),
        *("--label", f"{LABEL_ORIGIN}={layout.origin}"),
        *_program(layout, "coordinator"),
    ]


def create_agent(
    layout: Layout,
    index: int,
    code: Sequence[str],
    *,
    has_nvidia: bool = False,
    open_files: int | None = None,
) -> list[str]:
    """The arguments after ``docker`` that create a node's container.

    Args:
        index: which node.
        code: where the parts of the user's code are in the container.
        has_nvidia: whether the engine can show GPUs to containers.
        open_files: how many the container may have; None: what the engine gives is enough.
    """
    job, node = layout.job, layout.nodes[index]
    grace = math.ceil(job.stop_grace + STOP_MARGIN)
    flags = ["--restart", "on-failure", "--stop-timeout", str(grace), "--shm-size", str(job.shm_size)]
    flags += _variables({names.ENV_SLOT: str(index), names.ENV_CODE: ":".join(code)})
    for volume in job.mounts:
        kind = "bind" if volume.is_path else "volume"
        flags += _mount(kind, volume.source, volume.target, read_only=volume.read_only)
    if job.resources.cpus is not None:
        flags += ["--cpus", f"{job.resources.cpus:g}"]
    if job.resources.memory is not None:
        flags += ["--memory", str(job.resources.memory)]
    if job.memlock:
        flags += ["--ulimit", "memlock=-1:-1"]
    if open_files is not None:
        flags += ["--ulimit", f"nofile={open_files}:{open_files}"]
    return [
        *_create(layout, layout.node(node), names.AGENT_SERVICE, node),
        *flags,
        *_gpus(job.resources.gpus, index, has_nvidia=has_nvidia),
        *_program(layout, "agent"),
    ]


def create_cleaner(stack: str, image: str, python: str, run: str) -> list[str]:
    """The arguments after ``docker`` that create a container to empty a run's directories."""
    return [
        *("create", "--name", f"{stack}-clean", "--user", "0:0", "--network", "none", "--no-healthcheck"),
        *_mount("volume", names.VOLUME, names.STORAGE),
        *_variables({names.ENV_STORAGE: names.STORAGE, **NO_GPU}),
        *("--entrypoint", python, image, PROGRAM, "clean", run),
    ]


def serve_files(container: str, python: str, node: str) -> list[str]:
    """Serve a node's files from the coordinator's container: on one engine they share the volume."""
    return [
        *("exec", "--detach", "--env", f"{names.ENV_NODE}={node}", container),
        *(python, PROGRAM, "files"),
    ]


def tar(files: Mapping[str, bytes], secrets: Mapping[str, bytes] | None = None) -> bytes:
    """A tar for ``docker cp - CONTAINER:/``, by absolute paths; secrets are readable by root alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        contents = [(path, data, 0o444) for path, data in files.items()]
        contents += [(path, data, 0o400) for path, data in (secrets or {}).items()]
        for directory in sorted({path.rpartition("/")[0] for path, _, _ in contents}):
            entry = tarfile.TarInfo(directory.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, data, mode in contents:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _create(layout: Layout, container: str, role: str, hostname: str) -> list[str]:
    return [
        *("create", "--name", container, "--hostname", hostname, "--network", layout.network),
        *("--user", "0:0", "--no-healthcheck", *_labels(layout, role)),
        *_mount("volume", names.VOLUME, names.STORAGE),
        *_variables(
            {
                names.ENV_SECRET_FILE: names.SECRET,
                names.ENV_JOB_FILE: names.JOB,
                names.ENV_STORAGE: names.STORAGE,
                names.ENV_COORDINATOR: f"{layout.coordinator}:{names.PORT}",
                names.ENV_NODE: hostname,
                names.ENV_DEPLOYMENT: layout.deployment,
            }
        ),
    ]


def _gpus(count: int | None, index: int, *, has_nvidia: bool) -> list[str]:
    """The GPUs of one node: so many of its own; every one of the engine where no number was asked for."""
    if count is None:
        return ["--gpus", "all"] if has_nvidia else []
    if count == 0:
        return _variables(NO_GPU)
    devices = ",".join(str(index * count + each) for each in range(count))
    return ["--gpus", f'"device={devices}"']


def _program(layout: Layout, part: str) -> list[str]:
    assert layout.job.image is not None, "check refuses a job without an image"
    return ["--entrypoint", layout.job.python, layout.job.image, PROGRAM, part]


def _labels(layout: Layout, role: str) -> list[str]:
    labels = {
        names.LABEL_JOB: layout.job.name,
        names.LABEL_RUN: layout.run,
        names.LABEL_DEPLOYMENT: layout.deployment,
        names.LABEL_ROLE: role,
    }
    return [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]


def _variables(variables: Mapping[str, str]) -> list[str]:
    return [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]


def _mount(kind: str, source: str, target: str, *, read_only: bool = False) -> list[str]:
    """A mount; its fields are read as CSV, so that paths may hold commas."""
    fields = [f"type={kind}", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return ["--mount", line.getvalue()]
