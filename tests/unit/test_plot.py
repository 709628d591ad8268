"""Plots: what is on them, in a terminal and in a file. The words and lines are looked at as text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as xml

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarmtrain.protocol.series.points import Series, SeriesPoint
from swarmtrain.ui.plot.chart import charts, said
from swarmtrain.ui.plot.svg import as_svg
from swarmtrain.ui.plot.terminal import drawn


def series(values: list[float | None], rank: int = 0, name: str = "train/loss", unit: str = "") -> Series:
    points = [
        SeriesPoint(float(at), 1e9 + at, at, 1, value, value, value, 1, int(value is None))
        for at, value in enumerate(values)
    ]
    return Series(name, {"rank": str(rank)}, unit, points=points)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0125, "s", "12.5 ms"),
        (75.0, "s", "75 s"),
        (1.5e9, "B", "1.5 GB"),
        (800.0, "B/s", "800 B/s"),
        (0.374, "ratio", "37.4 %"),
        (71.0, "°C", "71"),
        (1.41e9, "Hz", "1.41 GHz"),
        (0.5, "B", "0.5 B"),
        (0.0, "s", "0 s"),
        (-2500.0, "B/s", "-2.5 kB/s"),
        (12.0, "1/s", "12/s"),
        (1566.0, "samples/s", "1566 samples/s"),
        (0.123456, "", "0.1235"),
        (1_440, "", "1440"),
        (2_500_000.0, "", "2.5M"),
        (None, "s", "not a number"),
    ],
)
def test_values_are_said_with_their_units(value: float | None, unit: str, text: str) -> None:
    assert said(value, unit) == text


def test_a_curve_is_drawn_in_dots_between_round_numbers() -> None:
    (chart,) = charts([series([float(at) for at in range(11)])], "step")
    assert drawn(chart, 40, 5) == [
        "train/loss",
        " 10┤                             ⢀⣀⡠⠤⠒⠒⠉",
        "   │                      ⢀⣀⡠⠤⠒⠒⠉⠁",
        "  5┤             ⢀⣀⠤⠤⠔⠒⠒⠉⠉⠁",
        "   │      ⢀⣀⠤⠤⠒⠊⠉⠁",
        "  0┤⣀⠤⠤⠒⠊⠉⠁",
        "   └┬─────────────────┬────────────────┬",
        "    0                 5               10",
        "                    step",
    ]


def test_several_curves_without_colour_have_marks_of_their_own() -> None:
    (chart,) = charts([series([0.0, 10.0]), series([10.0, 0.0], 1)], "step")
    text = "\n".join(drawn(chart, 40, 5))
    assert "*" in text and "+" in text and text.endswith("* rank 0   + rank 1")
    painted = drawn(chart, 40, 5, paint=lambda piece, number: f"<{number}>{piece}")
    assert "<1>" in "".join(painted) and "*" not in "".join(painted)


def test_a_terminal_without_such_letters_gets_ascii() -> None:
    (chart,) = charts([series([1.0, math.pi, 2.0])], "step")
    assert "\n".join(drawn(chart, 60, 6, dots=False)).isascii()


def test_what_is_no_number_is_a_gap_with_a_mark() -> None:
    (chart,) = charts([series([1.0, 2.0, None, 2.0, 1.0])], "step")
    lines = drawn(chart, 41, 5)
    assert lines[6].count("!") == 1 and lines[-1].strip() == "! not a number"
    svg = as_svg([chart])
    assert svg.count("<polyline") == 2 and "not a number" in svg


def test_what_a_thinned_point_hides_is_seen() -> None:
    """A peak that is in no mean."""
    point = SeriesPoint(5.0, 1e9, 5, 1, 0.0, 1.0, 10.0, 60)
    flat = [SeriesPoint(float(at), 1e9, at, 1, 1.0, 1.0, 1.0, 60) for at in range(5)]
    (chart,) = charts([Series("train/loss", {"rank": "0"}, points=[*flat, point])], "step")
    column = [line[-1] for line in drawn(chart, 40, 5)[1:6]]
    assert "⠀" not in column and len(set(column)) <= 3 and chart.y.high == 10.0
    assert "<polygon" in as_svg([chart])


@given(
    st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12)), min_size=1, max_size=30),
    st.integers(20, 120),
    st.sampled_from(["time", "step"]),
    st.booleans(),
)
@example([5.0, -5e-324], 20, "time", False)
@example([0.0, 5e-324], 20, "time", False)
@example([1e12, math.nextafter(1e12, 0)], 20, "step", True)
def test_no_line_is_wider_than_the_terminal_and_every_file_is_xml(
    values: list[float | None], width: int, axis: str, dots: bool
) -> None:
    found = charts([series(values), series(values[::-1], 1)], axis)
    assert bool(found) == any(value is not None for value in values)
    for chart in found:
        margin = max(len(text) for _, text in chart.y.ticks) + 2
        assert max(map(len, drawn(chart, width, 6, dots=dots))) <= max(width, margin + 16, 25)
        assert all(chart.y.low <= value <= chart.y.high for value in values if value is not None)
    xml.fromstring(as_svg(found))


def test_one_point_is_a_plot_too() -> None:
    (chart,) = charts([series([3.0])], "time")
    assert drawn(chart, 40, 5)[0] == "train/loss"
    assert "<circle" in as_svg([chart])


def test_names_that_mean_something_in_xml_are_only_names() -> None:
    evil = Series("train/<b>&", {"rank": '"0'}, points=series([1.0, 2.0]).points)
    assert xml.fromstring(as_svg(charts([evil, evil], "step"))) is not None
