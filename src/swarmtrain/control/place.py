"""Where a run goes, and where the runs are: the choice among the launchers.

Launchers are opened when they are needed, so ``--on local`` never touches Docker. `control.client` is the caller.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from swarmtrain.errors import ClusterError, RequestError

if TYPE_CHECKING:
    from swarmtrain.job import LoadedJob
    from swarmtrain.launchers.base import Launcher, Notice, Run

LAUNCHERS = ("local", "docker", "swarm")
_DOCKER_SECONDS = 15.0  # an engine behind ssh may take some; one that is down must not hang us


class Places:
    """The launchers that may be used.

    Args:
        on: the one that a person named; every one by default.
        launchers: the only ones there are, by name; all that come with swarmtrain by default.
        ask: says why there is no Swarm to deploy to; asks Docker by default.
    """

    def __init__(
        self,
        on: str | None = None,
        launchers: Mapping[str, Launcher] | None = None,
        ask: Callable[[], ClusterError | None] | None = None,
    ) -> None:
        if on is not None and on not in LAUNCHERS:
            raise RequestError(f"there is no launcher {on!r}", f"they are {', '.join(LAUNCHERS)}")
        self.on = on
        self._ask = ask or no_swarm
        self._open = dict(launchers or {})
        self._known = tuple(launchers) if launchers else LAUNCHERS

    def open(self, name: str) -> Launcher:
        """The launcher of that name."""
        if name not in self._open:
            module = importlib.import_module(f"swarmtrain.launchers.{name}")
            self._open[name] = getattr(module, f"{name.capitalize()}Launcher")()
        return self._open[name]

    def choose(self, loaded: LoadedJob) -> tuple[Launcher, Notice]:
        """The launcher for a job, and why.

        Raises:
            ClusterError: the job names nodes, which only a Swarm has, and there is none to speak to.
        """
        from swarmtrain.launchers.base import Notice

        if self.on is not None:
            return self.open(self.on), Notice(f"on {self.on}, as --on says")
        reason = self._ask()
        if reason is None:
            return self.open("swarm"), Notice("on swarm: the Docker endpoint is a Swarm manager")
        if loaded.job.node_names:
            names = ", ".join(loaded.job.node_names)
            raise ClusterError(
                f"the job names nodes ({names}), but {reason.message}", reason.hint
            ) from reason
        return self.open("local"), Notice(f"on local (processes on this machine): {reason.message}")

    def runs(self) -> list[Run]:
        """Every run that is kept anywhere, oldest first.

        Raises:
            ClusterError: the launcher that a person named cannot say.
        """
        if self.on is not None:
            return self.open(self.on).runs()
        found: list[Run] = []
        for name in self._known:
            try:
                found += self.open(name).runs()
            except ClusterError:
                continue  # no Docker here, so no runs there either; --on shows why
        return sorted(found, key=lambda run: (run.created, run.job, run.number))

    def find(self, handle: str) -> Run:
        """The run that a person means: a bare name is the latest one.

        Raises:
            RequestError: there is none, with the nearest name as a hint.
        """
        from swarmtrain.launchers.base import parse_handle

        job, number = parse_handle(handle)
        runs = self.runs()
        fitting = [run for run in runs if run.job == job and number in (None, run.number)]
        if fitting:
            return fitting[-1]
        raise RequestError(f"there is no run {handle}{self._where()}", _hint(handle, runs))

    def _where(self) -> str:
        return f" on {self.on}" if self.on else ""


def no_swarm() -> ClusterError | None:
    """Why no stack can be deployed to the Docker endpoint; None where it is a Swarm manager."""
    from swarmtrain.swarm.docker import Docker

    try:
        Docker().run("node", "ls", "--quiet", timeout=_DOCKER_SECONDS)
    except ClusterError as error:
        return error
    return None


def _hint(handle: str, runs: list[Run]) -> str:
    if not runs:
        return "none is kept; swarmtrain run starts one"
    names = list(dict.fromkeys(name for run in reversed(runs) for name in (run.job, run.id)))
    near = difflib.get_close_matches(handle, names, n=1)
    return f"did you mean {near[0]}?" if near else "swarmtrain ps -a lists them"
