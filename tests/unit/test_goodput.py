"""Where a run's time went: every second is in one place, and those of failures are where they belong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.control.views.view import time_spent
from swarmtrain.coordinator.core.incident_log import Summary
from swarmtrain.coordinator.core.measure.goodput import TimeTold, goodput
from swarmtrain.protocol.status import Goodput, Status

QUIET = Summary(restarts=0, lost_seconds=0.0, lost_steps=0, recoveries=[], healing=None)


def hit(seconds: float, steps: int) -> Summary:
    return Summary(restarts=1, lost_seconds=seconds, lost_steps=steps, recoveries=[], healing=None)


def told(*lines: dict[str, object]) -> TimeTold:
    whole = TimeTold()
    for line in lines:
        whole = whole.and_line(line)
    return whole


def steps(count: int, seconds: float, data: float = 0.0, when: float = 110.0) -> dict[str, object]:
    return {"kind": "step", "steps": count, "step_s": seconds, "data_s": data, "when": when}


def test_a_run_without_trouble_spends_its_time_on_start_and_steps() -> None:
    spent = goodput(100.0, 150.0, QUIET, told(steps(1, 0.5), steps(79, 0.5, data=0.1, when=150.0)))
    assert spent == Goodput(
        total=50.0,
        steps=32.1,
        start=10.0,
        lost=0,
        recovering=0,
        evaluation=0,
        snapshot=0,
        data=7.9,
        other=0.0,
    )
    assert spent.ratio == pytest.approx(0.642)


def test_evaluations_and_snapshots_that_are_waited_for_are_told_apart() -> None:
    lines: list[dict[str, object]] = [
        {"kind": "phase", "name": name, "seconds": 3.0} for name in ("evaluation", "snapshot", "resume")
    ]
    spent = goodput(100.0, 150.0, QUIET, told(steps(10, 1.0), *lines))
    assert (spent.evaluation, spent.snapshot, spent.other) == (3.0, 3.0, 24.0)


def test_steps_that_are_made_again_count_once() -> None:
    """Of 40 steps 15 were lost, and to recover took 5 seconds."""
    spent = goodput(100.0, 160.0, hit(5.0, 15), told(steps(40, 1.0)))
    assert (spent.steps, spent.lost, spent.recovering, spent.other) == (25.0, 15.0, 5.0, 5.0)


def test_before_its_first_step_a_run_has_only_started() -> None:
    spent = goodput(100.0, 130.0, QUIET, TimeTold())
    assert (spent.start, spent.steps, spent.ratio) == (30.0, 0.0, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 100), st.floats(0, 10), st.floats(0, 20)), max_size=8),
    st.floats(0, 1e4),
    st.floats(0, 1e3),
    st.integers(0, 1000),
)
def test_no_part_is_negative_whatever_workers_tell(
    lines: list[tuple[int, float, float]], until: float, lost_seconds: float, lost_steps: int
) -> None:
    spent = goodput(100.0, until, hit(lost_seconds, lost_steps), told(*(steps(*line) for line in lines)))
    assert all(value >= 0 for value in vars(spent).values())


@pytest.mark.parametrize(
    "line", [{}, {"kind": "step"}, {"kind": "step", "step_s": "x", "steps": -3}, {"kind": "phase"}]
)
def test_lines_that_make_no_sense_count_for_nothing(line: dict[str, object]) -> None:
    assert told(line).stepping == 0.0


def test_a_person_reads_it_in_a_sentence() -> None:
    spent = Goodput(
        total=200.0,
        steps=150.0,
        start=10.0,
        lost=20.0,
        recovering=15.0,
        evaluation=0,
        snapshot=0,
        data=0.5,
        other=4.5,
    )
    status = Status(run="t.1", job="t", state="running", goodput=spent)
    assert time_spent(status) == (
        "75% of 3 min 20 s went into steps that counted; besides: start 10 s, steps made again 20 s, recovering 15 s, "
        "what else the script does 4.5 s"
    )
    assert time_spent(Status(run="t.1", job="t", state="running")) == ""
