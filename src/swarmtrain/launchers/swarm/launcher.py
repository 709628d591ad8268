"""The swarm launcher: a run is a stack, deployed by ``docker stack deploy`` and found again by its labels.

The coordinator is reached by ``docker exec``, on another manager through a relay here. Helpers, which relay, clean a
node or serve its files, are services in the run's own stack.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from swarmtrain.docker import toolkit
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.job import LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Checked, Machines, Notice, Run
from swarmtrain.launchers.link import await_answer, exec_link, left_in, waking
from swarmtrain.launchers.swarm import containers, scratch
from swarmtrain.launchers.swarm.helpers import Helper, await_helpers
from swarmtrain.launchers.swarm.machines import SwarmMachines
from swarmtrain.launchers.swarm.stacks import Stack, constraints, is_on_host, moves, role_of
from swarmtrain.payload.run_spec import secret_of
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import KILLED, StatusRequest
from swarmtrain.protocol.status import Status
from swarmtrain.swarm import cluster as facts
from swarmtrain.swarm import plain, plan, records, stack, tasks
from swarmtrain.swarm.cluster import SECONDS, Node, Service
from swarmtrain.swarm.eligibility import unfit
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.swarm.placement import check_stack_name
from swarmtrain.wire import names
from swarmtrain.wire.link import Link
from swarmtrain.wire.run_spec import Resumption


@dataclass(frozen=True)
class CheckedOnSwarm(Checked):
    """A job with its plan, and the cluster that it was made for."""

    cluster: facts.Cluster
    plan: plan.Plan


class SwarmLauncher:
    """Runs on a Docker Swarm.

    Args:
        docker: a manager of the Swarm; by default the one that the environment names.
    """

    name = "swarm"

    def __init__(self, docker: Docker | None = None) -> None:
        self.docker = docker or Docker()
        self.say: Callable[[str], None] = lambda text: None

    def plan(self, job: LoadedJob, *, is_plain: bool = False) -> plan.Plan:
        """See Launcher.plan."""
        cluster = facts.read(self.docker)
        if is_plain:
            return plain.make(job, cluster)
        planned = plan.make(job, cluster)
        numbers = [run.number for run in self.runs() if run.job == job.job.name]
        run = Run(job.job.name, max(numbers, default=0) + 1, self.name)
        return replace(planned, name=run.stack, secret=secret_of(job, run.id))

    def check(self, job: LoadedJob) -> CheckedOnSwarm:
        """Refuse, before anything changes, what cannot work here."""
        cluster = facts.read(self.docker)
        planned = plan.make(job, cluster)
        notices = (*planned.notices, *_toolkit_notices(job, cluster))
        return CheckedOnSwarm(job, tuple(map(Notice, notices)), planned.sent, cluster, planned)

    def submit(self, checked: Checked, run: Run, resume: Resumption | None = None) -> None:
        """Deploy the stack, as it was checked a moment ago; what has changed since, `stack deploy` notices."""
        assert isinstance(checked, CheckedOnSwarm), "what `check` has returned"
        job, cluster = checked.job, checked.cluster
        check_stack_name(run.stack, job.job.name, cluster)
        if any(service.stack == run.stack for service in cluster.services):
            raise ClusterError(f"there is a run {run.id} already", f"swarmtrain rm {run.id}")
        self._stack(run).deploy(checked.plan, secret_of(job, run.id, resume))

    def runs(self) -> list[Run]:
        """Every run whose stack or record is there."""
        scratch.sweep()  # every command begins with this list
        with ThreadPoolExecutor() as pool:  # behind ssh each question takes a connection
            recorded = pool.submit(records.read, self.docker)
            services = facts.read_services(self.docker, f"label={names.LABEL_JOB}")
        found: dict[tuple[str, int], list[Service]] = {}
        for service in services:
            job = service.labels[names.LABEL_JOB]
            number = service.stack.removeprefix(f"{job}-")
            if number.isdecimal() and service.stack == f"{job}-{int(number)}":
                found.setdefault((job, int(number)), []).append(service)
        ours = [each for theirs in found.values() for each in theirs]
        resting = tasks.resting(
            self.docker, [each for each in ours if role_of(each) == names.COORDINATOR_SERVICE]
        )
        runs = [_run(job, number, theirs, resting) for (job, number), theirs in found.items()]
        runs += [_refused(record) for record in recorded.result() if (record.job, record.number) not in found]
        return sorted(runs, key=lambda run: (run.created, run))

    def connect(self, run: Run) -> Link:
        """A link to the run's coordinator."""
        # One question instead of eight where it runs on the engine that is spoken to, as it does of most runs.
        if here := containers.running(self.docker, run.stack, names.COORDINATOR_SERVICE):
            return exec_link(self.docker, here[0])
        coordinator = self._coordinator(run)
        if coordinator is None:
            self.say(waking(run.id))
            self._stack(run).wake()
            return await_answer(lambda: self.connect(run))
        this = self.docker.json_lines("info", timeout=SECONDS)[0]["Swarm"]["NodeID"]
        if coordinator.node is None or coordinator.node.id == this:
            return exec_link(self.docker, coordinator.container)
        return exec_link(self.docker, self._relay(run, this))

    def may_answer(self, run: Run) -> bool:
        """Whether its container runs on the engine that is spoken to: one question, `connect` asks eight in vain."""
        return bool(containers.running(self.docker, run.stack, names.COORDINATOR_SERVICE))

    def _relay(self, run: Run, this: str) -> str:
        """A container on the engine spoken to, in the run's network, from which its coordinator is reached.

        It stays for some minutes, so that the next command finds it.
        """
        helper = Helper(self.docker, run.stack, "relay", self._node(this))
        if not helper.is_alive():
            helper.start(self._stack(run).model(names.AGENT_SERVICE), [])
        if failed := await_helpers(self.docker, run.stack, [helper], ("running",)):
            raise ClusterError(
                f"the coordinator of {run.id} is on another manager, and no relay to it starts: {failed[helper]}"
            )
        (task,) = (
            task for task in tasks.read(self.docker, run.stack) if task.service == helper.name and task.alive
        )
        return task.container

    def left(self, run: Run) -> Status | None:
        """See Launcher.left: Swarm keeps the coordinator's container, if it was on the engine spoken to."""
        found = containers.ended(self.docker, run.stack, names.COORDINATOR_SERVICE)
        return left_in(self.docker, found[0]) if found else None

    def trouble(self, run: Run) -> Obstacle:
        """What keeps the run's tasks from their place, or did so until it was refused."""
        for record in records.read(self.docker) if not run.live else ():
            if (record.job, record.number) == (run.job, run.number):
                return Obstacle(record.reason)
        found = tasks.read(self.docker, run.stack)
        return tasks.explain(found, self._now() if found else 0.0)

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        """Which nodes Swarm has started an agent on that has never been heard, and what to look at."""
        on_host = is_on_host(self._stack(run).model(names.AGENT_SERVICE)["Spec"])
        return tasks.unheard(tasks.read(self.docker, run.stack), heard, has_overlay=not on_host)

    def reach(self, run: Run, node: str) -> None:
        """Serve a node's files by a helper on it."""
        model = self._stack(run).model(names.AGENT_SERVICE)
        machine = self._node(node)
        helper = Helper(self.docker, run.stack, "files", machine)
        if helper.is_alive():
            return
        helper.start(model, [], {names.ENV_NODE: node})
        if failed := await_helpers(self.docker, run.stack, [helper], ("running", "complete")):
            raise ClusterError(f"the files of {run.id} on {node} cannot be reached: {failed[helper]}")

    def program(self, run: Run) -> list[str]:
        """See Launcher.program."""
        model = self._stack(run).model(names.AGENT_SERVICE)
        python = model["Spec"]["TaskTemplate"]["ContainerSpec"]["Command"][0]
        return [python, "-I", names.BUNDLE]

    def machines(self, run: Run) -> Machines:
        """Containers on the machine that is spoken to, and no more than that."""
        return SwarmMachines(self.docker, run)

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Scale the agents' service. Swarm chooses who goes; the coordinator has those that train save first."""
        agents = self._stack(run).services(names.AGENT_SERVICE)
        if [each.name for each in agents] != [f"{run.stack}_{names.AGENT_SERVICE}"]:
            raise ClusterError(
                f"the nodes of {run.id} are named, a service each", "give the job a range, as nodes: 2..4"
            )
        if agents[0].replicas != nodes:
            self._stack(run).scale(agents, nodes)

    def recover(self, run: Run, node: str) -> None:
        """Start the coordinator on another manager; it puts its journal together from what the agents hold."""
        machine = self._node(node)
        if machine.role != "manager" or machine.state != "ready":
            managers = [each.hostname for each in facts.read(self.docker).nodes if each.role == "manager"]
            raise ClusterError(
                f"{node} is no manager that is ready", f"managers of this Swarm: {', '.join(managers)}"
            )
        for task in tasks.read(self.docker, run.stack):
            lives = task.alive and task.node is not None and task.node.state == "ready"
            if task.role == names.COORDINATOR_SERVICE and lives and task.node is not None:
                raise ClusterError(
                    f"the coordinator of {run.id} may still live: Swarm says that {task.node.hostname} is there",
                    "it is started again by itself; a machine that has gone is noticed after about 15 s",
                )
        model = self._stack(run).model(names.COORDINATOR_SERVICE)["Spec"]
        if is_on_host(model):
            raise ClusterError(
                f"{run.id} uses the host's network: its agents know the coordinator by its machine's address",
                f"stop it, and go on from the snapshots: swarmtrain stop {run.id}; swarmtrain run --resume ...",
            )
        pins = [word for rule in constraints(model) for word in ("--constraint-rm", rule)]
        self.docker.run(
            *("service", "update", "--detach", *pins, "--constraint-add", f"node.id=={machine.id}"),
            *("--env-add", f"{names.ENV_MOVED}={moves(model) + 1}", model["Name"]),
            timeout=SECONDS,
        )

    def kill(self, run: Run, reason: str = KILLED) -> None:
        """Take the agents away; the coordinator stays as the archive, and begins by writing down the end."""
        ours = self._stack(run)
        for service in ours.services(names.COORDINATOR_SERVICE):
            if names.LABEL_KILLED not in service.labels:
                labels = {names.LABEL_KILLED: reason, names.LABEL_ENDED: f"{self._now():.0f}"}
                told = ["--env-add", f"{names.ENV_KILLED}={reason}"]
                told += [word for key, value in labels.items() for word in ("--label-add", f"{key}={value}")]
                self.docker.run("service", "update", "--detach", *told, service.name, timeout=SECONDS)
        ours.scale(ours.services(names.AGENT_SERVICE), 0)

    def refuse(self, run: Run, reason: str) -> None:
        """Remove it, but for a record of why."""
        ours = self._stack(run)
        records.write(self.docker, run.stack, _record(run, reason, ours.services()))
        ours.clear(run.id, self._members(run))

    def remove(self, run: Run) -> None:
        """Empty the run's directories on every node, then remove the stack, and what else tells of it."""
        ours = self._stack(run)
        recorded = records.remove(self.docker, run.stack)
        if ours.services():
            ours.clear(run.id, self._members(run))
        elif not recorded:
            raise ClusterError(f"there is no stack {run.stack}")

    def _stack(self, run: Run) -> Stack:
        return Stack(self.docker, run.stack)

    def _coordinator(self, run: Run) -> tasks.Task | None:
        """The running task of the coordinator; None where it has gone some time after the end."""
        found = tasks.read(self.docker, run.stack)
        if not found:
            raise ClusterError(f"there is no stack {run.stack}", "swarmtrain ps lists the runs there are")
        for task in found:
            here = task.state == "running" and task.desired == "running" and bool(task.container)
            if here and task.role == names.COORDINATOR_SERVICE:
                return task
        if tasks.rests(task for task in found if task.role == names.COORDINATOR_SERVICE):
            return None
        why = tasks.explain(found, self._now())
        raise ClusterError(
            f"the coordinator of {run.id} is not running" + (f": {why.text}" if why else " yet"),
            f"docker stack ps --no-trunc {run.stack} shows its tasks",
        )

    def _now(self) -> float:
        """What the manager takes for the time, by which Swarm tells when things happened."""
        return tasks.seconds(self.docker.json_lines("info", timeout=SECONDS)[0].get("SystemTime", ""))

    def _node(self, name: str) -> Node:
        nodes = facts.read(self.docker).nodes
        for node in nodes:
            if name in (node.hostname, node.id):
                return node
        raise ClusterError(
            f"this Swarm has no node {name} any more",
            f"its nodes are {', '.join(node.hostname for node in nodes)}",
        )

    def _members(self, run: Run) -> set[str]:
        """The nodes that took part, as far as the coordinator can be asked."""
        try:
            status = self.left(run) if run.rests else None
            if status is None:
                with self.connect(run) as link:
                    (reply,) = ask(link, StatusRequest())
                    status = reply.status
            return {member.node for member in status.members} if status is not None else set()
        except SwarmtrainError:
            return set()  # what Swarm remembers of the tasks has to do


def _run(job: str, number: int, services: Sequence[Service], resting: Collection[str] = ()) -> Run:
    rests = any(each.name in resting for each in services)
    agents = [each for each in services if role_of(each) == names.AGENT_SERVICE]
    return Run(
        job,
        number,
        SwarmLauncher.name,
        live=not rests and any(each.replicas != 0 for each in agents),
        rests=rests,
        killed=max(each.labels.get(names.LABEL_KILLED, "") for each in services),
        ended=max(float(each.labels.get(names.LABEL_ENDED, 0)) for each in services),
        created=min(tasks.seconds(each.created) for each in services),
        origin=next(
            filter(None, (Origin.load(each.labels.get(stack.LABEL_ORIGIN, "")) for each in services)), None
        ),
    )


def _toolkit_notices(job: LoadedJob, cluster: facts.Cluster) -> list[str]:
    """What is known against the NVIDIA toolkit of this machine, where it is a node that GPUs are reserved on."""
    this = cluster.this
    if not job.job.resources.gpus or this.hostname != socket.gethostname() or unfit(this, job.job):
        return []
    return list(filter(None, [toolkit.warning(toolkit.version(), this.hostname)]))


def _refused(record: records.RefusedRun) -> Run:
    """A run of which only the record is left."""
    return Run(
        record.job,
        record.number,
        SwarmLauncher.name,
        live=False,
        created=record.created,
        origin=record.origin,
        refused=True,
    )


def _record(run: Run, reason: str, services: Sequence[Service]) -> records.RefusedRun:
    """What is kept of a run that is refused."""
    found = _run(run.job, run.number, services) if services else run
    return records.RefusedRun(run.job, run.number, reason, found.created, found.origin)
