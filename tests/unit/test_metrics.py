"""Lines of steps: many at first, few later, and never too few for a curve."""

from __future__ import annotations

import pytest

from swarmtrain.wire.metrics import line_interval


def lines(seconds: float) -> int:
    now, count = 0.0, 0
    while now <= seconds:
        count += 1
        now += line_interval(now)
    return count


@pytest.mark.parametrize(
    ("seconds", "most", "least"), [(10, 202, 200), (3600, 6000, 1000), (86400, 24_000, 10_000)]
)
def test_a_curve_has_enough_points_at_any_time_and_a_day_not_too_many(
    seconds: float, most: int, least: int
) -> None:
    assert least <= lines(seconds) <= most


def test_a_person_who_looks_sees_what_was_seconds_ago() -> None:
    assert max(line_interval(10.0**power) for power in range(9)) == 5.0
