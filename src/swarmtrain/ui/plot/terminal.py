"""A chart as lines of text: in dots of braille, or in letters where a terminal has no such dots or shows no colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from swarmtrain.ui.plot.chart import Chart, Curve, CurvePoint

_MARKS = "*+xo#@%&"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, by row and column
_BLANK = 0x2800
_LEAST = 16  # columns and rows below which nothing can be seen
_NOT_A_NUMBER = "!"

Paint = Callable[[str, int], str]  # a piece of a line, in the colour of a curve


def drawn(
    chart: Chart, width: int = 80, height: int = 14, *, dots: bool = True, paint: Paint | None = None
) -> list[str]:
    """The lines of a chart, none wider than ``width``.

    Several curves are told apart by their colour where ``paint`` gives them one, else by their marks.

    Args:
        height: of the plot itself, without title, axis and legend.
        dots: the terminal has braille.
    """
    said = [text for _, text in chart.y.ticks]
    margin = max(map(len, said)) + 1
    columns = max(_LEAST, width - margin - 1)
    fine = dots and (paint is not None or len(chart.curves) == 1)
    grid = _Grid(columns, height, fine=fine)
    for number, curve in enumerate(chart.curves):
        for x, y in _places(chart, curve, *grid.size):
            grid.set(x, y, number)
    labels = {height - 1 - round(chart.y.at(value) * (height - 1)): text for value, text in chart.y.ticks}
    lines = [chart.title]
    for row in range(height):
        edge = ("┤" if row in labels else "│") if dots else "|"
        lines.append(f"{labels.get(row, ''):>{margin}}{edge}{grid.line(row, paint)}".rstrip())
    lines += _below(chart, columns, margin, dots=dots)
    if len(chart.curves) > 1:
        lines += _legend(chart.curves, width, None if fine else _MARKS, paint)
    return lines


class _Grid:
    """What is set of a plot. Where curves meet, the first one is seen."""

    def __init__(self, columns: int, rows: int, *, fine: bool) -> None:
        self._fine, self._columns = fine, columns
        self.size = (columns * 2, rows * 4) if fine else (columns, rows)
        self._cells: dict[tuple[int, int], tuple[int, int]] = {}  # dots, and whose they are

    def set(self, x: int, y: int, number: int) -> None:
        row, column = (y // 4, x // 2) if self._fine else (y, x)
        dots, owner = self._cells.get((row, column), (0, number))
        bit = _DOTS[y % 4][x % 2] if self._fine else 1
        self._cells[row, column] = (dots | bit, owner)

    def line(self, row: int, paint: Paint | None) -> str:
        parts = []
        for column in range(self._columns):
            cell = self._cells.get((row, column))
            if cell is None:
                parts.append(" ")
                continue
            dots, owner = cell
            mark = chr(_BLANK + dots) if self._fine else _MARKS[owner % len(_MARKS)]
            parts.append(mark if paint is None else paint(mark, owner))
        return "".join(parts)


def _places(chart: Chart, curve: Curve, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Where a curve is: at each point from its least to its greatest value, and in a straight line between means."""

    def row(value: float) -> int:
        return rows - 1 - round(chart.y.at(value) * (rows - 1))

    before: tuple[int, int] | None = None
    for point in curve.points:
        x = round(chart.x.at(point.x) * (columns - 1))
        if (values := _values(point)) is None:
            before = None
            continue
        low, mean, high = values
        for y in range(row(high), row(low) + 1):
            yield x, y
        here = (x, row(mean))
        if before is not None:
            yield from _line(before, here)
        before = here


def _values(point: CurvePoint) -> tuple[float, float, float] | None:
    if point.low is None or point.mean is None or point.high is None:
        return None
    return point.low, point.mean, point.high


def _line(begin: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    count = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))
    for number in range(1, count):
        share = number / count
        yield round(begin[0] + (end[0] - begin[0]) * share), round(begin[1] + (end[1] - begin[1]) * share)


def _below(chart: Chart, columns: int, margin: int, *, dots: bool) -> Iterator[str]:
    """The axis, with a mark where something is not a number, and what is written below it."""
    axis = ["─" if dots else "-"] * columns
    text = [" "] * columns
    for value, said in chart.x.ticks:
        at = round(chart.x.at(value) * (columns - 1))
        axis[at] = "┬" if dots else "+"
        begin = min(max(0, at - len(said) // 2), columns - len(said))
        if begin >= 0 and all(each == " " for each in text[max(0, begin - 1) : begin + len(said) + 1]):
            text[begin : begin + len(said)] = said
    bad = {round(chart.x.at(x) * (columns - 1)) for curve in chart.curves for x in curve.bad}
    for at in bad:
        axis[at] = _NOT_A_NUMBER
    yield " " * margin + ("└" if dots else "+") + "".join(axis)
    yield (" " * (margin + 1) + "".join(text)).rstrip()
    if chart.x_title:
        yield " " * (margin + 1) + chart.x_title.center(columns).rstrip()
    if bad:
        yield " " * (margin + 1) + f"{_NOT_A_NUMBER} not a number"


def _legend(curves: Sequence[Curve], width: int, marks: str | None, paint: Paint | None) -> Iterator[str]:
    line, used = "", 0
    for number, curve in enumerate(curves):
        mark = "━" if marks is None else marks[number % len(marks)]
        size = len(mark) + 1 + len(curve.label)
        if used and used + 3 + size > width:
            yield line
            line, used = "", 0
        gap = "   " if used else ""
        line += f"{gap}{mark if paint is None else paint(mark, number)} {curve.label}"
        used += len(gap) + size
    yield line
