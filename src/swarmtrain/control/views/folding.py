"""What only echoes another rank's failure, taken out of the lines that a person reads. Pure.

When a rank dies, every other one prints a traceback that says no more than that its peer has gone. Such a traceback is
kept back as it comes and becomes a word about how to see it. What an echo is, `diagnosis.echoes` knows; here its lines
are told from all others:

- Only what is known whole is folded: a traceback from its first line to an exception that is an echo, or an abort
  (``terminate called``, ``what():``) that is one. What follows in the same rank's output is shown, but for C++ frames.
- Exceptions that were raised of each other are shown, or folded, together.
- Nothing is kept back for longer than `HOLD` seconds: what is not known to be an echo by then is shown.
- A rank whose echo is all that there is of a failure is spared (`RootCauses`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from swarmtrain.control.views.clean import clean
from swarmtrain.control.views.format import ranks as in_short
from swarmtrain.diagnosis.echoes import is_consequence
from swarmtrain.diagnosis.frames import place
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import GenerationFailed, GenerationFormed
from swarmtrain.protocol.replies import Line
from swarmtrain.wire.plural import counted, plural

HOLD = 0.7  # seconds
_MOST = 4000  # lines of one traceback

_PREFIX = re.compile(r"\[rank\d+\]: ?")  # torch's own, since 2.4, before each line of an uncaught exception
_BEGINS = "Traceback (most recent call last):"
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_MAY_BEGIN = re.compile(r"Traceback|terminate|exception")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?::\s.*)?$")
_ABORTS = re.compile(r"terminate called after throwing an instance of '")
_WHAT = re.compile(r"\s+what\(\):\s*(?P<said>.+)$")
_CPP_FRAME = re.compile(r"(?:Exception raised from .* \(most recent call first\):|frame #\d+: .*)$")
_SOURCE = re.compile(r"\[[^\]\s]*\.(?:cc|cpp|h|hpp):\d+\] ?")  # of torch's own line
_LONGEST = 100  # characters of an exception that is quoted

Place = tuple[int, int]  # generation and rank


class Folded(NamedTuple):
    """Lines that were left out.

    Attributes:
        said: the exception, and where the first of the ranks was.
    """

    ranks: tuple[int, ...]
    lines: int
    said: str

    def sentence(self, run: str) -> str:
        """What they were, and how to see them."""
        several = len(self.ranks) > 1
        command = f"swarmtrain logs {run} --rank {in_short(self.ranks)} --all"
        return (
            f"{plural(len(self.ranks), 'rank')} {in_short(self.ranks)} only {plural(1 + several, 'echoes', 'echo')} "
            f"another rank's failure ({self.said}); `{command}` shows {counted(self.lines, 'line')} more"
        )


class RootCauses:
    """Which rank's words are all that there is of the failure of a generation; give it every event."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._generation = 0
        # By generation: the rank; None where something else tells of it.
        self._first: dict[int, int | None] = {}
        for event in events:
            self.hear(event)

    def hear(self, event: Event) -> None:
        """The next event of the journal."""
        if isinstance(event, GenerationFormed):
            self._generation = event.generation
        elif isinstance(event, GenerationFailed):
            failure = event.failure
            rank = failure.rank if is_consequence(failure) else None
            if rank is None or self._generation not in self._first:
                self._first[self._generation] = rank

    def knows(self, generation: int) -> bool:
        """Whether a failure of it was heard of."""
        return generation in self._first

    def spares(self, generation: int, rank: int) -> bool:
        """Whether this rank's echo is to be shown."""
        return self._first.get(generation) == rank


@dataclass
class _Block:
    """Lines of one rank that are kept back.

    Attributes:
        since: when the first of them came.
        said: the exception that makes them an echo; empty as long as none has come.
        chained: the next traceback is of an exception that was raised of this one.
    """

    since: float
    lines: list[Line] = field(default_factory=list)
    said: str = ""
    chained: bool = False

    def what(self) -> str:
        """The exception, and the line of the script in which it was raised."""
        at = place("\n".join(_text(line) for line in self.lines))
        return f"{self.said}, in {at}" if at else self.said


class Folding:
    """Takes echoes out of lines.

    Args:
        spares: tells of a generation and a rank whether its echo is to be shown.
    """

    def __init__(self, spares: Callable[[int, int], bool]) -> None:
        self._spares = spares
        self._blocks: dict[Place, _Block] = {}
        self._echoes: list[_Block] = []  # that are complete, and wait for those of other ranks
        self._shown: set[Place] = set()  # whose next traceback belongs to one that was shown

    def take(self, lines: Iterable[Line], now: float | None = None) -> Iterator[Line | Folded]:
        """What is to be shown of these lines, and of those before.

        Args:
            now: in seconds; None: lines of long ago come all at once, and what counts is their own time.
        """
        for line in lines:
            if not (self._blocks or self._echoes or self._shown or _MAY_BEGIN.search(line.text)):
                yield line  # as nearly all are
                continue
            moment = line.time if now is None else now
            yield from self.settle(moment)
            yield from self._take(line, moment)

    def due(self) -> float | None:
        """When something that is kept back has to be settled."""
        since = [block.since for block in (*self._blocks.values(), *self._echoes)]
        return min(since) + HOLD if since else None

    def settle(self, now: float) -> Iterator[Line | Folded]:
        """What was kept back for long enough."""
        due = self.due()
        if due is None or now < due:
            return
        for at, block in list(self._blocks.items()):
            if block.said:
                self._complete(at)
            elif now >= block.since + HOLD:
                yield from self._show(at)
        yield from self._fold()

    def rest(self) -> Iterator[Line | Folded]:
        """Everything that is kept back: no more lines come."""
        for at, block in list(self._blocks.items()):
            if block.said:
                self._complete(at)
            else:
                yield from self._show(at)
        yield from self._fold()

    def _take(self, line: Line, now: float) -> Iterator[Line]:
        at, text = (line.generation, line.rank), _text(line)
        block = self._blocks.get(at)
        if block is not None and len(block.lines) >= _MOST:
            yield from self._show(at)
            block = None
        if block is not None:
            if self._goes_on(block, text):
                block.lines.append(line)
                return
            if block.said:
                self._complete(at)
            else:
                yield from self._show(at)
        if (text == _BEGINS and at not in self._shown) or _ABORTS.match(text):
            self._blocks[at] = _Block(now, [line])
            return
        if text in _CHAINED:
            self._shown.add(at)
        elif text:
            self._shown.discard(at)
        yield line

    def _goes_on(self, block: _Block, text: str) -> bool:
        """Whether a line belongs to a block, as far as it may still be an echo."""
        if block.said:
            if text in _CHAINED:
                block.chained = True
                return True
            if text == _BEGINS and block.chained:
                block.said, block.chained = "", False
                return True
            return not text.strip() or bool(_CPP_FRAME.match(text))
        if what := _WHAT.match(text):
            return self._is_echo(block, what["said"])
        if text[:1].isspace():
            return True
        return bool(_EXCEPTION.match(text)) and self._is_echo(block, text)

    @staticmethod
    def _is_echo(block: _Block, said: str) -> bool:
        if is_consequence(Failure("exception", "", 0.0, said)):
            block.said = _short(said)
        return bool(block.said)

    def _complete(self, at: Place) -> None:
        self._echoes.append(self._blocks.pop(at))

    def _show(self, at: Place) -> Iterator[Line]:
        yield from self._blocks.pop(at).lines

    def _fold(self) -> Iterator[Line | Folded]:
        echoes, self._echoes = self._echoes, []
        folded: list[_Block] = []
        for block in echoes:
            first = block.lines[0]
            if self._spares(first.generation, first.rank):
                yield from block.lines
            else:
                folded.append(block)
        if folded:
            ranks = sorted({block.lines[0].rank for block in folded})
            amount = sum(len(block.lines) for block in folded)
            yield Folded(tuple(ranks), amount, folded[0].what())


def _text(line: Line) -> str:
    return _PREFIX.sub("", clean(line.text, colour=False), count=1)


def _short(said: str) -> str:
    text = _SOURCE.sub("", said).split(". ")[0]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
