"""The stack: a job and its placement as a Compose document that ``docker stack deploy`` takes. Pure.

One service runs the coordinator, on one manager. A count of nodes is one replicated service of agents with at most
one task a node; named nodes are one service each. What each setting is for:

- ``endpoint_mode: dnsrr``, because a virtual IP drops connections that are idle for 15 minutes and needs IPVS.
- ``restart_policy: on-failure``: an agent exits 0 when its run is over, and the coordinator some time after that. Job
  modes would restart whatever we say. ``max_attempts``, because nobody ends what never starts, as where an image is
  missing: Swarm would try it every second for ever, also after the end of the run, where no client is there.
- No health check on the coordinator: its name would resolve only once it is healthy, and agents wait for the name.
- ``/dev/shm`` is a tmpfs, because ``shm_size`` is ignored in a Swarm and 64 MiB break data loaders and NCCL.
- ``NVIDIA_VISIBLE_DEVICES: void`` on the coordinator, and on agents of a job with ``gpus: 0``, or the NVIDIA runtime
  exposes every GPU that the image asks for.
- ``ulimits: nofile``, where a node has an engine of 29 or newer: a data loader needs more than its 1024 open files.
- ``user: "0:0"``: the volume belongs to root on every node, whatever user the image names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmtrain.docker.compose import Octal, dump
from swarmtrain.job import Job
from swarmtrain.job.origin import Origin
from swarmtrain.job.units import format_duration
from swarmtrain.swarm.parts import (
    NO_GPU,
    VERSION,
    Document,
    host_and_port,
    mount_of,
    network_key,
    network_of,
    ordered,
    resources_of,
    shared_memory,
    ulimits_of,
    volumes_of,
    workers_environment,
)
from swarmtrain.swarm.placement import LABEL_PORT, NodePlacement, Placement
from swarmtrain.wire import names

SECRET = "secret"
BUNDLE = "bundle"
LABEL_LEAST = "swarmtrain.nodes"  # the fewest nodes that the run starts with
LABEL_ORIGIN = "swarmtrain.origin"  # on the coordinator: see job.origin
ATTEMPTS = 2000  # of Swarm with one task: half an hour of what cannot start, and enough for months of healing
STOP_MARGIN = 15.0  # seconds that an agent may take beyond what its workers may

_STACK = '{{index .Service.Labels "com.docker.stack.namespace"}}'
_HEADER = """\
# The job {job} as a Swarm stack, made by swarmtrain. The files that it names lie beside it where
# `swarmtrain plan -o DIRECTORY` has put them; then it is deployed by
#   docker stack deploy {flags} -c DIRECTORY/stack.yml {job}-NUMBER
# `secret` is made anew for each run: it holds the run's token and the job's variables.
"""
DEPLOY_FLAGS = ("--resolve-image", "never", "--with-registry-auth")


@dataclass(frozen=True)
class File:
    """A file that becomes a config: its name beside the stack, the config's name, where containers find it."""

    name: str
    config: str
    target: str


@dataclass(frozen=True)
class Files:
    """Everything that is delivered through configs."""

    bundle: File
    job: File
    code: tuple[File, ...] = field(default=())

    def all(self) -> tuple[File, ...]:
        return (self.bundle, self.job, *self.code)


def render(job: Job, placement: Placement, files: Files, origin: Origin | None = None) -> Document:
    """The Compose document."""
    agent = _Agent(job, placement, files)
    services = {names.COORDINATOR_SERVICE: _coordinator(job, placement, files, origin)}
    if placement.places:
        for index, place in enumerate(placement.places):
            services[f"{names.AGENT_SERVICE}-{index}"] = agent.named(place, index)
    else:
        services[names.AGENT_SERVICE] = agent.counted()
    return {
        "version": VERSION,
        "services": {name: ordered(service) for name, service in services.items()},
        "networks": {network_key(job): network_of(job)},
        "volumes": {
            names.VOLUME: {"name": names.VOLUME},
            **volumes_of(job),
        },
        "configs": {file.config: {"file": f"./{file.name}"} for file in files.all()},
        "secrets": {SECRET: {"file": f"./{SECRET}"}},
    }


def text_of(job: Job, document: Document) -> str:
    """The text that is printed and deployed."""
    return _HEADER.format(job=job.name, flags=" ".join(DEPLOY_FLAGS)) + dump(document)


def _coordinator(job: Job, placement: Placement, files: Files, origin: Origin | None) -> Document:
    service = _service(job, placement, names.COORDINATOR_SERVICE, [files.bundle, files.job])
    if origin is not None:
        service["deploy"]["labels"][LABEL_ORIGIN] = origin.dump()
    service["environment"] |= NO_GPU
    service |= {"healthcheck": {"disable": True}, "volumes": [_storage()]}
    service["deploy"] |= {
        "placement": {"constraints": [f"node.id == {placement.coordinator.id}"]},
        "restart_policy": _restart_policy(job),
    }
    return service


class _Agent:
    """The service of one agent or of all of them."""

    def __init__(self, job: Job, placement: Placement, files: Files) -> None:
        self.job, self.placement, self.files = job, placement, files

    def counted(self) -> Document:
        service = self._service("{{.Node.Hostname}}", "{{.Task.Slot}}", self.job.constraints)
        service["deploy"]["placement"]["max_replicas_per_node"] = 1
        service["deploy"] = {"replicas": self.job.nodes_max, **service["deploy"]}
        return service

    def named(self, place: NodePlacement, index: int) -> Document:
        return self._service(place.name, str(index + 1), (place.constraint, *self.job.constraints))

    def _service(self, node: str, slot: str, constraints: Sequence[str]) -> Document:
        job, files = self.job, self.files
        service = _service(job, self.placement, "agent", [files.bundle, files.job, *files.code])
        service["environment"] |= {names.ENV_NODE: node, names.ENV_SLOT: slot}
        if files.code:
            service["environment"][names.ENV_CODE] = ":".join(file.target for file in files.code)
        service["environment"] |= workers_environment(job)
        if job.network != "host":
            service["hostname"] = node
        service["healthcheck"] = {
            "test": ["CMD", job.python, names.BUNDLE, "alive"],
            "interval": "10s",
            "timeout": "10s",
            "retries": 6,
            "start_period": "30s",
        }
        service["stop_grace_period"] = format_duration(round(job.stop_grace + STOP_MARGIN, 3))
        service["volumes"] = [_storage(), shared_memory(job), *map(mount_of, job.mounts)]
        service |= ulimits_of(job, self.placement.open_files)
        service["deploy"] |= {
            "placement": {"constraints": list(constraints)} if constraints else {},
            "restart_policy": _restart_policy(job),
            "update_config": {"parallelism": 0},
        }
        if resources := resources_of(job):
            service["deploy"]["resources"] = resources
        return service


def _restart_policy(job: Job) -> Document:
    """An attempt takes more than its delay of a second, so they last longer than a run waits for its nodes."""
    waits = math.ceil(job.join_deadline + job.restart.node_timeout)
    return {"condition": "on-failure", "delay": "1s", "max_attempts": max(ATTEMPTS, waits)}


def _service(job: Job, placement: Placement, role: str, files: list[File]) -> Document:
    """What both kinds of service share."""
    labels = {names.LABEL_JOB: job.name, names.LABEL_ROLE: role, LABEL_LEAST: str(job.nodes_min)}
    if job.network == "host":
        labels[LABEL_PORT] = str(placement.port)
    if job.metrics_port and role == names.COORDINATOR_SERVICE:
        labels[names.LABEL_METRICS] = str(job.metrics_port)
    return {
        "image": job.image,
        "user": "0:0",
        "entrypoint": [job.python, names.BUNDLE],
        "command": [role],
        "environment": _environment(job, placement),
        "networks": [network_key(job)],
        "configs": [{"source": file.config, "target": file.target, "mode": Octal(0o444)} for file in files],
        "secrets": [{"source": SECRET, "target": names.SECRET.rpartition("/")[2], "mode": Octal(0o400)}],
        "deploy": {"endpoint_mode": "dnsrr", "labels": labels},
    }


def _environment(job: Job, placement: Placement) -> dict[str, str]:
    return {
        names.ENV_SECRET_FILE: names.SECRET,
        names.ENV_JOB_FILE: names.JOB,
        names.ENV_STORAGE: names.STORAGE,
        names.ENV_COORDINATOR: _coordinator_address(job, placement),
        names.ENV_NODE: "{{.Node.Hostname}}",
        names.ENV_NODE_ID: "{{.Node.ID}}",
        names.ENV_DEPLOYMENT: "{{.Service.ID}}",
    }


def _coordinator_address(job: Job, placement: Placement) -> str:
    if job.network == "host":
        return host_and_port(placement.coordinator.address, placement.port)
    if job.existing_network:  # where other runs may have a coordinator too
        return f"{_STACK}_{names.COORDINATOR_SERVICE}:{placement.port}"
    return f"{names.COORDINATOR_SERVICE}:{placement.port}"


def _storage() -> Document:
    return {"type": "volume", "source": names.VOLUME, "target": names.STORAGE}
