"""What a live screen shows of a run, brought anew at every look: over one connection, and only what is new.

The coordinator is asked for little: what happened since the last look, points since the last one, the last lines.
What costs it more (a diagnosis, the values of hundreds of ranks) is asked for less often. It restarts, and connections
break: that is said, and healed. Once a run has ended, nothing more is asked.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from glob import escape
from typing import TYPE_CHECKING

from swarmtrain.control import startup
from swarmtrain.control.look.explaining import diagnosis_of, diagnosis_over
from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.stopping import status_over
from swarmtrain.errors import ChannelError, ClusterError, Refused, RequestError, in_short
from swarmtrain.protocol.ask import ask, event_of
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.requests import EventsRequest, LogsRequest, SeriesRequest
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.status import Status

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link

_CURVES = ("train/loss", "train/step_seconds", "train/samples")
_OF_ONE_RANK = ("train/*", "eval/*")
_OF_STEPS = ("train/*_seconds",)
OF_ALL = (
    *_OF_STEPS,
    *("node/cpu_busy_ratio", "node/memory_used_ratio", "node/disk_used_ratio", "node/disk_free_bytes"),
    *("node/pressure_memory_ratio", "node/pressure_io_ratio", "node/swap_*_bytes_per_second"),
    "gpu/*",
)
_OF_LINKS = ("interface/*",)
_FEW = 16  # ranks
_MEAN_SECONDS = 10.0
_POINTS = 600  # of a curve, at most: a screen has fewer columns of dots
_LINES = 100
_RARELY = 20.0  # times as long as an answer takes, until the same is asked again
_VALUES_SECONDS = 4.0  # between two looks at all ranks and nodes, which measure themselves every five
_DIAGNOSIS_SECONDS = 10.0
_OBSTACLE_SECONDS = 3.0  # between two questions to a launcher why a run does not start
_BACK_SECONDS = 5.0  # for which it is said that the coordinator is back


class OverviewFeed:
    """Looks at one run again and again; from one thread, but for `close`.

    Args:
        clock: seconds that go on by themselves.

    Attributes:
        ranks: whose lines and curves are looked at; all of them, and the first one's curves, where it is empty.
    """

    def __init__(
        self,
        launcher: Launcher,
        run: Run,
        ranks: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launcher, self._run, self._clock = launcher, run, clock
        self.ranks = tuple(ranks)
        self._link: Link | None = None
        self._seen: RunOverview | None = None
        self._events: list[Event] = []
        self._lines, self._lines_turn, self._lines_of = tuple[Line, ...](), _Turn(clock), self.ranks
        self._curves, self._curves_turn = _Curves(), _Turn(clock)
        self._values, self._values_turn = tuple[Series, ...](), _Turn(clock, _VALUES_SECONDS)
        self._diagnosis: Diagnosis | None = None
        self._diagnosis_turn, self._diagnosed = _Turn(clock, _DIAGNOSIS_SECONDS), tuple[object, ...]()
        self._obstacle, self._obstacle_turn = "", _Turn(clock, _OBSTACLE_SECONDS)
        self._measures = True  # its version does
        self._is_silent = False
        self._back = -math.inf  # when the coordinator came back

    def look(self) -> RunOverview:
        """The run as it is now; as it was, with a word about it, while its coordinator does not answer.

        Raises:
            ClusterError: it has never answered. Refused: it will not. RequestError: the run was removed.
        """
        try:
            seen = self._ask()
        except ClusterError as error:
            self.close()
            if isinstance(error, Refused):
                raise
            seen = self._without_answer(error)
        if seen.status.has_ended:
            self.close()
        self._seen = seen
        return seen

    def hear(self, say: Callable[[str], None]) -> None:
        """Have what takes a while told elsewhere than in the middle of a screen."""
        self._launcher.say = say

    def close(self) -> None:
        """Hang up; safe to call twice, and from any thread: a look that waits for an answer ends then."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _without_answer(self, error: ClusterError) -> RunOverview:
        """What there is to see while nobody answers, or since nobody will."""
        with contextlib.suppress(ClusterError):
            kept = [each for each in self._launcher.runs() if each.id == self._run.id]
            if self._seen is not None and not kept:
                raise RequestError(f"{self._run.id} was removed") from error
            self._run = kept[0] if kept else self._run
        known = startup.end_of(self._launcher, self._run)
        if self._seen is None and known is None:
            raise error
        if self._seen is not None and self._seen.status.generation and not self._run.killed:
            known = None  # it has begun: whatever has its place next tells how it is
        seen = self._seen or RunOverview(Status(run=self._run.id, job=self._run.job, state="starting"))
        if known is not None:
            return replace(seen, status=known, diagnosis=diagnosis_of(known, self._events), notice="")
        self._is_silent = True
        return replace(seen, notice=f"{in_short(error)}; training goes on, trying again")

    # ---- one look ------------------------------------------------------------------------------------------------

    def _ask(self) -> RunOverview:
        if self._link is None:
            self._link = self._launcher.connect(self._run)
        link = self._link
        # First of all: what was there when it ended is asked for after its end.
        status = startup.explained(self._launcher, self._run, status_over(link))
        if self._is_silent:
            self._is_silent, self._back = False, self._clock()
        for reply in ask(link, EventsRequest(after=self._events[-1].seq if self._events else 0)):
            if (event := event_of(reply)) is not None:
                self._events.append(event)
        self._read(link, status)
        self._measure(link, status)
        self._explain(link, status)
        return RunOverview(
            status,
            self._diagnosis,
            tuple(self._events),
            self._lines,
            self._curves.series,
            self._values,
            self._notice(status),
        )

    def _read(self, link: Link, status: Status) -> None:
        ranks = self.ranks
        if self._lines_turn.has_come(at_once=status.has_ended or ranks != self._lines_of):
            with self._lines_turn.taken():
                replies = ask(link, LogsRequest(ranks=ranks, tail=_LINES))
                self._lines = tuple(line for reply in replies for line in reply.lines or ())
                self._lines_of = ranks

    def _measure(self, link: Link, status: Status) -> None:
        rank, generation = min(self.ranks, default=0), status.generation
        if not self._measures:
            return
        try:
            others = not self._curves.are_of(rank, generation)
            if self._curves_turn.has_come(at_once=status.has_ended or others):
                with self._curves_turn.taken():
                    self._curves.bring(link, rank, generation)
            if self._values_turn.has_come(at_once=status.has_ended or others):
                with self._values_turn.taken():
                    self._values = self._now(link, status, rank)
        except Refused:
            self._measures = False

    def _now(self, link: Link, status: Status, rank: int) -> tuple[Series, ...]:
        """What is now: of few ranks the mean of some seconds, as that of a single step jumps."""
        requests = [
            SeriesRequest(_OF_ONE_RANK, (rank,), points=False),
            SeriesRequest(OF_ALL, points=False),
            *(
                SeriesRequest(_OF_LINKS, labels={"interface": escape(interface)}, points=False)
                for interface in self._interfaces(status)
            ),
        ]
        if len(status.workers) <= _FEW and not status.has_ended:
            requests.append(SeriesRequest(_OF_STEPS, start=-_MEAN_SECONDS, most=1))
        found = {str(each): _mean(each) for request in requests for each in _series(link, request)}
        return tuple(found.values())

    def _interfaces(self, status: Status) -> list[str]:
        """Through which the nodes talk; a machine may have hundreds of others."""
        joined = [event.interface for event in self._events if isinstance(event, NodeJoined)]
        return list(dict.fromkeys(filter(None, (*(member.interface for member in status.members), *joined))))

    def _explain(self, link: Link, status: Status) -> None:
        known = (status.state, status.generation, status.healing)
        if self._diagnosis_turn.has_come(at_once=status.has_ended or known != self._diagnosed):
            with self._diagnosis_turn.taken():
                self._diagnosis, self._diagnosed = diagnosis_over(link, status), known

    def _notice(self, status: Status) -> str:
        if self._clock() - self._back < _BACK_SECONDS:
            return "the coordinator is back"
        if status.state != "starting" or status.generation:
            return ""
        if self._obstacle_turn.has_come():
            with self._obstacle_turn.taken():
                self._obstacle = startup.trouble_of(self._launcher, self._run).text
        return self._obstacle


class _Turn:
    """When something is asked for again: every so often, and so that it takes a twentieth of the time at most."""

    def __init__(self, clock: Callable[[], float], every: float = 0.0) -> None:
        self._clock, self._every = clock, every
        self._due = -math.inf

    def has_come(self, *, at_once: bool = False) -> bool:
        return at_once or self._clock() >= self._due

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        begun = self._clock()
        yield
        now = self._clock()
        self._due = now + max(self._every, _RARELY * (now - begun))


class _Curves:
    """Some series of one rank with their points: all at first, later those that are new."""

    def __init__(self) -> None:
        self.series: tuple[Series, ...] = ()
        self._of: tuple[int, int] | None = None  # rank and generation

    def are_of(self, rank: int, generation: int) -> bool:
        """Whether these are what was asked for last."""
        return self._of == (rank, generation)

    def bring(self, link: Link, rank: int, generation: int) -> None:
        """Ask for what is new; for all of it where steps are made anew, or where the points have become many."""
        most = max((len(each.points) for each in self.series), default=0)
        if not self.are_of(rank, generation) or not self.series or most > 2 * _POINTS:
            request = SeriesRequest(_CURVES, (rank,), most=_POINTS)
            self.series, self._of = tuple(_series(link, request)), (rank, generation)
            return
        since = max(each.time or 0.0 for each in self.series)
        fresh = {
            str(each): each for each in _series(link, SeriesRequest(_CURVES, (rank,), start=since, most=0))
        }
        known = {str(each): each for each in self.series}
        for name, new in fresh.items():
            before = known[name].points if name in known else []
            last = before[-1].time if before else 0.0
            points = [*before, *(point for point in new.points if point.time > last)]
            known[name] = replace(new, points=points)
        self.series = tuple(known.values())


def _mean(series: Series) -> Series:
    """The series with the mean of its points as its value, where it has points."""
    told = [(point.mean, point.points - point.bad) for point in series.points if point.mean is not None]
    count = sum(number for _, number in told)
    if not count:
        return series
    return replace(series, value=sum(mean * number for mean, number in told) / count, points=[])


def _series(link: Link, request: SeriesRequest) -> list[Series]:
    try:
        return [reply.series for reply in ask(link, request) if reply.series is not None]
    except ChannelError as error:  # what it answers makes no sense to this version
        raise Refused(error.message, error.hint) from error
