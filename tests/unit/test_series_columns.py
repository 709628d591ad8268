"""Points as columns: every number comes back as it was, and what is thinned is told honestly."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.coordinator.store.series.columns import Columns, joined, spread_of, stretches, thinned
from swarmtrain.coordinator.store.series.packing import packed, unpacked

_VALUES = st.one_of(
    st.floats(),
    st.integers(-(10**6), 10**12).map(float),
    st.integers(-(10**6), 10**6).map(lambda it: it / 1000),
    st.floats(width=32),
)


@st.composite
def columns(draw: st.DrawFn, least: int = 1) -> Columns:
    """Points as they are measured."""
    values = draw(st.lists(_VALUES, min_size=least, max_size=60))
    gaps = draw(st.lists(st.integers(0, 10**6), min_size=len(values), max_size=len(values)))
    steps = draw(st.lists(st.integers(-1, 1 << 53), min_size=len(values), max_size=len(values)))
    return Columns([each / 1000 for each in accumulate(gaps, initial=10**12)][1:], steps, values)


def by_time(points: Columns, width: float) -> Columns:
    return thinned(points, stretches(points.time, width))


def same(one: list[float], other: list[float]) -> bool:
    """Also where they are NaN, or a zero with a sign."""
    return list(map(repr, one)) == list(map(repr, other))


@given(columns())
def test_points_come_back_from_their_bytes_as_they_were(points: Columns) -> None:
    again = unpacked(packed(points))
    assert (again.time, again.step, again.spread) == (points.time, points.step, None)
    assert same(again.mean, points.mean)


@given(columns(), st.sampled_from([1.0, 60.0, 3600.0]))
def test_thinned_points_come_back_with_a_mean_of_seven_digits_within_its_bounds(
    points: Columns, width: float
) -> None:
    thin = by_time(points, width)
    again = unpacked(packed(thin))
    spread, told = thin.spread, again.spread
    assert spread is not None and told is not None
    assert (again.time, again.step, told.count, told.bad) == (thin.time, thin.step, spread.count, spread.bad)
    assert same(told.low, spread.low) and same(told.high, spread.high)
    for mean, exact, low, high in zip(again.mean, thin.mean, told.low, told.high, strict=True):
        if exact == exact:
            assert low <= mean <= high
            assert mean == pytest.approx(exact, rel=1e-6, abs=1e-37)
        else:
            assert mean != mean


@given(columns(), st.sampled_from([0.5, 60.0, 600.0]))
def test_no_point_is_lost_or_made_up_as_they_are_thinned(points: Columns, width: float) -> None:
    thin = by_time(points, width)
    assert thin.spread is not None
    begins = stretches(points.time, width)
    for at, (begin, end) in enumerate(zip(begins, [*begins[1:], len(points)], strict=True)):
        finite = [each for each in points.mean[begin:end] if math.isfinite(each)]
        assert thin.spread.count[at] == end - begin
        assert thin.spread.bad[at] == end - begin - len(finite)
        assert (thin.time[at], thin.step[at]) == (points.time[begin], points.step[begin])
        assert points.time[end - 1] // width == points.time[begin] // width
        if finite:
            assert (thin.spread.low[at], thin.spread.high[at]) == (min(finite), max(finite))
            mean = math.fsum(each / len(finite) for each in finite)
            assert thin.mean[at] == pytest.approx(mean, rel=1e-9, abs=max(map(abs, finite)) * 1e-9)
        else:
            assert thin.mean[at] != thin.mean[at]


@given(columns())
def test_it_is_the_same_whether_points_are_thinned_at_once_or_in_rounds(points: Columns) -> None:
    once, rounds = by_time(points, 3600.0), by_time(by_time(by_time(points, 60.0), 600.0), 3600.0)
    one, other = spread_of(once), spread_of(rounds)
    assert (once.time, once.step, one.count, one.bad) == (rounds.time, rounds.step, other.count, other.bad)
    assert same(one.low, other.low) and same(one.high, other.high)
    scale = max((abs(each) for each in points.mean if math.isfinite(each)), default=0.0)
    assert once.mean == pytest.approx(rounds.mean, rel=1e-6, abs=scale * 1e-9, nan_ok=True)


@given(columns(), columns())
def test_what_was_thinned_and_what_was_not_are_joined_with_nothing_lost(one: Columns, other: Columns) -> None:
    thin = by_time(one, 60.0)
    whole = joined([thin, Columns(), other])
    assert whole.measured() == one.measured() + other.measured()
    assert whole.spread is not None and len(whole.spread.low) == len(whole) == len(thin) + len(other)
    assert joined([one, other]).mean == [*one.mean, *other.mean] or any(
        map(math.isnan, one.mean + other.mean)
    )


def test_what_is_not_finite_is_counted_and_is_in_no_mean() -> None:
    points = Columns([0.0, 1.0, 2.0, 60.0], [1, 2, 3, 4], [1.0, math.nan, 3.0, -math.inf])
    thin = by_time(points, 60.0)
    spread = spread_of(thin)
    assert (thin.mean[0], spread.low[0], spread.high[0]) == (2.0, 1.0, 3.0)
    assert (spread.count, spread.bad) == ([3, 1], [1, 1])
    assert math.isnan(thin.mean[1]) and math.isnan(spread.low[1])


def test_values_that_are_too_large_to_be_added_have_a_mean() -> None:
    thin = by_time(Columns([0.0, 1.0], [1, 2], [1.7e308, 1.7e308]), 60.0)
    assert thin.mean == [1.7e308] and spread_of(thin).bad == [0]


def test_what_measures_tell_takes_few_bytes() -> None:
    """Four digits each ten seconds, as nodes measure: two bytes and a half for a value with its time."""
    values = [round(0.3 + 0.2 * math.sin(at * 1.7) * math.cos(at * at), 4) for at in range(1000)]
    points = Columns([1.8e9 + at * 10.0 for at in range(1000)], [-1] * 1000, values)
    assert len(packed(points)) < 2500
    still = Columns(points.time, points.step, [0.25] * 1000)
    assert len(packed(still)) < 100


@pytest.mark.parametrize("data", [b"", b"nonsense", packed(Columns([1.0], [1], [1.0]))[:-3]])
def test_bytes_that_are_none_of_ours_are_refused(data: bytes) -> None:
    import struct
    import zlib

    with pytest.raises((ValueError, struct.error, zlib.error)):
        unpacked(data)
