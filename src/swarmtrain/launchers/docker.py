"""The docker launcher: containers on one engine, with a bridge network for each run. Needs no Swarm.

Runs are found again by their containers' labels. Every node of a run is on the same engine and keeps its directories
in the same volume.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Notice, Run, parse_handle
from swarmtrain.launchers.link import await_answer, exec_link, waking
from swarmtrain.swarm import bundle, cluster, code, containers, engines
from swarmtrain.swarm.code import Code
from swarmtrain.swarm.containers import Layout
from swarmtrain.swarm.docker import Docker
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.swarm.stack import LABEL_ORIGIN
from swarmtrain.swarm.task import check_environment, task_of, ticket_of
from swarmtrain.swarm.tasks import seconds
from swarmtrain.wire import names
from swarmtrain.wire.link import Link
from swarmtrain.wire.plural import plural
from swarmtrain.wire.task import Resumption

_SECONDS = 60.0
_UNUSED = ("constraints", "coordinator")
TOLD_TO_LEAVE = 143  # the exit code of an agent that somebody stops


class DockerLauncher:
    """Runs on one Docker engine.

    Args:
        docker: the engine; by default the one that the environment names.
    """

    name = "docker"

    def __init__(self, docker: Docker | None = None) -> None:
        self.docker = docker or Docker()
        self.say: Callable[[str], None] = lambda text: None
        self._checked: tuple[LoadedJob, Code] | None = None  # what `check` found last

    def check(self, job: LoadedJob) -> list[Notice]:
        """Refuse, before anything changes, what cannot work here."""
        wanted = job.job
        if wanted.image is None:
            raise RequestError(
                "the job names no image, and containers start from one",
                "set image: to one with Python and torch in it, or run without containers: --on local",
            )
        info = self.docker.json_lines("info", timeout=_SECONDS)[0]
        if self.docker.completed("image", "inspect", wanted.image, timeout=_SECONDS).returncode != 0:
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
        self._check_resources(job, info)
        self._check_network(job)
        check_environment(job)
        sent = code.of(job)
        self._checked = job, sent
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
        return [Notice(text) for text in (*notices, *sent.notices)]

    def submit(self, job: LoadedJob, run: Run, resume: Resumption | None = None) -> None:
        """Create, fill and start the containers."""
        if self._checked is None or self._checked[0] is not job:
            self.check(job)
        assert self._checked is not None, "a check leaves what it found"
        _, sent = self._checked
        layout = Layout(
            job.job,
            run.id,
            run.stack,
            secrets.token_hex(6),
            containers.node_names(job.job),
            Origin.of(job).dump(),
        )
        parts = {names.CODE.format(index=index): part for index, part in enumerate(sent.parts())}
        task = task_of(job.job)
        info = self.docker.json_lines("info", timeout=_SECONDS)[0]
        task = dataclasses.replace(task, cpus=task.cpus or info["NCPU"] / len(layout.nodes))
        files = {names.BUNDLE: bundle.build().data, names.JOB: task.dump().encode()}
        secret = {names.SECRET: ticket_of(job, run.id, resume).dump().encode()}
        try:
            if job.job.existing_network is None:
                self.docker.run(*containers.create_network(layout), timeout=_SECONDS)
            self._create(
                layout.coordinator, containers.create_coordinator(layout), containers.tar(files, secret)
            )
            for index, node in enumerate(layout.nodes):
                args = containers.create_agent(
                    layout, index, list(parts), has_nvidia=_has_nvidia(info), open_files=_open_files(info)
                )
                self._create(layout.node(node), args, containers.tar(files | parts, secret))
            everything = [layout.coordinator, *map(layout.node, layout.nodes)]
            self.docker.run("start", *everything, timeout=_SECONDS)
        except BaseException:
            # also Ctrl-C: a part of it may be there, but not what another one of this id has made
            self._remove_objects(f"{names.LABEL_DEPLOYMENT}={layout.deployment}")
            raise

    def runs(self) -> list[Run]:
        """Every run that has a container left."""
        found: dict[str, list[dict[str, Any]]] = {}
        for container in self._containers():
            found.setdefault(container["Config"]["Labels"][names.LABEL_RUN], []).append(container)
        runs = []
        for handle, ours in found.items():
            job, number = parse_handle(handle)
            live = any(
                each["State"]["Status"] != "exited" for each in ours if _role(each) == names.AGENT_SERVICE
            )
            created = min(seconds(each["Created"]) for each in ours)
            rests = any(map(_rests, (each for each in ours if _role(each) == names.COORDINATOR_SERVICE)))
            if number is not None:
                runs.append(Run(job, number, self.name, live, created, _origin(ours), rests=rests))
        return sorted(runs, key=lambda run: (run.created, run))

    def connect(self, run: Run) -> Link:
        """A link to the run's coordinator."""
        container = self._coordinator(run)
        if _rests(container):
            self.say(waking(run.id))
            self.docker.run("start", container["Id"], timeout=_SECONDS)
            return await_answer(lambda: exec_link(self.docker, container["Id"]))
        if container["State"]["Status"] != "running":
            raise ClusterError(
                f"the coordinator of {run.id} is not running: {_ending(container)}",
                f"docker logs {_name(container)} shows what it said",
            )
        return exec_link(self.docker, container["Id"])

    def trouble(self, run: Run) -> Obstacle:
        """Why the run's containers do not start or stay."""
        found = self._containers(run)
        if not found:
            return Obstacle(f"{run.id} has no containers any more")
        return Obstacle("; ".join(filter(None, map(_trouble, found))))

    def reach(self, run: Run, node: str) -> None:
        """Serve a node's files from the coordinator's container."""
        container = self._coordinator(run)
        python = container["Config"]["Entrypoint"][0]
        self.docker.run(*containers.serve_files(container["Id"], python, node), timeout=_SECONDS)

    def program(self, run: Run) -> list[str]:
        """See Launcher.program."""
        return [self._coordinator(run)["Config"]["Entrypoint"][0], "-I", names.BUNDLE]

    def container(self, run: Run, node: str) -> str:
        """The id of a node's container; of the coordinator's for the empty name.

        Raises:
            ClusterError: there is none.
        """
        if not node:
            return str(self._coordinator(run)["Id"])
        for container in self._containers(run):
            if _role(container) == names.AGENT_SERVICE and container["Config"]["Hostname"] == node:
                return str(container["Id"])
        raise ClusterError(f"{run.id} has no container for {node}")

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Start containers that were stopped, or stop some, the last ones first."""
        agents = sorted(
            (each for each in self._containers(run) if _role(each) == names.AGENT_SERVICE), key=_name
        )
        idle = [each for each in agents if not _is_up(each)]
        up = [each for each in agents if _is_up(each)]
        if nodes > len(up):
            self._command("start", idle[: nodes - len(up)])
        up.sort(key=lambda each: each["Config"]["Hostname"] not in busy)
        self._command("stop", up[nodes:])

    def _command(self, word: str, found: list[dict[str, Any]]) -> None:
        if found:
            patience = max(each["Config"].get("StopTimeout") or 0 for each in found) + _SECONDS
            self.docker.run(word, *(each["Id"] for each in found), timeout=patience)

    def recover(self, run: Run, node: str) -> None:
        """See Launcher.recover."""
        raise ClusterError(f"the coordinator of {run.id} cannot move: one engine has one machine")

    def kill(self, run: Run) -> None:
        """End the agents; the coordinator stays as the archive."""
        running = [
            each["Id"]
            for each in self._containers(run)
            if _role(each) == names.AGENT_SERVICE and _is_up(each)
        ]
        if running:
            self.docker.completed("kill", *running, timeout=_SECONDS)

    def refuse(self, run: Run, reason: str) -> None:
        """End it; its containers tell why."""
        self.kill(run)

    def remove(self, run: Run) -> None:
        """Remove the containers, empty the run's directories, remove the network."""
        found = self._containers(run)
        if not found:
            raise ClusterError(f"{run.id} has no containers any more")
        image, python = found[0]["Image"], found[0]["Config"]["Entrypoint"][0]
        self.docker.run("rm", "--force", *(each["Id"] for each in found), timeout=_SECONDS)
        cleaner = f"{run.stack}-clean"
        self.docker.completed("rm", "--force", cleaner, timeout=_SECONDS)
        try:
            args = containers.create_cleaner(run.stack, image, python, run.id)
            self._create(cleaner, args, containers.tar({names.BUNDLE: bundle.build().data}))
            self.docker.run("start", "--attach", cleaner, timeout=_SECONDS)
        finally:
            self.docker.completed("rm", "--force", cleaner, timeout=_SECONDS)
            self._remove_objects(f"{names.LABEL_RUN}={run.id}")

    def _create(self, name: str, args: list[str], content: bytes) -> None:
        self.docker.run(*args, timeout=_SECONDS)
        self.docker.run("cp", "-", f"{name}:/", input=content, timeout=_SECONDS)

    def _containers(self, run: Run | None = None) -> list[dict[str, Any]]:
        """The containers of a run, or of all of them, as Docker inspects them."""
        return self._labelled(names.LABEL_RUN + (f"={run.id}" if run else ""))

    def _labelled(self, label: str) -> list[dict[str, Any]]:
        label = f"label={label}"
        ids = self.docker.run("ps", "--all", "--quiet", "--no-trunc", "--filter", label, timeout=_SECONDS)
        return cluster.inspect(self.docker, "container", ids.split())

    def _coordinator(self, run: Run) -> dict[str, Any]:
        for container in self._containers(run):
            if _role(container) == names.COORDINATOR_SERVICE:
                return container
        raise ClusterError(f"{run.id} has no coordinator any more", "swarmtrain ps lists the runs there are")

    def _remove_objects(self, label: str) -> None:
        """Remove whatever there is with a label: all of a run, but for what is in the volume."""
        for container in self._labelled(label):
            self.docker.completed("rm", "--force", container["Id"], timeout=_SECONDS)
        networks = self.docker.run(
            "network", "ls", "--quiet", "--filter", f"label={label}", timeout=_SECONDS
        ).split()
        for network in networks:
            self.docker.run("network", "rm", network, timeout=_SECONDS)

    def _check_resources(self, job: LoadedJob, info: dict[str, Any]) -> None:
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

    def _check_network(self, job: LoadedJob) -> None:
        name = job.job.existing_network
        if name is None:
            return
        network = next((each for each in cluster.read_networks(self.docker) if each.name == name), None)
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


def _origin(containers: Sequence[dict[str, Any]]) -> Origin | None:
    labels = (each["Config"]["Labels"].get(LABEL_ORIGIN, "") for each in containers)
    return next(filter(None, map(Origin.load, labels)), None)


def _role(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"].get(names.LABEL_ROLE, ""))


def _rests(coordinator: dict[str, Any]) -> bool:
    """Whether a run's coordinator has gone some time after the end, as it does by itself."""
    state = coordinator["State"]
    return bool(state["Status"] == "exited" and state["ExitCode"] == 0 and not state["Error"])


def _is_up(container: dict[str, Any]) -> bool:
    return container["State"]["Status"] in ("running", "restarting", "paused")


def _name(container: dict[str, Any]) -> str:
    return str(container["Name"]).lstrip("/")


def _ending(container: dict[str, Any]) -> str:
    state = container["State"]
    if state["Error"]:
        return str(state["Error"])
    return f"it is {state['Status']}" + (f" with exit code {state['ExitCode']}" if state["ExitCode"] else "")


def _trouble(container: dict[str, Any]) -> str:
    """What is wrong with a container; empty while it runs or has done its work."""
    state, name = container["State"], _name(container)
    if state["Status"] == "exited" and state["ExitCode"] == TOLD_TO_LEAVE:
        return ""
    if state["OOMKilled"]:
        return f"{name} ran out of memory; raise resources.memory"
    if state["Status"] in ("created", "exited") and state["Error"]:
        return f"{name} did not start: {state['Error']}"
    if state["Status"] in ("dead", "paused"):
        return f"{name} is {state['Status']}"
    again = container.get("RestartCount", 0)
    if state["ExitCode"] and (state["Status"] == "exited" or (state["Status"] == "restarting" and again > 1)):
        often = f", {again} times" if again > 1 else ""
        return (
            f"{name} ended with exit code {state['ExitCode']}{often}; docker logs {name} shows what it said"
        )
    return ""
