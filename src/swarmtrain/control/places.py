"""Where a run goes, and where the runs are: the choice among the launchers.

Launchers are opened when they are needed, so ``--on local`` never touches Docker. `control.client` is the caller.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from swarmtrain.errors import ClusterError, RequestError, in_short

if TYPE_CHECKING:
    from swarmtrain.job import Job, LoadedJob
    from swarmtrain.launchers.base import Launcher, Notice, Run

LAUNCHERS = ("local", "docker", "swarm")
_DOCKER_SECONDS = 15.0  # an engine behind ssh may take some; one that is down must not hang us


class Places:
    """The launchers that may be used.

    Args:
        on: the one that a person named; every one by default.
        launchers: the only ones there are, by name; all that come with swarmtrain by default.
        ask: says why there is no Swarm to deploy to; asks Docker by default.
        pointer: says what points docker at an engine, if anything does; looks at the environment by default.
        warn: is told, once, where runs could not be looked for although something points there.
        say: is told what takes a while.
    """

    def __init__(
        self,
        on: str | None = None,
        launchers: Mapping[str, Launcher] | None = None,
        ask: Callable[[], ClusterError | None] | None = None,
        pointer: Callable[[], str] | None = None,
        warn: Callable[[str], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        if on is not None and on not in LAUNCHERS:
            raise RequestError(f"there is no launcher {on!r}", f"they are {', '.join(LAUNCHERS)}")
        self.on = on
        self._ask = ask or no_swarm
        self._pointer = pointer or docker_pointer
        self._warn, self._say = warn, say
        self._open = dict(launchers or {})
        self._known = tuple(launchers) if launchers else LAUNCHERS

    def open(self, name: str) -> Launcher:
        """The launcher of that name."""
        if name not in self._open:
            module = importlib.import_module(f"swarmtrain.launchers.{name}")
            launcher = self._open[name] = getattr(module, f"{name.capitalize()}Launcher")()
            launcher.say = self._say
        return self._open[name]

    def choose(self, loaded: LoadedJob) -> tuple[Launcher, Notice]:
        """The launcher for a job, and why.

        A run is here only where nothing asks for a Swarm: no node's name, no pointer of docker, no image.

        Raises:
            ClusterError: something does, and there is no Swarm to speak to.
        """
        from swarmtrain.launchers.base import Notice

        if self.on is not None:
            return self.open(self.on), Notice(f"on {self.on}, as asked")
        reason = self._ask()
        if reason is None:
            return self.open("swarm"), Notice("on swarm: the Docker endpoint is a Swarm manager")
        if wish := self._wish(loaded.job):
            raise ClusterError(
                f"{wish}, but {in_short(reason)}",
                "; ".join(filter(None, [reason.hint, "to train on this machine: --on local"])),
            ) from reason
        return self.open("local"), Notice(f"on local (processes on this machine): {in_short(reason)}")

    def _wish(self, job: Job) -> str:
        """What asks for a Swarm, in words; empty where nothing does."""
        if job.node_names:
            return f"the job names nodes ({', '.join(job.node_names)})"
        return self._pointer() or (f"the job names an image ({job.image})" if job.image else "")

    def runs(self) -> list[Run]:
        """Every run that is kept anywhere, oldest first.

        Raises:
            ClusterError: the launcher that a person named cannot say.
        """
        if self.on is not None:
            return self.open(self.on).runs()
        found: list[Run] = []
        silent: list[str] = []
        for name in self._known:
            try:
                found += self.open(name).runs()
            except ClusterError as error:  # where nothing points at Docker, its absence means: no runs there
                silent.append(in_short(error))
        self._warn_of(silent)
        return in_order(found)

    def _warn_of(self, silent: list[str]) -> None:
        from swarmtrain.docker.command import NOT_IN_SWARM

        reasons = dict.fromkeys(reason for reason in silent if reason != NOT_IN_SWARM)
        if reasons and self._warn is not None and (pointer := self._pointer()):
            self._warn(f"Docker was not asked for runs: {pointer}, but {'; '.join(reasons)}")
            self._warn = None

    def find(self, handle: str, *, in_one_place: bool = False) -> Run:
        """The run that a person means: a bare name is the latest one, wherever that is.

        Args:
            in_one_place: refuse a bare name too where runs of the job are in several places.

        Raises:
            RequestError: there is none, with the nearest name as a hint; or there are several of that name.
        """
        from swarmtrain.launchers.base import parse_handle

        job, number = parse_handle(handle)
        runs = self.runs()
        fitting = [run for run in runs if run.job == job and number in (None, run.number)]
        if number is not None or in_one_place:
            check_one_place(handle, fitting)
        if fitting:
            return fitting[-1]
        raise RequestError(f"there is no run {handle}{self._where()}", _hint(handle, runs))

    def _where(self) -> str:
        return f" on {self.on}" if self.on else ""


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Runs, oldest first. Those of one job in one place are ordered by their numbers, whatever clocks were set to."""
    begun: dict[tuple[str, str], float] = {}
    moments: dict[tuple[str, str, int], float] = {}
    for run in sorted(runs, key=lambda run: run.number):
        series = (run.on, run.job)
        begun[series] = max(run.created, begun.get(series, 0.0))
        moments[run.on, run.job, run.number] = begun[series]
    return sorted(runs, key=lambda run: (moments[run.on, run.job, run.number], run.job, run.number))


def check_one_place(handle: str, runs: Sequence[Run]) -> None:
    """Refuse a name that runs in several places have.

    Raises:
        RequestError: they are.
    """
    places = sorted({run.on for run in runs})
    if len(places) > 1:
        raise RequestError(
            f"{handle} is on {' and on '.join(places)}",
            f"say which: {' or '.join(f'--on {each}' for each in places)}",
        )


def no_swarm() -> ClusterError | None:
    """Why no stack can be deployed to the Docker endpoint; None where it is a Swarm manager."""
    from swarmtrain.docker.command import Docker

    try:
        Docker().run("node", "ls", "--quiet", timeout=_DOCKER_SECONDS)
    except ClusterError as error:
        return error
    return None


def docker_pointer() -> str:
    """What points docker at an engine, if anything does."""
    from swarmtrain.docker.command import pointer

    return pointer()


def _hint(handle: str, runs: list[Run]) -> str:
    if not runs:
        return "none is kept; swarmtrain run starts one"
    names = list(dict.fromkeys(name for run in reversed(runs) for name in (run.job, run.id)))
    near = difflib.get_close_matches(handle, names, n=1)
    return f"did you mean {near[0]}?" if near else "swarmtrain ps -a lists them"
