"""One run, as the client holds it: ask it, follow it, stop it, reach into it.

Everything is asked of the run's coordinator over a `Link` that its launcher opens, or of the archive that the
coordinator leaves behind; nothing is remembered here, so any machine that reaches the cluster can hold a handle.
What a command needs that looks into a run is imported when it is asked for: whoever starts one waits for the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.control import startup
from swarmtrain.control.result import RunResult
from swarmtrain.control.stopping import status_over, stop
from swarmtrain.errors import ChannelError, ClusterError, RequestError
from swarmtrain.protocol.ask import ask, event_of
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.requests import EventsRequest, ExecRequest
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.control.exec_session import Streams
    from swarmtrain.control.files.run_files import RunFiles
    from swarmtrain.control.files.transfer import Fetched
    from swarmtrain.control.follow import Follower, Update
    from swarmtrain.control.look.series import SeriesRange
    from swarmtrain.control.look.stacks import RunStacks
    from swarmtrain.control.snapshots.snapshots import Snapshots
    from swarmtrain.control.views.logs import Selection
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.protocol.evidence.diagnosis import Diagnosis
    from swarmtrain.protocol.series.points import Series


class RunHandle:
    """One run.

    Args:
        patience: seconds that :meth:`started` waits for the coordinator at most.
    """

    def __init__(self, run: Run, launcher: Launcher, patience: float = 30.0) -> None:
        self.run = run
        self.launcher = launcher
        self._patience = patience

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r}, on={self.run.on!r})"

    def __str__(self) -> str:
        return f"{self.id} on {self.run.on}"

    @property
    def id(self) -> str:
        """Its name on every screen: ``digits.3``."""
        return self.run.id

    # ---- asking

    def status(self) -> Status:
        """The status document.

        A run that was ended because it did not get to its place has no coordinator to tell of it: it failed, for the
        reason that its launcher still knows. Nor may one have that was killed; it has stopped.

        Raises:
            ClusterError: neither coordinator nor archive answers.
        """
        try:
            with self.launcher.connect(self.run) as link:
                return startup.explained(self.launcher, self.run, status_over(link))
        except ClusterError:
            if (known := startup.end_of(self.launcher, self.run)) is None:
                raise
            return known

    def explain(self) -> Diagnosis:
        """What is wrong with it and what to do, or that nothing is wrong that can be seen. Raises as :meth:`status`."""
        from swarmtrain.control.look.explaining import ask_why

        return ask_why(self.launcher, self.run).diagnosis

    def glance(self) -> Status | None:
        """The status document as far as it can be had without starting anything: for lists of many runs.

        None: the run has ended, and what is left of it cannot be read from here; :meth:`status` starts its coordinator
        once more, and asks it.

        Raises:
            ClusterError: it is not at rest, and does not answer.
        """
        return self.launcher.left(self.run) if self.run.rests else self.status()

    def is_live(self) -> bool:
        """Whether it has not ended yet; a run whose coordinator is silent, or cannot be understood, counts as live."""
        if not self.run.live:
            return False
        try:
            return not self.status().has_ended
        except (ClusterError, ChannelError):
            return True

    def others(self) -> Iterator[RunHandle]:
        """The other runs of its job that are in the same place."""
        runs = (run for run in self.launcher.runs() if run.job == self.run.job and run.id != self.id)
        return (RunHandle(run, self.launcher) for run in runs)

    def events(self, *, follow: bool = False, after: int = 0) -> Iterator[Event]:
        """What happened, in order.

        Args:
            follow: go on until the run has ended.
            after: leave out the events up to this number.
        """
        if follow:
            from swarmtrain.control.follow import Follower

            updates = Follower(self.launcher, self.run, after=after, output=False)
            yield from (update.event for update in updates if update.event)
            return
        with self.launcher.connect(self.run) as link:
            for reply in ask(link, EventsRequest(after=after)):
                if (event := event_of(reply)) is not None:
                    yield event

    def logs(
        self,
        selection: Selection | None = None,
        *,
        follow: bool = False,
        unfinished: Callable[[Sequence[Line]], None] | None = None,
    ) -> Iterator[Sequence[Line]]:
        """The workers' output, in pieces of some lines, ordered by time.

        Args:
            selection: which lines; all of them by default.
            follow: go on until the run has ended.
            unfinished: is told, while it follows, of the lines that go on, whenever they have changed.

        Raises:
            RequestError: the selection's regex is none.
        """
        from swarmtrain.control.views.logs import Search, Selection

        wanted = selection or Selection()
        search = Search(wanted)
        with self.launcher.connect(self.run) as link:
            for reply in ask(link, wanted.request(follow=follow, unfinished=unfinished is not None)):
                if lines := search.whole(reply):
                    yield lines
                if unfinished is not None and (going_on := search.unfinished(reply)) is not None:
                    unfinished(going_on)

    def stacks(self) -> RunStacks:
        """What every rank does now: its stacks, and its last collectives. Raises ClusterError if no worker runs."""
        from swarmtrain.control.look.stacks import ask_for_stacks

        return ask_for_stacks(self.launcher, self.run)

    def series(self, *names: str, within: SeriesRange | None = None, points: bool = True) -> list[Series]:
        """What was measured, in the order of names, also after the end; `docs/metrics.md` lists what there is.

        Args:
            names: patterns as a shell has them (``train/*``); all by default.
            within: which of their points; by default all, at most a thousand of each.
            points: without them, only what each series is now.
        """
        from swarmtrain.control.look.series import ask_for_series

        return ask_for_series(self.launcher, self.run, names, within, points=points)

    # ---- following

    def started(self) -> None:
        """Return once the coordinator answers.

        Raises:
            ClusterError: it does not, with the reason as far as the launcher knows it. The run is ended then.
        """
        try:
            startup.await_answer(self.launcher, self.run, self.status, self._patience)
        except startup.CannotStart as error:
            self._refuse(error.reason)
            raise
        except ClusterError as error:  # it may train out of our sight, so what it has written stays
            self.launcher.kill(self.run, f"killed by its client: {error.message}")
            raise

    def watch(
        self, *, after: int = 0, output: bool = True, tail: int | None = None, unfinished: bool = False
    ) -> Iterator[Update]:
        """Events, output and status as they come, until the run has ended; the last status is the final one.

        A connection that breaks is opened again, and nothing is told twice.

        Args:
            after: leave out the events up to this number.
            output: tell the workers' output too.
            tail: begin with this many of the last lines; with all of them when None.
            unfinished: tell of lines that go on, such as progress bars, too.

        Raises:
            ClusterError: the run does not get to its place (it is ended then), or its coordinator stays away.
        """
        from swarmtrain.control.follow import Follower

        yield from self._followed(
            Follower(self.launcher, self.run, after=after, output=output, tail=tail, unfinished=unfinished)
        )

    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait for the end.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds. ClusterError: as :meth:`watch`.
        """
        if not self.run.live and (status := self.status()).has_ended:
            return RunResult.of(status)
        from swarmtrain.control.follow import Follower

        follower = Follower(self.launcher, self.run, output=False)
        last: Status | None = None
        with follower.at_most(timeout):
            for update in self._followed(follower):
                last = update.status or last
        status = last if last is not None and last.has_ended else self.status()
        if not status.has_ended:
            raise TimeoutError(f"{self.id} is still {status.state} after {timeout or 0:g} s")
        return RunResult.of(status)

    # ---- acting

    def stop(self, reason: str = "") -> None:
        """Stop it and wait until it has ended, with snapshots and logs whole; no harm when it already has.

        A run whose coordinator does not answer is killed instead: what is on disk is kept.

        Args:
            reason: why, for the record; a person's wish by default.
        """
        stop(self.launcher, self.run, reason)

    def recover(self, node: str) -> Status:
        """Move the coordinator to another manager; returns once it answers there.

        Raises:
            ClusterError: it may still live where it was, cannot go there, or does not answer within two minutes.
        """
        self.launcher.recover(self.run, node)
        return startup.answer_of_moved(self.status)

    def resize(
        self, nodes: int, *, wait: bool = True, tell: Callable[[str], None] = lambda text: None
    ) -> Status:
        """Go on with another number of nodes, within the range of the job; return the last status.

        Args:
            wait: until the run trains with them, if its script can save and pause; without that, the nodes that are
                left over are kept as spares.
            tell: is told what happens, in sentences.

        Raises:
            RequestError: the job does not allow this number. ClusterError: the run has ended, or there is no place.
        """
        from swarmtrain.control.resize import Resize

        change = Resize(self, nodes, tell)
        status = change.begin()
        return change.finish() if wait else status

    def kill(self) -> None:
        """End what still runs of it at once; what is on disk is kept."""
        self.launcher.kill(self.run)

    def exec(
        self,
        argv: Sequence[str],
        *,
        rank: int | None = None,
        node: str | None = None,
        streams: Streams | None = None,
    ) -> int:
        """Run a command beside a rank, or on a node; return the command's exit status.

        Args:
            argv: the command and its arguments.
            rank: beside this one, with its variables and in its directory.
            node: on this one instead.
            streams: where its input comes from and its output goes; this process's own by default.

        Raises:
            RequestError: there is no such rank or node, or not one of the two was named.
            ClusterError: the run has ended.
        """
        from swarmtrain.control.exec_session import ExecSession, Streams, ended

        if (rank is None) == (node is None):
            raise RequestError(
                "a command runs beside a rank or on a node", "give exec rank= or node=, one of them"
            )
        request = ExecRequest(tuple(argv), node or "", rank)
        with ended(self.is_live, self.id), self.launcher.connect(self.run) as link:
            return ExecSession(link, streams or Streams.standard()).run(request)

    def fetch(
        self, path: str, to: Path | None = None, *, node: str | None = None, overwrite: bool = False
    ) -> Fetched:
        """Bring a file or directory here; also after the run has ended.

        Args:
            path: relative to the workers' working directory, or ``snapshots/...``.
            to: the file or directory it becomes; its own name in the current directory by default.
            node: as this one has it; by default the newest of each file, from whichever nodes have it.
            overwrite: replace what is there already.

        Raises:
            RequestError: no node has it, or ``to`` is taken.
        """
        return self.files.fetch(path, to, node=node, overwrite=overwrite)

    @property
    def files(self) -> RunFiles:
        """The files on all of its nodes; also after the run has ended."""
        from swarmtrain.control.files.run_files import RunFiles

        return RunFiles(self)

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots on its nodes; also after the run has ended."""
        from swarmtrain.control.snapshots.snapshots import Snapshots

        return Snapshots(self)

    def remove(self, *, force: bool = False) -> None:
        """Remove it with everything on every node: logs, snapshots, working directory.

        Args:
            force: also when it is live; it is stopped first.

        Raises:
            ClusterError: it is live.
        """
        if self.is_live():
            if not force:
                raise ClusterError(
                    f"{self.id} is still running",
                    f"stop it first with `swarmtrain stop {self.id}`, or let --force stop it",
                )
            self.stop()
        self.launcher.remove(self.run)

    def _followed(self, follower: Follower) -> Iterator[Update]:
        try:
            yield from follower
        except startup.CannotStart as error:
            self.stop(error.reason)
            self._refuse(error.reason)
            raise

    def _refuse(self, reason: str) -> None:
        if startup.refuse(self.launcher, self.run, self.status, reason):
            self.run = dataclasses.replace(self.run, live=False)
