"""The docker launcher: containers on one engine, with a bridge network for each run. Needs no Swarm.

Runs are found again by their containers' labels. Every node of a run is on the same engine and keeps its directories
in the same volume.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Collection, Sequence

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError
from swarmtrain.job import LoadedJob
from swarmtrain.job.origin import Origin
from swarmtrain.launchers.base import Checked, Machines, Run, no_stack, parse_handle
from swarmtrain.launchers.docker import checks, containers, inspected
from swarmtrain.launchers.docker.containers import Layout
from swarmtrain.launchers.docker.inspected import Container, agents, coordinators
from swarmtrain.launchers.docker.machines import EngineMachines
from swarmtrain.launchers.link import await_answer, exec_link, left_in, waking
from swarmtrain.payload import bundle
from swarmtrain.payload.run_spec import secret_of, spec_of
from swarmtrain.protocol.requests import KILLED
from swarmtrain.protocol.status import Status
from swarmtrain.swarm import cluster
from swarmtrain.swarm.obstacles import Obstacle
from swarmtrain.swarm.plan import Plan
from swarmtrain.swarm.tasks import seconds
from swarmtrain.wire import names
from swarmtrain.wire.link import Link
from swarmtrain.wire.run_spec import Resumption

_SECONDS = 60.0
_START_SECONDS = 120.0  # in which a submission has started every container that it has made


class DockerLauncher:
    """Runs on one Docker engine.

    Args:
        docker: the engine; by default the one that the environment names.
    """

    name = "docker"

    def __init__(self, docker: Docker | None = None) -> None:
        self.docker = docker or Docker()
        self.say: Callable[[str], None] = lambda text: None

    def check(self, job: LoadedJob) -> checks.CheckedOnEngine:
        """See Launcher.check."""
        return checks.check(self.docker, job)

    def plan(self, job: LoadedJob, *, is_plain: bool = False) -> Plan:
        """There is none."""
        raise no_stack(self.name)

    def submit(self, checked: Checked, run: Run, resume: Resumption | None = None) -> None:
        """Create, fill and start the containers."""
        assert isinstance(checked, checks.CheckedOnEngine), "what `check` has returned"
        job, info = checked.job, checked.info
        layout = Layout(
            job.job,
            run.id,
            run.stack,
            secrets.token_hex(6),
            containers.node_names(job.job),
            Origin.of(job).dump(),
        )
        parts = {names.CODE.format(index=index): part for index, part in enumerate(checked.sent.parts())}
        task = spec_of(job)
        task = dataclasses.replace(task, cpus=task.cpus or info["NCPU"] / len(layout.nodes))
        files = {names.BUNDLE: bundle.build().data, names.JOB: task.dump().encode()}
        secret = {names.SECRET: secret_of(job, run.id, resume).dump().encode()}
        try:
            if job.job.existing_network is None:
                self.docker.run(*containers.create_network(layout), timeout=_SECONDS)
            self._create(
                layout.coordinator, containers.create_coordinator(layout), containers.tar(files, secret)
            )
            for index, node in enumerate(layout.nodes):
                args = containers.create_agent(
                    layout, index, list(parts), has_nvidia=checked.has_nvidia, open_files=checked.open_files
                )
                self._create(layout.node(node), args, containers.tar(files | parts, secret))
            everything = [layout.coordinator, *map(layout.node, layout.nodes)]
            self.docker.run("start", *everything, timeout=_SECONDS)
            self._copy(layout.coordinator, containers.tar({names.SUBMITTED: b""}))
        except BaseException:
            # also Ctrl-C: a part of it may be there, but not what another one of this id has made
            self._remove_objects(f"{names.LABEL_DEPLOYMENT}={layout.deployment}")
            raise

    def runs(self) -> list[Run]:
        """Every run that has a container left."""
        found: dict[str, list[Container]] = {}
        for container in self._containers():
            found.setdefault(container["Config"]["Labels"][names.LABEL_RUN], []).append(container)
        runs = []
        for handle, ours in found.items():
            job, number = parse_handle(handle)
            created = min(seconds(each["Created"]) for each in ours)
            live = any(map(inspected.is_up, agents(ours)))
            if not live and any(map(inspected.is_unstarted, agents(ours))):
                live = self._now() < created + _START_SECONDS
            rests = any(map(inspected.rests, coordinators(ours)))
            if number is not None:
                runs.append(
                    Run(job, number, self.name, created, inspected.origin(ours), live=live, rests=rests)
                )
        return sorted(runs, key=lambda run: (run.created, run))

    def connect(self, run: Run) -> Link:
        """A link to the run's coordinator."""
        container = self._coordinator(run)
        if inspected.rests(container):
            self.say(waking(run.id))
            self.docker.run("start", container["Id"], timeout=_SECONDS)
            return await_answer(lambda: exec_link(self.docker, container["Id"]))
        if container["State"]["Status"] != "running":
            raise ClusterError(
                f"the coordinator of {run.id} is not running: {inspected.ending(container)}",
                f"docker logs {inspected.name(container)} shows what it said",
            )
        return exec_link(self.docker, container["Id"])

    def may_answer(self, run: Run) -> bool:
        """See Launcher.may_answer: to connect is cheap here."""
        return True

    def left(self, run: Run) -> Status | None:
        """See Launcher.left."""
        return left_in(self.docker, self._coordinator(run)["Id"])

    def trouble(self, run: Run) -> Obstacle:
        """Why the run's containers do not start or stay."""
        found = self._containers(run)
        if not found:
            return Obstacle(f"{run.id} has no containers any more")
        troubles = [text for text in map(inspected.trouble, found) if text]
        if not run.live and not troubles and any(map(inspected.is_unstarted, found)):
            troubles = ["the client that submitted it went before it had started all of it"]
        return Obstacle("; ".join(troubles))

    def unheard(self, run: Run, heard: Collection[str]) -> str:
        """Of processes on one machine there is nothing to tell."""
        return ""

    def reach(self, run: Run, node: str) -> None:
        """Serve a node's files from the coordinator's container."""
        container = self._coordinator(run)
        python = container["Config"]["Entrypoint"][0]
        self.docker.run(*containers.serve_files(container["Id"], python, node), timeout=_SECONDS)

    def program(self, run: Run) -> list[str]:
        """See Launcher.program."""
        return [self._coordinator(run)["Config"]["Entrypoint"][0], "-I", names.BUNDLE]

    def machines(self, run: Run) -> Machines:
        """Every node is a container of this engine."""
        return EngineMachines(self.docker, lambda node: self.container(run, node))

    def container(self, run: Run, node: str) -> str:
        """The id of a node's container; of the coordinator's for the empty name.

        Raises:
            ClusterError: there is none.
        """
        if not node:
            return str(self._coordinator(run)["Id"])
        for container in agents(self._containers(run)):
            if container["Config"]["Hostname"] == node:
                return str(container["Id"])
        raise ClusterError(f"{run.id} has no container for {node}")

    def resize(self, run: Run, nodes: int, busy: Collection[str]) -> None:
        """Start containers that were stopped, or stop some, the last ones first."""
        ours = sorted(agents(self._containers(run)), key=inspected.name)
        idle = [each for each in ours if not inspected.is_up(each)]
        up = [each for each in ours if inspected.is_up(each)]
        if nodes > len(up):
            self._command("start", idle[: nodes - len(up)])
        up.sort(key=lambda each: each["Config"]["Hostname"] not in busy)
        self._command("stop", up[nodes:])

    def _command(self, word: str, found: Sequence[Container]) -> None:
        if found:
            patience = max(each["Config"].get("StopTimeout") or 0 for each in found) + _SECONDS
            self.docker.run(word, *(each["Id"] for each in found), timeout=patience)

    def recover(self, run: Run, node: str) -> None:
        """See Launcher.recover."""
        raise ClusterError(f"the coordinator of {run.id} cannot move: one engine has one machine")

    def kill(self, run: Run, reason: str = KILLED) -> None:
        """End all of it; the coordinator is started again as the archive, and begins by writing down the end."""
        found = self._containers(run)
        silent = [each for each in coordinators(found) if not inspected.rests(each)]
        self._end([*silent, *agents(found)])  # it first, or it would take the agents for lost
        for each in silent:
            self._copy(each["Id"], containers.tar({names.KILLED: reason.encode()}))
        self._command("start", silent)

    def refuse(self, run: Run, reason: str) -> None:
        """End it; its containers tell why."""
        self._end(agents(self._containers(run)))

    def _end(self, found: Sequence[Container]) -> None:
        running = [each["Id"] for each in found if inspected.is_up(each)]
        if running:
            self.docker.completed("kill", *running, timeout=_SECONDS)

    def remove(self, run: Run) -> None:
        """Remove the nodes' containers, empty the run's directories, then remove all else.

        The coordinator's container goes last: by it the run is found, if this is broken off and asked for again.
        """
        found = self._containers(run)
        if not found:
            raise ClusterError(f"{run.id} has no containers any more")
        image, python = found[0]["Image"], found[0]["Config"]["Entrypoint"][0]
        self._end(coordinators(found))
        if nodes := agents(found):
            self.docker.run("rm", "--force", *(each["Id"] for each in nodes), timeout=_SECONDS)
        cleaner = f"{run.stack}-clean"
        self.docker.completed("rm", "--force", cleaner, timeout=_SECONDS)
        try:
            args = containers.create_cleaner(run.stack, image, python, run.id)
            self._create(cleaner, args, containers.tar({names.BUNDLE: bundle.build().data}))
            self.docker.run("start", "--attach", cleaner, timeout=_SECONDS)
        except ClusterError:  # it would be so the next time, too
            self._remove_objects(f"{names.LABEL_RUN}={run.id}")
            raise
        finally:
            self.docker.completed("rm", "--force", cleaner, timeout=_SECONDS)
        self._remove_objects(f"{names.LABEL_RUN}={run.id}")

    def _create(self, name: str, args: list[str], content: bytes) -> None:
        self.docker.run(*args, timeout=_SECONDS)
        self._copy(name, content)

    def _copy(self, name: str, content: bytes) -> None:
        self.docker.run("cp", "-", f"{name}:/", input=content, timeout=_SECONDS)

    def _now(self) -> float:
        """What the engine takes for the time, by which it tells when containers were made."""
        return seconds(self.docker.json_lines("info", timeout=_SECONDS)[0].get("SystemTime", ""))

    def _containers(self, run: Run | None = None) -> Sequence[Container]:
        """The containers of a run, or of all of them, as Docker inspects them."""
        return self._labelled(names.LABEL_RUN + (f"={run.id}" if run else ""))

    def _labelled(self, label: str) -> Sequence[Container]:
        label = f"label={label}"
        ids = self.docker.run("ps", "--all", "--quiet", "--no-trunc", "--filter", label, timeout=_SECONDS)
        return cluster.inspect(self.docker, "container", ids.split())

    def _coordinator(self, run: Run) -> Container:
        for container in coordinators(self._containers(run)):
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
