"""One picture of a run for a screen of a given size. Pure: `frame` is all that the live screen and `--once` draw."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.views.format import duration, one_line
from swarmtrain.control.views.format import ranks as ranks_in_short
from swarmtrain.control.views.view import missing_ranks
from swarmtrain.ui.top.glyphs import UNICODE, Glyphs
from swarmtrain.ui.top.head import head
from swarmtrain.ui.top.part import HEAD, Part
from swarmtrain.ui.top.parts import NAMES, parts
from swarmtrain.wire.plural import plural

# What has room first. The order in which they stand is another.
_FIRST = ("advice", "nodes", "output", "ranks", "step", "gpus", "events", "loss")
_GROWS = ("advice", "nodes", "ranks", "step", "gpus", "output", "events", "loss")
_NARROWEST = 20  # columns: what is narrower shows a part of that
_SHORT = 30  # rows of a screen, below which its head is short
KEYS = (
    ("q", "leave"),
    ("space", "pause"),
    ("r", "ranks"),
    ("Tab", "one part"),
    ("?", "help"),
)
HELP = (
    ("q, Ctrl-C", "leave; the run goes on"),
    ("space, p", "pause: the screen stays as it is, and nothing is asked; again to go on"),
    ("r", "show some ranks alone: 0 or 0,2-3, then Enter; nothing is all of them"),
    ("left, right", "the rank before, the next rank"),
    ("Tab", "one part alone, then the next: " + ", ".join(NAMES)),
    ("n g k e o c", "nodes, GPUs, ranks, events, output, or the curve of the loss alone"),
    ("up, down", "move in a part that stands alone"),
    ("Esc", "all parts, and all ranks"),
)


@dataclass(frozen=True)
class TopView:
    """What a person has chosen to see.

    Attributes:
        ranks: these alone; all where it is empty.
        alone: the name of the part that has the whole screen; empty for all parts.
        moved: rows that it was moved by.
        paused: for so many seconds; None where it goes on.
        typed: ranks that are being typed; None where none are.
        complaint: about what was typed.
        help: the keys are explained.
    """

    ranks: tuple[int, ...] = ()
    alone: str = ""
    moved: int = 0
    paused: float | None = None
    typed: str | None = None
    complaint: str = ""
    help: bool = False


@dataclass(frozen=True)
class FrameSize:
    """Of the window.

    Attributes:
        rows: None where there is no end.
    """

    columns: int
    rows: int | None


def frame(overview: RunOverview, view: TopView, size: FrameSize, glyphs: Glyphs = UNICODE) -> list[Text]:
    """The lines of the screen, none wider than it and as many as it has; without a foot where it has no end."""
    width = max(_NARROWEST, size.columns)
    found = parts(overview, view.ranks, width, glyphs)
    if size.rows is None:
        return [*_cut(head(overview, width, glyphs), size, glyphs), *_all_of(found, size, glyphs)]
    room = max(0, size.rows - 1)
    if view.help:
        lines = _help(width)
    elif view.alone:
        lines = _alone(overview, found, view, width, room, glyphs)
    else:
        lines = _together(overview, found, width, room, glyphs)
    lines = [*lines[:room], *[Text()] * (room - len(lines))]
    foot = _foot(overview, view, width, glyphs)
    return _cut([*lines, foot][: size.rows], size, glyphs)


def frame_of(text: str, size: FrameSize) -> list[Text]:
    """A sentence on an empty screen."""
    lines = [Text(line) for line in textwrap.wrap(one_line(text), max(1, size.columns))]
    rows = size.rows or len(lines)
    return [*lines[:rows], *[Text()] * (rows - len(lines))]


def names(overview: RunOverview, ranks: Sequence[int], size: FrameSize, glyphs: Glyphs) -> list[str]:
    """Of the parts that there are, in their order."""
    return [part.name for part in parts(overview, ranks, max(_NARROWEST, size.columns), glyphs)]


def _all_of(found: Sequence[Part], size: FrameSize, glyphs: Glyphs) -> list[Text]:
    """For a screen without an end: what is worth reading of each part, and a line between them."""
    lines: list[Text] = []
    for part in found:
        rows = part.draw(min(part.count, part.most * 2))
        # Commands are never cut there: they are there to be copied.
        lines += [Text(), part.head, *(rows if part.name == "advice" else _cut(rows, size, glyphs))]
    return lines


def _together(
    overview: RunOverview, found: Sequence[Part], width: int, rows: int, glyphs: Glyphs
) -> list[Text]:
    facts = 1 if rows < _SHORT else 2
    top = head(overview, width, glyphs, facts=facts)
    room = shared(found, rows - len(top))
    if "loss" in room:  # the curve is larger below
        top = head(overview, width, glyphs, facts=facts, curve=False)
        room = shared(found, rows - len(top))
    airy = rows - len(top) - sum(count + 1 for count in room.values()) >= len(room)
    if spare := rows - len(top) - sum(count + 1 + airy for count in room.values()):
        room = _grown(found, room, spare)
    lines = list(top)
    for part in found:
        if part.name in room:
            lines += [Text()] * airy
            lines += [part.head, *part.draw(room[part.name])]
    return lines


def shared(found: Sequence[Part], rows: int) -> dict[str, int]:
    """How many rows each part has below its head, by name: what it needs at least, then what it is worth."""
    room: dict[str, int] = {}
    for part in sorted(found, key=lambda part: _FIRST.index(part.name)):
        least = min(part.least, part.count)
        if least + 1 <= rows:
            room[part.name] = least
            rows -= least + 1
    for part in sorted(found, key=lambda part: _GROWS.index(part.name)):
        if part.name in room:
            more = max(0, min(part.count, part.most) - room[part.name])
            room[part.name] += min(more, rows)
            rows -= min(more, rows)
    return room


def _grown(found: Sequence[Part], room: Mapping[str, int], rows: int) -> dict[str, int]:
    """The same with rows that are left over: for what is written and what happens, and for long tables."""
    grown = dict(room)
    for part in sorted(found, key=lambda part: (part.name != "output", _GROWS.index(part.name))):
        if part.name in grown:
            more = min(part.count - grown[part.name], rows)
            grown[part.name] += more
            rows -= more
    return grown


def _alone(
    overview: RunOverview, found: Sequence[Part], view: TopView, width: int, rows: int, glyphs: Glyphs
) -> list[Text]:
    """One part in all of its length below the first line of the head."""
    title = head(overview, width, glyphs)[:1]
    part = next((each for each in found if each.name == view.alone), None)
    if part is None:
        return [*title, Text(), Text(f"there is nothing of {view.alone} yet", "dim")]
    room = max(1, rows - 3)
    if part.name == "loss":
        return [*title, Text(), part.head, *part.draw(room)]
    every = part.draw(part.count)
    last = max(0, len(every) - room)
    begin = last - view.moved if part.at_end else view.moved
    begin = min(max(0, begin), last)
    return [*title, Text(), part.head, *every[begin : begin + room]]


def _help(width: int) -> list[Text]:
    wide = max(len(key) for key, _ in HELP) + 2
    lines = [Text("KEYS", HEAD), Text()]
    for key, does in HELP:
        first, *more = textwrap.wrap(does, max(10, width - wide))
        lines.append(Text.assemble((f"{key:<{wide}}", "bold"), first))
        lines += [Text(" " * wide + line) for line in more]
    return lines


def _foot(overview: RunOverview, view: TopView, width: int, glyphs: Glyphs) -> Text:
    """What keys do, or what is being typed; and what time it is at the run."""
    if view.typed is not None:
        return Text.assemble(
            ("ranks: ", "bold"), view.typed, "_", ("  Enter shows them, Esc does not", "dim")
        )
    if complaint := view.complaint or missing_ranks(overview.status, view.ranks):
        return Text(complaint, "bold yellow")
    now = overview.status.now
    clock = datetime.datetime.fromtimestamp(now).strftime("%H:%M:%S") if now is not None else ""
    if overview.status.has_ended:
        clock = "ended"
    if view.paused is not None:
        clock = f"paused for {duration(view.paused)}"
    if view.ranks:
        clock = f"{plural(len(view.ranks), 'rank')} {ranks_in_short(view.ranks)} {glyphs.dot} {clock}"
    line = Text()
    for key, does in KEYS:
        if line.cell_len + len(key) + len(does) + 3 + len(clock) > width:
            break
        line.append(f"{key} ", "bold")
        line.append(f"{does}  ", "dim")
    line.append(" " * (width - line.cell_len - len(clock)))
    line.append(clock, "bold yellow" if view.paused is not None else "dim")
    return line


def _cut(lines: Iterable[Text], size: FrameSize, glyphs: Glyphs) -> list[Text]:
    """The lines with what fits of each, and a sign that there is more."""
    kept = []
    for line in lines:
        if line.cell_len > size.columns:
            line = line.copy()
            line.truncate(size.columns, overflow="ellipsis" if glyphs.dots else "crop")
        kept.append(line)
    return kept
