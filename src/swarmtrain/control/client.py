"""The client: what the command line does, as an API.

    run = Client().run(Job(script="train.py", nodes=3))
    for update in run.watch():
        ...
    print(run.wait().reason)

`Client` chooses a launcher and submits; `swarmtrain.control.handle.RunHandle` is one run afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.control.handle import RunHandle
from swarmtrain.control.places import Places, check_one_place
from swarmtrain.errors import ClusterError, RequestError

if TYPE_CHECKING:
    from swarmtrain.job import Job, LoadedJob
    from swarmtrain.launchers.base import Checked, Launcher, Notice, Run
    from swarmtrain.payload.code import Code
    from swarmtrain.swarm.plan import Plan
    from swarmtrain.wire.run_spec import Resumption

_ANSWER_SECONDS = 30.0  # on top of the join deadline: what a coordinator may need to start


@dataclass(frozen=True)
class Submission:
    """A job that was checked against its place and can be submitted."""

    checked: Checked
    launcher: Launcher
    run: Run  # what it will be
    resume: Resumption | None = None  # what it goes on from
    notices: tuple[Notice, ...] = ()  # what was chosen, and why
    in_the_way: tuple[RunHandle, ...] = field(default=(), repr=False)  # live runs that are stopped first

    @property
    def loaded(self) -> LoadedJob:
        """The job, as it was read."""
        return self.checked.job

    def handle(self) -> RunHandle:
        """What it will be, or is."""
        patience = self.loaded.job.join_deadline + _ANSWER_SECONDS
        return RunHandle(self.run, self.launcher, patience=patience)

    def sent(self) -> Code:
        """The code that goes to the nodes, and what is left out of it."""
        return self.checked.sent

    def start(self) -> RunHandle:
        """Submit it. Its coordinator may not answer yet: see :meth:`RunHandle.started`.

        Raises:
            SwarmtrainError: it cannot be submitted.
        """
        for handle in self.in_the_way:
            handle.stop()
        self.launcher.submit(self.checked, self.run, self.resume)
        return self.handle()


class Client:
    """Submits jobs and finds runs.

    Args:
        on: the launcher to use, ``local``, ``docker`` or ``swarm``; chosen by what there is when left out.
        launchers: the only launchers there are, by name; those of swarmtrain when left out.
        warn: is told where runs could not be looked for.
        say: is told what takes a while.
    """

    def __init__(
        self,
        on: str | None = None,
        launchers: Mapping[str, Launcher] | None = None,
        warn: Callable[[str], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.places = Places(on, launchers, warn=warn, say=say)

    def prepare(
        self, job: Job | LoadedJob | Path | str, *, resume: bool = False, replace: bool = False
    ) -> Submission:
        """Check everything about a submission and change nothing.

        Args:
            job: the job, or the path of its file.
            resume: go on in the directories of the job's latest run.
            replace: stop the job's live run first, when the submission starts.

        Raises:
            RequestError: the job is wrong, or there is no run to resume.
            ClusterError: it cannot run here, or a run of this name is live.
        """
        from swarmtrain.job.origin import Origin
        from swarmtrain.launchers.base import Notice, Run

        loaded = _loaded(job)
        launcher, place = self.places.choose(loaded)
        checked = launcher.check(loaded)
        notices = [place, *checked.notices]
        name = loaded.job.name
        kept = sorted(run for run in launcher.runs() if run.job == name)
        begun = [run for run in kept if not run.refused]
        if resume and not begun:
            raise self._nothing_to_resume(name, launcher)
        live = tuple(handle for run in kept if (handle := RunHandle(run, launcher)).is_live())
        if live and not replace:
            raise ClusterError(
                f"{live[-1].id} is still running",
                f"stop it with `swarmtrain stop {name}`, or let --replace stop it first",
            )
        past = None
        if resume:
            from swarmtrain.control.resume import resumption

            past, sentences = resumption(loaded, RunHandle(begun[-1], launcher))
            notices += map(Notice, sentences)
        number = kept[-1].number + 1 if kept else 1
        return Submission(
            checked=checked,
            launcher=launcher,
            run=Run(name, number, launcher.name, time.time(), Origin.of(loaded)),
            resume=past,
            notices=tuple(notices),
            in_the_way=live,
        )

    def _nothing_to_resume(self, name: str, launcher: Launcher) -> RequestError:
        elsewhere = [run for run in self.places.runs() if run.job == name and run.on != launcher.name]
        hint = "leave out --resume to start afresh"
        if elsewhere:
            hint = f"{elsewhere[-1].id} is on {elsewhere[-1].on}: --on {elsewhere[-1].on} goes on from it"
        return RequestError(f"there is no run of {name} to resume on {launcher.name}", hint)

    def run(
        self, job: Job | LoadedJob | Path | str, *, resume: bool = False, replace: bool = False
    ) -> RunHandle:
        """Submit a job and return its run as soon as its coordinator answers.

        Raises:
            SwarmtrainError: as :meth:`prepare`; a ClusterError also when the run does not get to its place.
        """
        handle = self.prepare(job, resume=resume, replace=replace).start()
        handle.started()
        return handle

    def plan(self, job: Job | LoadedJob | Path | str, *, plain: bool = False) -> Plan:
        """The stack that :meth:`run` would deploy to the Swarm, with its files and a new secret; nothing changes.

        Args:
            plain: stock torchrun in one service a node instead, with nothing of ours.

        Raises:
            RequestError: the job is wrong, or this client's launcher deploys no stack.
            ClusterError: it cannot run on this Swarm, or there is none.
        """
        return self.places.open(self.places.on or "swarm").plan(_loaded(job), is_plain=plain)

    def runs(self) -> list[RunHandle]:
        """Every run that is kept, oldest first."""
        return [RunHandle(run, self.places.open(run.on)) for run in self.places.runs()]

    def get(self, handle: str, *, in_one_place: bool = False) -> RunHandle:
        """The run of that name; ``digits`` is the latest run of the job, ``digits.3`` its third.

        Args:
            in_one_place: refuse ``digits`` where runs of the job are in several places.

        Raises:
            RequestError: there is none, or the name does not say which.
        """
        run = self.places.find(handle, in_one_place=in_one_place)
        return RunHandle(run, self.places.open(run.on))

    def started_here(self, job: str | None = None) -> Run:
        """The latest run that a command line typed in this directory has started.

        Args:
            job: only of this job.

        Raises:
            RequestError: none is kept.
        """
        here = str(Path.cwd())
        for run in reversed(self.places.runs()):
            origin = run.origin
            if origin and origin.words and origin.is_here and origin.cwd == here and job in (None, run.job):
                return run
        raise RequestError(
            f"no run that is kept was started from {here}",
            "say what goes on: swarmtrain run --resume train.py",
        )

    def all_of(self, handle: str) -> list[RunHandle]:
        """Every run of the job of this run, all in one place.

        Raises:
            RequestError: there is none, or they are in several places.
        """
        job = self.places.find(handle).job
        found = [each for each in self.runs() if each.run.job == job]
        check_one_place(job, [each.run for each in found])
        return found


def _loaded(job: Job | LoadedJob | Path | str) -> LoadedJob:
    from swarmtrain.job import Job, LoadedJob, load

    if isinstance(job, LoadedJob):
        return job
    return LoadedJob.of(job) if isinstance(job, Job) else load(Path(job))
