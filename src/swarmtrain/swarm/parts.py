"""Parts of a Compose document that our stack and the plain one share: networks, mounts, resources. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmtrain.docker.compose import literal
from swarmtrain.job import Job, Volume

Document = dict[str, Any]

VERSION = "3.8"  # the newest that a command line of 20.10 reads
NETWORK = "training"
NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void"}  # what the NVIDIA runtime takes for "none"

_ORDER = (
    *(
        "image",
        "hostname",
        "user",
        "entrypoint",
        "command",
        "init",
        "read_only",
        "cap_drop",
        "working_dir",
        "environment",
        "networks",
        "ports",
        "configs",
    ),
    *("secrets", "volumes", "ulimits", "healthcheck", "stop_grace_period", "deploy"),
)


def ordered(service: Document) -> Document:
    """A service with what a person looks for first at its top."""
    assert set(service) <= set(_ORDER), f"no order is known for {set(service) - set(_ORDER)}"
    return {key: service[key] for key in _ORDER if key in service}


def network_key(job: Job) -> str:
    """What the document calls the network that the job wants."""
    return "host" if job.network == "host" else NETWORK


def network_of(job: Job) -> Document:
    """The network that the job wants: one for the stack alone, or one that exists."""
    if job.network == "host":
        return {"external": True, "name": "host"}
    if job.existing_network:
        return {"external": True, "name": job.existing_network}
    network: Document = {"driver": "overlay", "attachable": True}
    if job.network == "encrypted":
        network["driver_opts"] = {"encrypted": "true"}
    return network


def volumes_of(job: Job) -> dict[str, Document]:
    """The user's named volumes, by the very names that they have on the nodes."""
    return {volume.source: {"name": volume.source} for volume in job.mounts if not volume.is_path}


def shared_memory(job: Job) -> Document:
    """/dev/shm: ``shm_size`` is ignored in a Swarm, and 64 MiB break data loaders and NCCL."""
    return {"type": "tmpfs", "target": "/dev/shm", "tmpfs": {"size": job.shm_size}}


def mount_of(volume: Volume) -> Document:
    """One of the user's volumes."""
    mount: Document = {
        "type": "bind" if volume.is_path else "volume",
        "source": literal(volume.source),
        "target": literal(volume.target),
    }
    return mount | {"read_only": True} if volume.read_only else mount


def resources_of(job: Job) -> Mapping[str, Any]:
    """What each node sets aside, and the most that it may use; empty for all there is."""
    wanted = job.resources
    amounts: Document = {}
    if wanted.cpus is not None:
        amounts["cpus"] = f"{wanted.cpus:g}"
    if wanted.memory is not None:
        amounts["memory"] = str(wanted.memory)
    resources: Document = {"limits": dict(amounts), "reservations": dict(amounts)} if amounts else {}
    if wanted.gpus:
        spec = {"kind": wanted.gpu_kind, "value": wanted.gpus}
        resources.setdefault("reservations", {})["generic_resources"] = [{"discrete_resource_spec": spec}]
    return resources


def workers_environment(job: Job) -> dict[str, str]:
    """Where no GPU is wanted, the NVIDIA runtime would still expose those that the image asks for."""
    return NO_GPU if job.resources.gpus == 0 else {}


def ulimits_of(job: Job, open_files: int | None) -> Document:
    """What a container's processes may have.

    No limit on locked memory, where the job asks for it; not every engine may lift it. As many open files as
    `Placement` says.
    """
    limits: Document = {"memlock": {"soft": -1, "hard": -1}} if job.memlock else {}
    if open_files is not None:
        limits["nofile"] = {"soft": open_files, "hard": open_files}
    return {"ulimits": limits} if limits else {}


def host_and_port(address: str, port: int) -> str:
    """``10.0.0.1:29400``, ``[fd00::1]:29400``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
