"""The plain stack, ``plan --plain``: the guide's form. One service a node, stock torchrun, nothing of ours at run time.

It is what a careful person writes by hand. torchrun's elastic rendezvous meets at a store in a service of its own, so
that the loss of a node does not take the store along; ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE`` and a short keep-alive
let the survivors of a lost node meet again within seconds instead of dying of the store's timeout. What stock torchrun
cannot do is said in notices. Pure, but for reading the code's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmtrain.docker.compose import Octal, dump, literal
from swarmtrain.errors import RequestError
from swarmtrain.job import Job, LoadedJob, Restart
from swarmtrain.job.units import format_duration
from swarmtrain.payload import bundle, code, zips
from swarmtrain.swarm.cluster import Cluster
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
from swarmtrain.swarm.placement import NodePlacement, Placement, choose
from swarmtrain.swarm.plan import STACK_FILE, Plan
from swarmtrain.wire.plural import counted

STORE = "rendezvous"
WORK = "/workspace"
MAX_CONFIGS = 20  # more files than this belong into an image

# Keys that only our agents act on.
_UNUSED = ("timeout", "start", "coordinator")
_UNUSED_RESTART = ("window", "node_timeout", "hang_timeout")

# A store that outlives every node's agent. torchrun can also keep it inside of one of them, and dies with that one.
_STORE_PROGRAM = (
    "import time; from torch.distributed import TCPStore; "
    "store = TCPStore('0.0.0.0', {port}, is_master=True, wait_for_workers=False); time.sleep(10**9)"
)
_HEADER = """\
# The job {job} as a plain Swarm stack: stock torchrun, one service a node. Made by swarmtrain, which it does not need.
#   docker stack deploy --resolve-image never --with-registry-auth -c {file} {job}
# Training goes on in the volume {job}-work of each node; remove that for a fresh start.
"""


@dataclass(frozen=True)
class Config:
    """One file of the user's, as a config."""

    name: str  # in the tree
    key: str
    file: str  # beside the stack
    executable: bool


def make(job: LoadedJob, cluster: Cluster) -> Plan:
    """The plain plan of a job on a cluster.

    Raises:
        RequestError: something of the job has no form in a plain stack. ClusterError: the cluster has no place for it.
    """
    placement = choose(job.job, cluster)
    sent = code.of(job)
    members = zips.unpack(sent.archive)
    notices = [*placement.notices, *sent.notices]
    if sent.directories:
        notices.append(f"{', '.join(sent.directories)}: empty, and a plain stack carries files only")
    configs: list[Config] = []
    if len(members) > MAX_CONFIGS or any(len(member.data) > code.PART_BYTES for member in members):
        notices.append(
            f"the code ({counted(len(members), 'file')}) is too large for a config a file: "
            f"the image {job.job.image} must hold it"
        )
        members = []
    for index, member in enumerate(members):
        key = f"code-{index:02d}-{bundle.digest(member.data)}"
        configs.append(Config(member.name, key, f"code/{member.name}", member.executable))
    if job.job.workers_per_node == "auto" and job.job.resources.gpus is None:
        notices.append(
            "one worker on each node: nothing in a plain stack counts GPUs: --gpus N, --workers-per-node N"
        )
    unused = [key for key in _UNUSED if key in job.sources]
    if unused:
        notices.append(f"{', '.join(unused)}: not used in a plain stack, which has no agents")
    parts = [
        f"restart.{key}"
        for key in _UNUSED_RESTART
        if getattr(job.job.restart, key) != getattr(Restart(), key)
    ]
    if parts:
        notices.append(f"{', '.join(parts)}: not used in a plain stack, where torchrun restarts the workers")
    notices.append("a hung or silently lost node is noticed only by the process group's own timeout")
    document = render(job.job, placement, configs)
    header = _HEADER.format(job=job.job.name, file=STACK_FILE)
    files = {config.file: member.data for config, member in zip(configs, members, strict=True)}
    return Plan(header + dump(document), files, placement, tuple(notices), sent=sent, name=job.job.name)


def render(job: Job, placement: Placement, configs: Sequence[Config]) -> Document:
    """The Compose document."""
    services = {STORE: _store(job, placement)}
    for index, place in enumerate(placement.places):
        services[f"node{index}"] = _node(job, placement, place, index, configs)
    document: Document = {
        "version": VERSION,
        "services": {name: ordered(service) for name, service in services.items()},
        "networks": {network_key(job): network_of(job)},
    }
    volumes = volumes_of(job)
    if configs:
        volumes["work"] = {"name": f"{job.name}-work"}
        document["configs"] = {config.key: {"file": f"./{config.file}"} for config in configs}
    return document | ({"volumes": volumes} if volumes else {})


def _store(job: Job, placement: Placement) -> Document:
    program = _STORE_PROGRAM.format(port=placement.port)
    return {
        "image": job.image,
        "entrypoint": [job.python, "-c", program],
        "command": [],
        "init": True,  # a program that is the first process of its container does not heed SIGTERM
        "environment": dict(NO_GPU),
        "networks": [network_key(job)],
        "healthcheck": {"disable": True},
        "deploy": {
            "endpoint_mode": "dnsrr",
            "placement": {"constraints": [f"node.id == {placement.coordinator.id}"]},
            "restart_policy": {"condition": "any", "delay": "1s"},
        },
    }


def _node(
    job: Job, placement: Placement, place: NodePlacement, index: int, configs: Sequence[Config]
) -> Document:
    name = f"node{index}"
    constraints = [place.constraint, *job.constraints]
    service: Document = {
        "image": job.image,
        "entrypoint": [job.python, "-m", "torch.distributed.run"],
        "command": _torchrun(job, placement, place),
        "environment": _environment(job),
        "networks": [network_key(job)],
        "volumes": [shared_memory(job), *map(mount_of, job.mounts)],
        **ulimits_of(job, placement.open_files),
        "healthcheck": {"disable": True},
        "stop_grace_period": format_duration(job.stop_grace),
        "deploy": {
            "endpoint_mode": "dnsrr",
            "placement": {"constraints": constraints},
            "restart_policy": _restart_policy(job),
        },
    }
    if job.network != "host":
        service["hostname"] = name
    if configs:
        service["working_dir"] = WORK
        service["volumes"].insert(0, {"type": "volume", "source": "work", "target": WORK})
        service["configs"] = [
            {
                "source": config.key,
                "target": f"{WORK}/{config.name}",
                "mode": Octal(0o555 if config.executable else 0o444),
            }
            for config in configs
        ]
    if resources := resources_of(job):
        service["deploy"]["resources"] = resources
    return service


def _restart_policy(job: Job) -> Document:
    """As often as torchrun itself; Swarm reads no attempts as any number of them."""
    if job.restart.max == 0:
        return {"condition": "none"}
    return {"condition": "on-failure", "delay": "1s", "max_attempts": job.restart.max}


def _torchrun(job: Job, placement: Placement, place: NodePlacement) -> list[str]:
    """The arguments of torchrun, the same on every node."""
    store = STORE if job.network != "host" else placement.coordinator.address
    workers = job.workers_per_node if job.workers_per_node != "auto" else job.resources.gpus or 1
    least, most = job.nodes_min, job.nodes_max
    conf = f"is_host=false,join_timeout={job.join_deadline:.0f},last_call_timeout=1"
    return [
        f"--nnodes={least if least == most else f'{least}:{most}'}",
        f"--nproc_per_node={workers}",
        f"--max_restarts={job.restart.max}",
        f"--rdzv_id={job.name}",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint={host_and_port(store, placement.port)}",
        f"--rdzv_conf={conf},keep_alive_interval=1,keep_alive_max_attempt=3",
        *([f"--local_addr={place.node.address}"] if job.network == "host" else []),
        *_target(job),
    ]


def _target(job: Job) -> list[str]:
    if job.script is not None:
        return [job.script, *job.args]
    if job.module is not None:
        return ["-m", job.module, *job.args]
    return ["--no_python", *(job.command or ()), *job.args]


def _environment(job: Job) -> dict[str, str | None]:
    """Torch's own settings, then the user's. One without a value is taken from where the stack is deployed."""
    environment: dict[str, str | None] = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    if job.network != "host":
        environment |= {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0"}
    if job.debug:
        environment |= {"NCCL_DEBUG": "INFO", "TORCH_SHOW_CPP_STACKTRACES": "1"}
    environment |= workers_environment(job)
    for name, value in job.env.items():
        if value is not None and "\n" in value:
            raise RequestError(f"env: {name} has several lines, which a plain stack cannot carry safely")
        environment[name] = None if value is None else literal(value)
    return environment
