"""Lines of the workers' output on the client: which ones a person asked for, and how they look. Pure.

The coordinator keeps and orders the lines; here a flag becomes a request, a pattern is looked for, and a reply becomes
bytes. A pattern may take for ever, so nobody but the one who wrote it waits for it.
Text travels exactly as the worker wrote it, with ``surrogateescape``, and is written as bytes: as they are where
somebody wants them raw, else less what would drive a terminal (`clean`).
"""

from __future__ import annotations

import datetime
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarmtrain.control.views.clean import clean
from swarmtrain.control.views.format import duration, name
from swarmtrain.errors import RequestError
from swarmtrain.protocol.replies import Line, RunReply
from swarmtrain.protocol.requests import LogsRequest
from swarmtrain.wire import frames

# Readable on dark and on light grounds: cyan, green, yellow, magenta, blue, and their bright forms.
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_MOST_RANKS = 4096
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORTEST_AGE = 1e-3
_AGE = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_AGE_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


@dataclass(frozen=True)
class Selection:
    """Which lines a reader wants; everything by default."""

    ranks: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    regex: str = ""
    since: float = 0.0  # Unix time; negative: so many seconds ago, by the run's own clock
    tail: int | None = None

    def nothing(self, run: str) -> str:
        """That there is no such line, in a sentence."""
        who = ", ".join([*(f"rank {rank}" for rank in self.ranks), *self.nodes]) or run
        which = f" in which {self.regex!r} is found" if self.regex else ""
        since = f" since {clock_time(self.since)}" if self.since > 0 else ""
        ago = f" in the last {duration(-self.since)}" if self.since < 0 else ""
        return f"{who} wrote nothing{which}{since}{ago}"

    def request(self, *, follow: bool = False, unfinished: bool = False) -> LogsRequest:
        """As the coordinator is asked for them."""
        tail = None if self.regex else self.tail
        return LogsRequest(self.ranks, self.nodes, self.since, tail, follow=follow, unfinished=unfinished)


class Search:
    """Picks the lines in which a selection's pattern is found out of the coordinator's replies; all without one.

    Raises:
        RequestError: it is no pattern.
    """

    def __init__(self, selection: Selection) -> None:
        self._pattern = re.compile(parse_regex(selection.regex))
        # Which lines are the last ones is known when all that were there have come.
        self._held: deque[Line] | None = None
        if selection.regex and selection.tail is not None:
            self._held = deque(maxlen=selection.tail)

    def whole(self, reply: RunReply) -> list[Line]:
        """The whole lines in a reply that are to be shown now."""
        found = [line for line in reply.lines or () if self._pattern.search(line.text)]
        if self._held is None:
            return found
        self._held.extend(found)
        if not reply.caught_up and reply.done is None:
            return []
        found, self._held = list(self._held), None
        return found

    def unfinished(self, reply: RunReply) -> list[Line] | None:
        """The lines that go on, where a reply tells of them."""
        return reply.unfinished and [line for line in reply.unfinished if self._pattern.search(line.text)]


def parse_ranks(text: str) -> tuple[int, ...]:
    """``0,2-3`` as (0, 2, 3).

    Raises:
        RequestError: it is no list of ranks.
    """
    ranks: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= _MOST_RANKS:
            raise RequestError(f"{text!r} is no list of ranks", "ranks are written 0 or 0,2-3")
        ranks.update(range(first, last + 1))
    return tuple(sorted(ranks))


def parse_since(text: str) -> float:
    """A moment as `Selection.since` takes it, from an age (``10m``, ``1h30m``), a date and time, or a Unix time.

    Raises:
        RequestError: it is none of them.
    """
    text = text.strip()
    try:
        if _AGE.fullmatch(text):
            ago = sum(float(number) * _UNITS[unit] for number, unit in _AGE_PART.findall(text))
            return -max(datetime.timedelta(seconds=ago).total_seconds(), _SHORTEST_AGE)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.datetime.fromtimestamp(float(text)).timestamp()
        return datetime.datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError) as error:  # the latter: no calendar goes so far
        raise RequestError(
            f"{text!r} is no moment", "write an age (10m, 1h30m) or a time (2026-01-31T09:30)"
        ) from error


def parse_regex(text: str) -> str:
    """A regular expression, checked here so that the mistake is reported at once."""
    try:
        re.compile(text)
    except re.error as error:
        raise RequestError(f"{text!r} is no regular expression: {error}") from error
    return text


class Look(NamedTuple):
    """How lines are shown.

    Attributes:
        colour: paint the rank, one colour a rank.
        times: begin with the local time.
        nodes: name the node beside the rank.
        raw: the text as the worker wrote it, whatever it does to a terminal.
        plain: leave out the worker's colours.
    """

    colour: bool = False
    times: bool = False
    nodes: bool = False
    raw: bool = False
    plain: bool = False


_USUAL = Look()


def render(lines: Sequence[Line], look: Look = _USUAL) -> bytes:
    """Lines as bytes for a terminal or a file, each with its rank in front and a newline at its end."""
    return frames.raw("".join(labelled(line, look) + "\n" for line in lines))


def labelled(line: Line, look: Look = _USUAL) -> str:
    """One line with its rank in front, as :func:`render` has it."""
    label = f"[{line.rank} {name(line.node)}]" if look.nodes else f"[{line.rank}]"
    if look.colour:
        label = f"\x1b[{_COLOURS[line.rank % len(_COLOURS)]}m{label}\x1b[0m"
    clock = f"{clock_time(line.time)} " if look.times else ""
    text = line.text if look.raw else clean(line.text, colour=not look.plain)
    return f"{clock}{label} {text}"


def as_json(line: Line) -> dict[str, object]:
    """One line for ``--json``."""
    return line._asdict()


def clock_time(moment: float) -> str:
    """A Unix time as people write it: ``2026-01-31 09:30:00``, in this machine's time zone."""
    return datetime.datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


class Cursor:
    """How far each rank's output was shown, so that a reader that lost its connection goes on without a gap.

    The coordinator's times never go back within one rank, so a place is a time and how many lines had it.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[int, int], tuple[float, int]] = {}
        self._skip: dict[tuple[int, int], tuple[float, int]] = {}

    def rewind(self) -> None:
        """From now on lines may come again; those that were shown are left out."""
        self._skip = dict(self._shown)

    def fresh(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines that were not shown yet; they count as shown."""
        for line in lines:
            key = (line.generation, line.rank)
            if key in self._skip and self._repeated(key, line.time):
                continue
            time, count = self._shown.get(key, (line.time, 0))
            self._shown[key] = (line.time, count + 1 if line.time == time else 1)
            yield line

    def _repeated(self, key: tuple[int, int], time: float) -> bool:
        last, left = self._skip[key]
        if time < last:
            return True
        if time == last and left:
            self._skip[key] = (last, left - 1)
            return True
        del self._skip[key]
        return False
