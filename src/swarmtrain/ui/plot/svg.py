"""Charts as one SVG file, which browsers, editors and wikis show by themselves, on light grounds and on dark ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from swarmtrain.ui.plot.chart import Chart, Curve, CurvePoint

# Told apart also by people who do not see red and green alike: Okabe and Ito, Color Universal Design (2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999933", "#882255")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 300, 90, 20, 34, 60
_STYLE = """\
svg{background:#fff;color:#222;font:12px system-ui,sans-serif}
text{fill:currentColor}.grid{stroke:currentColor;stroke-opacity:.15}.title{font-weight:600;font-size:14px}
@media(prefers-color-scheme:dark){svg{background:#161616;color:#ddd}}"""


def as_svg(charts: Sequence[Chart]) -> str:
    """The charts, one below the other."""
    height = _HEIGHT * max(1, len(charts))
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<style>{_STYLE}</style>"]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * _HEIGHT})">')
        parts += _chart(chart)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _x(chart: Chart, value: float) -> float:
    return _LEFT + chart.x.at(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(chart: Chart, value: float) -> float:
    return _HEIGHT - _BOTTOM - chart.y.at(value) * (_HEIGHT - _TOP - _BOTTOM)


def _chart(chart: Chart) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    yield f'<text class="title" x="{_LEFT}" y="20">{escape(chart.title)}</text>'
    for value, said in chart.y.ticks:
        y = _y(chart, value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{escape(said)}</text>'
    for value, said in chart.x.ticks:
        x = _x(chart, value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text text-anchor="middle" x="{x:.1f}" y="{bottom + 16}">{escape(said)}</text>'
    if chart.x_title:
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        yield f'<text text-anchor="middle" x="{middle:.0f}" y="{bottom + 32}">{escape(chart.x_title)}</text>'
    for number, curve in enumerate(chart.curves):
        colour = _COLOURS[number % len(_COLOURS)]
        yield from _curve(chart, curve, colour)
        if len(chart.curves) > 1:
            x, y = _LEFT + number % 6 * 125, bottom + 46 + number // 6 * 13
            yield f'<rect x="{x}" y="{y - 4}" width="14" height="3" fill="{colour}"/>'
            yield f'<text x="{x + 19}" y="{y + 1}">{escape(curve.label)}</text>'


def _curve(chart: Chart, curve: Curve, colour: str) -> Iterator[str]:
    """A line through the means, the band from the least to the greatest, and crosses where a value is no number."""
    yield f"<g><title>{escape(curve.label)}</title>"
    for told, group in groupby(curve.points, key=lambda point: point.mean is not None):
        if told:
            yield from _stretch(chart, list(group), colour)
    for x in curve.bad:
        place = f'x="{_x(chart, x):.1f}" y="{_HEIGHT - _BOTTOM - 2}"'
        yield f'<text text-anchor="middle" {place} style="fill:{colour}">×<title>not a number</title></text>'
    yield "</g>"


def _stretch(chart: Chart, points: Sequence[CurvePoint], colour: str) -> Iterator[str]:
    def places(values: Sequence[tuple[float, float | None]]) -> str:
        return " ".join(f"{_x(chart, x):.1f},{_y(chart, y):.1f}" for x, y in values if y is not None)

    upper = places([(each.x, each.high) for each in points])
    lower = places([(each.x, each.low) for each in reversed(points)])
    if any(each.low != each.high for each in points):
        yield f'<polygon points="{upper} {lower}" fill="{colour}" fill-opacity=".2"/>'
    means = [(each.x, each.mean) for each in points]
    if len(means) == 1:
        x, y = places(means).split(",")
        yield f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>'
    else:
        yield f'<polyline points="{places(means)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
