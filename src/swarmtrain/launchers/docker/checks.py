"""Whether one engine fits a job: what the docker launcher refuses before it changes anything, and what it chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.launchers.base import Checked, Notice
from swarmtrain.payload import code
from swarmtrain.payload.run_spec import check_environment
from swarmtrain.swarm import cluster, engines
from swarmtrain.wire.plural import plural

_SECONDS = 60.0
_UNUSED = ("constraints", "coordinator")


@dataclass(frozen=True)
class CheckedOnEngine(Checked):
    """A job that fits, and what the engine says of itself (``docker info``)."""

    info: Mapping[str, Any]

    @property
    def has_nvidia(self) -> bool:
        """Whether containers of this engine can see its GPUs."""
        return _has_nvidia(self.info)

    @property
    def open_files(self) -> int | None:
        """How many files a container is to have, where this engine gives it too few."""
        return _open_files(self.info)


def check(docker: Docker, job: LoadedJob) -> CheckedOnEngine:
    """A job that fits an engine; see Launcher.check."""
    wanted = job.job
    if wanted.image is None:
        raise RequestError(
            "the job names no image, and containers start from one",
            "set image: to one with Python and torch in it, or run without containers: --on local",
        )
    info = docker.json_lines("info", timeout=_SECONDS)[0]
    if docker.completed("image", "inspect", wanted.image, timeout=_SECONDS).returncode != 0:
        raise ClusterError(
            f"this engine has no image {wanted.image}", f"docker pull {wanted.image}, or docker build it"
        )
    if wanted.resources.gpus and not _has_nvidia(info):
        raise ClusterError(
            "the job asks for GPUs, and this engine has no nvidia runtime",
            "install the NVIDIA Container Toolkit: nvidia-ctk runtime configure --runtime=docker",
        )
    if _would_share_gpus(wanted, info):
        raise ClusterError(
            f"all {wanted.nodes_max} nodes would see the same GPUs of this engine, which NCCL refuses",
            "--gpus N gives each node N of its own; --gpus 0 to train on processors, or --backend gloo to share "
            "them on purpose",
        )
    _check_resources(job, info)
    _check_network(docker, job)
    check_environment(job)
    sent = code.of(job)
    all_of_them = f"all {wanted.nodes_max} nodes are containers"
    which = plural(wanted.nodes_max, "the one node is a container", all_of_them)
    notices = [f"{which} on one engine, {info.get('Name', '')}"]
    notices += _gpu_notices(wanted, info)
    if _open_files(info) is not None:
        notices.append(engines.files_notice(info["ServerVersion"]))
    unused = [key for key in _UNUSED if key in job.sources]
    if wanted.network in ("host", "encrypted"):
        unused.append("network")
    if unused:
        notices.append(
            f"{', '.join(unused)}: not used on docker, where the run has a bridge network of its own"
        )
    return CheckedOnEngine(job, tuple(map(Notice, (*notices, *sent.notices))), sent, info)


def _check_resources(job: LoadedJob, info: Mapping[str, Any]) -> None:
    wanted = job.job.resources
    if wanted.cpus is not None and wanted.cpus > info["NCPU"]:
        raise ClusterError(
            f"this engine has {info['NCPU']} CPUs, not {wanted.cpus:g}", "ask for less under resources:"
        )
    if wanted.memory is not None and wanted.memory > info["MemTotal"]:
        raise ClusterError(
            f"this engine has {info['MemTotal'] >> 20}m of memory, not {wanted.memory >> 20}m",
            "ask for less under resources:",
        )


def _check_network(docker: Docker, job: LoadedJob) -> None:
    name = job.job.existing_network
    if name is None:
        return
    network = next((each for each in cluster.read_networks(docker) if each.name == name), None)
    if network is None:
        raise ClusterError(f"there is no network {name}", f"make one with: docker network create {name}")
    if network.scope == "swarm" and not network.attachable:
        raise ClusterError(f"network {name} is not attachable", "use another one")


def _open_files(info: Mapping[str, Any]) -> int | None:
    """How many files a container may have, where this engine gives it too few."""
    return engines.OPEN_FILES if engines.has_few_files(info.get("ServerVersion", "")) else None


def _has_nvidia(info: Mapping[str, Any]) -> bool:
    return "nvidia" in (info.get("Runtimes") or {})


def _would_share_gpus(job: Job, info: Mapping[str, Any]) -> bool:
    """Whether ranks of different nodes would take the same GPU. How many there are, an engine does not say."""
    return _has_nvidia(info) and job.resources.gpus is None and job.nodes_max > 1 and job.backend != "gloo"


def _gpu_notices(job: Job, info: Mapping[str, Any]) -> list[str]:
    """What the nodes see where the job does not say."""
    if job.resources.gpus is not None:
        return []
    if _has_nvidia(info):
        return ["every node sees all GPUs of this engine; --gpus N gives each N of its own, --gpus 0 none"]
    return [] if job.backend == "gloo" else ["training on CPUs: this engine has no nvidia runtime"]
