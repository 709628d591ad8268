"""Checks of a stack file: what torchrun is told on each node, and whether the nodes can meet. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack, StackService
from swarmtrain.doctor.compose.torchrun import Launch
from swarmtrain.wire.plural import counted


def _rank(launch: Launch) -> int | None:
    text = launch.get("node_rank")
    return int(text) if text.isdecimal() else None


def _ranked(stack: HandWrittenStack) -> list[tuple[StackService, Launch, int]]:
    return [
        (service, launch, rank) for service, launch in stack.launches if (rank := _rank(launch)) is not None
    ]


def _rank_twice(stack: HandWrittenStack) -> Iterator[Flaw]:
    first: dict[int, StackService] = {}
    for service, launch, rank in _ranked(stack):
        if rank in first:
            yield Flaw(
                str(launch.where("node_rank")),
                f"{service.name} has --node_rank={rank}, as {first[rank].name} has: the second waits for "
                "ever, or breaks in",
                "each service a rank of its own, from 0 to nnodes-1",
            )
        first.setdefault(rank, service)


def _replicated_rank(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, _, rank in _ranked(stack):
        everywhere = service.mode.startswith("global")
        if service.replicas > 1 or everywhere:
            many = "a task on every node" if everywhere else f"{service.replicas} tasks"
            yield Flaw(
                str(service.line_of("deploy", "mode" if everywhere else "replicas")),
                f"{service.name} has {many}, and all of them --node_rank={rank}",
                "one service a node; or --rdzv_backend=c10d --rdzv_endpoint=..., which gives ranks out",
            )


def _static_rank(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, launch, _ in _ranked(stack):
        if service.replicas <= 1 and not service.mode.startswith("global"):
            yield Flaw(
                str(launch.where("node_rank")),
                "the rank is part of the command: after `docker service scale` to 2 two tasks have it, "
                "and the job breaks",
                "leave the number of tasks as it is; or --rdzv_backend=c10d, which gives ranks out",
            )


def _ranks_missing(stack: HandWrittenStack) -> Iterator[Flaw]:
    ranked = _ranked(stack)
    counts = {launch.nodes for _, launch, _ in ranked}
    if not ranked or len(counts) != 1:
        return
    nodes = counts.pop()
    if nodes is None:
        return
    have = {rank for _, _, rank in ranked}
    if beyond := sorted(rank for rank in have if rank >= nodes[1]):
        where = next(launch.where("node_rank") for _, launch, rank in ranked if rank == beyond[0])
        yield Flaw(
            str(where),
            f"--node_rank={beyond[0]} of {counted(nodes[1], 'node')}: ranks begin at 0",
            f"0 to {nodes[1] - 1}",
        )
    if (missing := sorted(set(range(nodes[0])) - have)) and len(have) == len(ranked) == nodes[0]:
        named = ", ".join(map(str, missing))
        yield Flaw(
            str(ranked[0][1].where("node_rank")),
            f"no service has --node_rank={named}: the others wait for it",
            "ranks 0 to nnodes-1",
        )


def _nodes_and_tasks(stack: HandWrittenStack) -> Iterator[Flaw]:
    launches = [each for each in stack.launches if not each[0].mode.startswith("global")]
    if not launches or len(launches) != len(stack.launches):
        return
    tasks = sum(service.replicas for service, _ in launches)
    _, launch = launches[0]
    counts = {each.get("nnodes") or "1" for _, each in launches}
    if len(counts) > 1:
        odd = next(each for _, each in launches if each.get("nnodes") != launch.get("nnodes"))
        yield Flaw(
            str(odd.where("nnodes")),
            f"--nnodes differs between services ({', '.join(sorted(counts))}): the nodes wait for "
            "different numbers",
            "the same --nnodes everywhere",
        )
        return
    if launch.nodes is None or "standalone" in launch.options:
        return
    least, most = launch.nodes
    if tasks < least:
        sentence = (
            f"--nnodes={launch.get('nnodes') or 1}, and the file starts {counted(tasks, 'task')}: they "
            "wait for the others for ever"
        )
        yield Flaw(str(launch.where("nnodes")), sentence, f"--nnodes={tasks}, or as many tasks")
    elif tasks > most:
        sentence = (
            f"--nnodes={launch.get('nnodes') or 1}, and the file starts {counted(tasks, 'task')}: not all "
            "of them can take part"
        )
        yield Flaw(str(launch.where("nnodes")), sentence, f"--nnodes={tasks}")


def _standalone(stack: HandWrittenStack) -> Iterator[Flaw]:
    many = sum(service.replicas for service in stack.training) > 1
    for service, launch in stack.launches:
        if "standalone" in launch.options and (many or service.mode.startswith("global")):
            yield Flaw(
                str(launch.where("standalone")),
                "--standalone trains on one node: each task trains by itself, on all of the data",
                "--rdzv_backend=c10d --rdzv_endpoint=HOST:PORT, the same on every node",
            )


def _meeting_place(stack: HandWrittenStack) -> Iterator[Flaw]:
    several = sum(service.replicas for service in stack.training) > 1
    for service, launch in stack.launches:
        host, _, line = launch.meeting
        if not host or "$" in host:
            if (
                not host
                and several
                and launch.nodes not in (None, (1, 1))
                and "MASTER_ADDR" not in service.environment
            ):
                yield Flaw(
                    str(launch.line),
                    "no --master_addr: torchrun looks for the others on its own node",
                    "--master_addr=SERVICE, of the one with --node_rank=0",
                )
            continue
        if host in ("localhost", "127.0.0.1", "0.0.0.0", "::1"):
            if several:
                yield Flaw(
                    str(line),
                    f"{host} is each container's own: the nodes never meet",
                    "the name of a service of this file",
                )
        elif not _is_address(host) and stack.called(host) is None and not stack.on_host(service):
            names = ", ".join(each.name for each in stack.services)
            yield Flaw(str(line), f"{host} names no service of this file", f"one of: {names}")
        elif not _is_address(host) and stack.on_host(service) and stack.called(host) is not None:
            yield Flaw(
                str(line),
                f"{host} cannot be resolved on the nodes' own network: names of services lead nowhere there",
                "the address of that node, and --local_addr on each",
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host  # a name of the outside
    return True


def _meeting_differs(stack: HandWrittenStack) -> Iterator[Flaw]:
    places = {
        (launch.meeting[0], launch.meeting[1] or "29500") for _, launch in stack.launches if launch.meeting[0]
    }
    if len(places) > 1:
        last = stack.launches[-1][1]
        named = ", ".join(sorted(":".join(place) for place in places))
        yield Flaw(
            str(last.meeting[2]),
            f"the nodes meet at different places: {named}",
            "one address and port for all",
        )


def _master_is_rank_0(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch, rank in _ranked(stack):
        host, _, line = launch.meeting
        master = stack.called(host)
        if (
            launch.is_static
            and rank == 0
            and master is not None
            and master.launch is not None
            and _rank(master.launch) not in (0, None)
        ):
            sentence = (
                f"--master_addr={host} is the node with rank {_rank(master.launch)}; the store is opened "
                "by rank 0, which is another one"
            )
            yield Flaw(str(line), sentence, "--master_addr: the service with --node_rank=0")


def _workers_and_gpus(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, launch in stack.launches:
        gpus, workers = service.gpus, launch.workers
        if gpus is not None and workers is not None and gpus != workers:
            where = str(launch.where("nproc_per_node"))
            if workers > gpus:
                yield Flaw(
                    where,
                    f"{counted(workers, 'worker')} on {counted(gpus, 'reserved GPU')}: NCCL refuses two on "
                    "one",
                    f"--nproc_per_node={gpus}",
                )
            else:
                yield Flaw(
                    where,
                    f"{counted(gpus, 'GPU')} reserved, and {counted(workers, 'worker')}: the rest does "
                    "nothing",
                    f"--nproc_per_node={gpus}",
                    severity=Severity.WARNING,
                )
        elif gpus is None and workers is not None and workers > 1:
            yield Flaw(
                str(launch.where("nproc_per_node")),
                f"{workers} workers, and no GPU is reserved: another task may use the same ones",
                "deploy.resources.reservations.generic_resources, if they are to train on GPUs",
                severity=Severity.NOTE,
            )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check("rank-twice", Severity.ERROR, "two services with one --node_rank", _rank_twice),
    Check(
        "rank-replicated",
        Severity.ERROR,
        "a fixed --node_rank in a service with several tasks",
        _replicated_rank,
    ),
    Check("rank-fixed", Severity.NOTE, "a fixed --node_rank, which forbids scaling", _static_rank),
    Check("rank-missing", Severity.ERROR, "ranks from 0 to nnodes-1, each there", _ranks_missing),
    Check("nnodes", Severity.ERROR, "--nnodes against the number of tasks", _nodes_and_tasks),
    Check("standalone", Severity.ERROR, "--standalone in several tasks", _standalone),
    Check(
        "meeting-place",
        Severity.ERROR,
        "--master_addr or --rdzv_endpoint that the nodes can reach",
        _meeting_place,
    ),
    Check("meeting-differs", Severity.ERROR, "one meeting place for all nodes", _meeting_differs),
    Check("master-rank", Severity.ERROR, "--master_addr is the node of rank 0", _master_is_rank_0),
    Check(
        "workers-gpus",
        Severity.ERROR,
        "--nproc_per_node against the GPUs that are reserved",
        _workers_and_gpus,
    ),
)
