"""One part of the live screen: a head, and rows of which as many are drawn as there is room for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.text import Text

HEAD = "bold cyan"
_STATES = {
    "running": "green",
    "joined": "green",
    "succeeded": "green",
    "failed": "bold red",
    "lost": "bold red",
    "ended": "dim",
}
_OTHER = "yellow"  # what begins, ends or waits


@dataclass(frozen=True)
class Part:
    """A part of the screen.

    Attributes:
        name: by which it is asked for alone.
        head: its first line.
        count: rows that there are.
        least: rows without which it is left out, where there are so many.
        most: rows that it takes before the other parts have theirs.
        draw: so many rows of it at most.
        at_end: the newest rows are the last ones.
    """

    name: str
    head: Text
    count: int
    least: int
    most: int
    draw: Callable[[int], list[Text]]
    at_end: bool = False


def listed(name: str, head: Text | str, rows: Sequence[Text], *, least: int = 1, most: int = 8) -> Part:
    """Rows of which the first matter most."""
    title = Text(head, HEAD) if isinstance(head, str) else head
    return Part(name, title, len(rows), least, most, lambda count: list(rows[:count]))


def ending_with(name: str, head: Text | str, rows: Sequence[Text], *, least: int = 1, most: int = 6) -> Part:
    """Rows of which the last matter most."""
    title = Text(head, HEAD) if isinstance(head, str) else head
    return Part(
        name,
        title,
        len(rows),
        least,
        most,
        lambda count: list(rows[max(0, len(rows) - count) :]),
        at_end=True,
    )


def counted_out(
    name: str,
    head: Text,
    rows: Sequence[Callable[[], Text]],
    first: Sequence[int],
    rest: Callable[[int], str],
    *,
    least: int = 1,
    most: int = 8,
) -> Part:
    """Rows of which, where there is no room for all, the most telling are shown and the others counted.

    Args:
        rows: each draws one: of hundreds, a few are shown.
        first: the numbers of the rows, the most telling first.
        rest: the words for so many that are not shown.
    """
    draw = partial(_counted_out, rows, first, rest)
    return Part(name, head, len(rows), min(least, len(rows)), most, draw)


def _counted_out(
    rows: Sequence[Callable[[], Text]], first: Sequence[int], rest: Callable[[int], str], count: int
) -> list[Text]:
    if count >= len(rows):
        return [row() for row in rows]
    shown = sorted(first[: max(0, count - 1)])
    return [*(rows[at]() for at in shown), Text(rest(len(rows) - len(shown)), "dim")][:count]


def state_style(state: str) -> str:
    """How the state of a run, a node or a rank looks."""
    return _STATES.get(state, _OTHER)
