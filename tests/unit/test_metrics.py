"""Lines of steps: many at first, few later, and never too few for a curve."""

from __future__ import annotations

import json

import pytest

from swarmtrain.wire.metrics import as_heard, as_told, called, is_series, label, line_interval, parsed


def lines(seconds: float) -> int:
    now, count = 0.0, 0
    while now <= seconds:
        count += 1
        now += line_interval(now)
    return count


@pytest.mark.parametrize(
    ("seconds", "most", "least"),
    [(10, 102, 100), (60, 450, 300), (240, 1200, 1000), (3600, 6000, 3000), (86400, 24_000, 10_000)],
)
def test_a_curve_has_enough_points_at_any_time_and_a_day_not_too_many(
    seconds: float, most: int, least: int
) -> None:
    assert least <= lines(seconds) <= most


def test_a_person_who_looks_sees_what_was_seconds_ago() -> None:
    assert max(line_interval(10.0**power) for power in range(9)) == 5.0


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("train/loss", ()),
        ("node/load", (("node", "lab-1"),)),
        ("interface/receive_bytes_per_second", (("interface", "eth0.5"), ("node", "a b"))),
    ],
)
def test_a_series_is_one_word_that_is_read_again(name: str, labels: tuple[tuple[str, str], ...]) -> None:
    assert parsed(called(name, labels)) == (name, labels)


@pytest.mark.parametrize("text", ["", " x", "x{", "x{a}", "x{=b}", "x{a=b", "x\x1b[2J", "x{a=\n}", "x" * 300])
def test_what_is_no_series_is_refused(text: str) -> None:
    assert not is_series(text)


@pytest.mark.parametrize("said", ["a{b=c}, d", "\x1b]0;title\x07", "two\nlines", "x" * 500, "é"])
def test_whatever_a_script_calls_a_value_is_a_part_of_a_name(said: str) -> None:
    assert is_series(f"train/{label(said)}") and label(said).isprintable()


@pytest.mark.parametrize("value", [0.0, -1.5, 1e300, float("inf"), float("-inf"), float("nan")])
def test_a_value_is_heard_as_it_was_told(value: float) -> None:
    assert repr(as_heard(json.loads(json.dumps(as_told(value), allow_nan=False)))) == repr(value)


@pytest.mark.parametrize("told", [None, True, "low", [1], {}])
def test_what_is_no_number_is_not_heard(told: object) -> None:
    assert as_heard(told) is None
