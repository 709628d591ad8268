"""The ranks, nodes and GPUs of the live screen as tables that fit its width. Pure.

Columns that matter less are left out where it is narrow, and those in which nothing stands everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from swarmtrain.control.look.rows import GpuRow, NodeRow, RankRow, most_telling
from swarmtrain.control.views.format import NOTHING, name, number, one_line, size, step_time
from swarmtrain.control.views.format import ranks as ranks_in_short
from swarmtrain.ui.plot.chart import said
from swarmtrain.ui.top.part import HEAD, Part, counted_out, state_style
from swarmtrain.wire.plural import counted

_GAP = 2
_ALWAYS = 9
_MOST = {"nodes": 5, "gpus": 4, "ranks": 6}  # rows, before other parts have theirs
_WARM, _HOT = 0.85, 0.95  # of what there is, from which on it stands out


class TopColumn(NamedTuple):
    """A column.

    Attributes:
        matters: that which matters least goes first where there is no room.
        right: numbers stand to the right.
    """

    heading: str
    matters: int
    right: bool = True


class TopCell(NamedTuple):
    """A piece of a row.

    Attributes:
        style: of rich; empty for none.
    """

    text: str
    style: str = ""


def nodes_part(rows: Sequence[NodeRow], width: int) -> Part | None:
    """The nodes, and the links through which they talk."""
    columns = (
        TopColumn("NODE", 9, right=False),
        TopColumn("STATE", 8, right=False),
        TopColumn("RANKS", 5, right=False),
        TopColumn("CPU", 7),
        TopColumn("MEM", 6),
        TopColumn("DISK", 3),
        TopColumn("LINK", 2, right=False),
        TopColumn("RECEIVED", 5),
        TopColumn("SENT", 4),
        TopColumn("FAULTS", 8),
        TopColumn("SWAP", 8),
        TopColumn("STALLED", 1),
        TopColumn("ADDRESS", 0, right=False),
    )
    cells = [
        (
            TopCell(name(row.node)),
            TopCell(row.state, state_style(row.state)),
            TopCell(ranks_in_short(row.ranks)),
            TopCell(_percent(row.cpu)),
            _used(row.memory),
            _used(row.disk),
            TopCell(name(row.interface) or NOTHING),
            TopCell(_rate(row.receive)),
            TopCell(_rate(row.transmit)),
            TopCell(f"{said(row.faults, '1/s')}" if row.faults else "", "bold red"),
            TopCell(_rate(row.swap) if row.swap else "", "yellow"),
            _used(row.stalled),
            TopCell(name(row.address) or NOTHING),
        )
        for row in rows
    ]
    first = sorted(range(len(rows)), key=lambda at: (rows[at].state in ("running", "joined"), at))
    return _table("nodes", columns, cells, width, first, lambda rest: f"and {counted(rest, 'more node')}")


def gpus_part(rows: Sequence[GpuRow], width: int) -> Part | None:
    """The GPUs."""
    columns = (
        TopColumn("GPU", 9, right=False),
        TopColumn("NODE", 8, right=False),
        TopColumn("BUSY", 7),
        TopColumn("MEMORY", 6),
        TopColumn("TEMP", 5),
        TopColumn("POWER", 4),
        TopColumn("CLOCK", 3),
        TopColumn("SLOWED BY", 8, right=False),
        TopColumn("ECC", 8),
    )
    cells = [
        (
            TopCell(name(row.gpu)),
            TopCell(name(row.node)),
            TopCell(_percent(row.busy)),
            _memory(row),
            TopCell(NOTHING if row.temperature is None else f"{row.temperature:.0f} °C"),
            TopCell(_watts(row)),
            TopCell(NOTHING if row.clock is None else f"{row.clock / 1e9:.2f} GHz"),
            TopCell(", ".join(row.slowed), "bold yellow"),
            TopCell(f"{row.uncorrected:.0f}" if row.uncorrected else "", "bold red"),
        )
        for row in rows
    ]
    first = sorted(range(len(rows)), key=lambda at: (not rows[at].slowed, not rows[at].uncorrected, at))
    return _table("gpus", columns, cells, width, first, lambda rest: f"and {counted(rest, 'more GPU')}")


def ranks_part(rows: Sequence[RankRow], culprit: int | None, width: int) -> Part | None:
    """The ranks; where there is no room for all, the culprit and those that `most_telling` names."""
    columns = (
        TopColumn("RANK", 9, right=False),
        TopColumn("NODE", 6, right=False),
        TopColumn("STATE", 8, right=False),
        TopColumn("STEP", 7),
        TopColumn("TIME", 5),
        TopColumn("DATA", 2),
        TopColumn("COMPUTE", 4),
        TopColumn("WAITS", 3),
        TopColumn("END", 8, right=False),
    )
    newest = max((row.step for row in rows if row.step is not None), default=0)
    cells = [
        (
            TopCell(str(row.rank), "bold red" if row.rank == culprit else ""),
            TopCell(name(row.node)),
            TopCell(row.state, _rank_style(row)),
            TopCell(number(row.step), "yellow" if row.step is not None and newest - row.step > 1 else ""),
            TopCell(step_time(row.step_seconds)),
            TopCell(step_time(row.data)),
            TopCell(step_time(row.compute)),
            TopCell(step_time(row.waits)),
            TopCell(one_line(row.ended), "yellow"),
        )
        for row in rows
    ]
    places = {row.rank: at for at, row in enumerate(rows)}
    first = [places[row.rank] for row in most_telling(rows, culprit)]
    return _table("ranks", columns, cells, width, first, lambda rest: _other_ranks(rows, first, rest))


def _rank_style(row: RankRow) -> str:
    ended_well = row.state == "exited" and not row.ended
    return "green" if ended_well else state_style(row.state)


def _other_ranks(rows: Sequence[RankRow], first: Sequence[int], rest: int) -> str:
    others = [rows[at] for at in first[len(rows) - rest :]]
    states = Counter(row.state for row in others)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    steps = [row.step for row in others if row.step is not None]
    if not steps:
        return f"and {counted(rest, 'more rank')}: {told}"
    where = f"step {min(steps)}" if min(steps) == max(steps) else f"steps {min(steps)} to {max(steps)}"
    return f"and {counted(rest, 'more rank')}: {told}, {where}"


# ---- cells -----------------------------------------------------------------------------------------------------------


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.0%}".replace("%", " %")


def _used(share: float | None) -> TopCell:
    style = "" if share is None or share < _WARM else "yellow" if share < _HOT else "bold red"
    return TopCell(_percent(share), style)


def _rate(value: float | None) -> str:
    return NOTHING if value is None else f"{size(int(value))}/s"


def _memory(row: GpuRow) -> TopCell:
    if row.memory is None:
        return TopCell(NOTHING)
    used = size(int(row.memory))
    if not row.memory_total:
        return TopCell(used)
    return TopCell(f"{used} of {size(int(row.memory_total))}", _used(row.memory / row.memory_total).style)


def _watts(row: GpuRow) -> str:
    if row.power is None:
        return NOTHING
    return f"{row.power:.0f} W" if row.power_limit is None else f"{row.power:.0f} of {row.power_limit:.0f} W"


# ---- lines -----------------------------------------------------------------------------------------------------------


def _table(
    part: str,
    columns: Sequence[TopColumn],
    rows: Sequence[Sequence[TopCell]],
    width: int,
    first: Sequence[int],
    rest: Callable[[int], str],
) -> Part | None:
    """Rows under their headings; None without rows.

    Args:
        first: the numbers of the rows, the most telling first.
        rest: the words for so many rows that are not shown.
    """
    if not rows:
        return None
    kept = _fitting(columns, rows, width)
    head = [TopCell(column.heading, HEAD) for column in columns]
    sizes = [max(cell_len(row[at].text) for row in (head, *rows)) for at in kept]
    shown = [columns[at] for at in kept]
    title, *lines = (partial(_line, shown, [row[at] for at in kept], sizes) for row in (head, *rows))
    return counted_out(part, title(), lines, first, rest, least=min(2, len(rows)), most=_MOST[part])


def _fitting(columns: Sequence[TopColumn], rows: Sequence[Sequence[TopCell]], width: int) -> list[int]:
    """The numbers of the columns that are shown; the one that matters most always is."""
    sizes = [
        max(cell_len(text) for text in (column.heading, *(row[at].text for row in rows)))
        for at, column in enumerate(columns)
    ]
    kept = [
        at
        for at in range(len(columns))
        if any(row[at].text not in ("", NOTHING) for row in rows) or columns[at].matters == _ALWAYS
    ]
    while len(kept) > 1 and sum(sizes[at] + _GAP for at in kept) - _GAP > width:
        kept.remove(min(kept, key=lambda at: columns[at].matters))
    return kept


def _line(columns: Sequence[TopColumn], cells: Sequence[TopCell], sizes: Sequence[int]) -> Text:
    line = Text()
    for column, cell, wide in zip(columns, cells, sizes, strict=True):
        room = " " * (wide - cell_len(cell.text))
        line.append(" " * _GAP * bool(line) + room * column.right)
        line.append(cell.text, cell.style)
        line.append(room * (not column.right))
    line.rstrip()
    return line
