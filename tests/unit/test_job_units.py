"""Durations, sizes and shares."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarmtrain.job.units import (
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("45", 45),
        (45, 45),
        (0.5, 0.5),
        ("1e3", 1000),
    ],
)
def test_durations_are_read_as_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "soon", "10x", "m", "-5s", -5, "1:30", "inf", "nan", None, True, [1]]
)
def test_what_is_no_duration_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="write 90s, 10m or 1h30m"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512m", 512 << 20),
        ("8g", 8 << 30),
        ("8G", 8 << 30),
        ("8gb", 8 << 30),
        ("8GiB", 8 << 30),
        ("8 GB", 8 << 30),
        ("1.5g", 1536 << 20),
        ("64k", 64 << 10),
        ("1t", 1 << 40),
        ("100b", 100),
        ("100", 100),
        (100, 100),
    ],
)
def test_sizes_are_read_as_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "big", "8x", "g", "-1g", -1, 1.5, None, True])
def test_what_is_no_size_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="write 512m or 8g"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "share"),
    [("10%", 0.1), ("2.5 %", 0.025), ("100%", 1.0), ("0%", 0.0), (0.1, 0.1), (1, 1.0), ("0.1", 0.1)],
)
def test_shares_are_read_as_fractions(written: object, share: float) -> None:
    assert parse_share(written) == share
    assert parse_share(format_share(share)) == share


@pytest.mark.parametrize("written", ["", "%", "some", "-1%", "101%", 10, "10", "nan%", None, True])
def test_what_is_no_share_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="write 10%"):
        parse_share(written)


@pytest.mark.parametrize("seconds", [0, 0.25, 1, 59, 60, 61.5, 3599, 3600, 86400, 90061, 10**8])
def test_a_duration_survives_being_written_and_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 1 << 20, 1536 << 20, 4 << 30, (1 << 50) + 1])
def test_a_size_survives_being_written_and_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_units_are_written_short() -> None:
    assert [format_duration(seconds) for seconds in (0, 0.25, 60, 90, 5400, 90061)] == [
        "0s",
        "0.25s",
        "1m",
        "1m30s",
        "1h30m",
        "1d1h1m1s",
    ]
    assert [format_size(size) for size in (0, 100, 4 << 30, 1536 << 20)] == ["0", "100", "4g", "1536m"]


@pytest.mark.parametrize("parse", [parse_duration, parse_size])
@pytest.mark.parametrize("unit", ["", "d", "t"])
def test_what_nobody_can_count_is_refused(parse: Callable[[object], float], unit: str) -> None:
    for digits in (20, 400):
        with pytest.raises(ValueError, match=r"^is (more than|no) "):
            parse("9" * digits + unit)
