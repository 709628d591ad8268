"""What the coordinator reads out of its workers' pulses."""

from __future__ import annotations

import pytest
from run_fakes import pulse

from swarmtrain.coordinator.core.model import Advance
from swarmtrain.coordinator.runtime.vitals import Vitals
from swarmtrain.protocol.from_agent import PulseReport
from swarmtrain.wire.pulse import Activity, Source


def take(vitals: Vitals, now: float, rank: int, step: int, **fields: object) -> bool:
    return vitals.take(PulseReport(*pulse(rank, step, **fields)), now)  # type: ignore[arg-type]


def test_before_the_first_pulse_nothing_is_known() -> None:
    vitals = Vitals(2)
    assert vitals.advance() == Advance(busy=True)
    assert (vitals.step(), vitals.resumed(), vitals.begun(), vitals.usual()) == (None, None, None, None)
    assert Vitals().advance() == Advance(busy=True)


def test_a_generation_has_begun_when_its_last_rank_has_made_a_step() -> None:
    vitals = Vitals(2)
    take(vitals, 100.0, 0, 5, first=3.0)
    assert vitals.begun() is None
    take(vitals, 100.0, 1, 0, quiet=None, first=None)
    assert vitals.begun() is None
    take(vitals, 104.0, 1, 5, first=1.0)
    take(vitals, 110.0, 0, 60, first=13.1)  # the same step, said with another delay
    assert vitals.begun() == 103.0


def test_the_usual_step_is_the_median_over_what_was_made_between_two_pulses() -> None:
    vitals = Vitals(1)
    for now, step in ((10.0, 1), (11.0, 6), (12.0, 11), (22.0, 12), (23.0, 17)):
        take(vitals, now, 0, step)
    assert vitals.usual() == pytest.approx(0.2)
    assert vitals.advance().steps == 17


def test_a_coordinator_that_was_just_started_again_takes_the_mean_for_the_usual_step() -> None:
    vitals = Vitals(2)
    take(vitals, 100.0, 0, 41, quiet=30.0, first=34.0)
    assert vitals.usual() == pytest.approx(0.1)
    assert vitals.advance().stepped == pytest.approx(70.0)


def test_the_time_of_a_step_does_not_wander_with_the_delay_of_messages() -> None:
    vitals = Vitals(1)
    assert take(vitals, 10.3, 0, 7, quiet=0.1)
    assert vitals.stepped() == pytest.approx(10.2)
    assert not take(vitals, 11.0, 0, 7, quiet=0.9)
    assert not take(vitals, 12.0, 0, 7, quiet=1.5)
    assert vitals.stepped() == pytest.approx(10.1)
    assert take(vitals, 13.0, 0, 8)
    assert vitals.stepped() == 13.0
    vitals.slept(30.0)
    assert vitals.stepped() == 43.0


@pytest.mark.parametrize("activity", [each for each in Activity if each is not Activity.NONE])
def test_one_rank_in_a_phase_without_steps_keeps_all_from_standing_still(activity: Activity) -> None:
    vitals = Vitals(2)
    take(vitals, 10.0, 0, 7)
    assert vitals.advance().busy  # the other one has not said anything
    take(vitals, 10.0, 1, 7)
    assert not vitals.advance().busy
    take(vitals, 10.0, 1, 7, activity=activity)
    assert vitals.advance().busy


def test_all_ranks_have_to_be_able_to_pause() -> None:
    vitals = Vitals(2)
    take(vitals, 10.0, 0, 7)
    assert not vitals.advance().cooperative
    take(vitals, 10.0, 1, 7, source=Source.WATCHED)
    assert not vitals.advance().cooperative
    take(vitals, 10.0, 1, 7)
    assert vitals.advance().cooperative


def test_where_nobody_counts_there_is_no_step() -> None:
    vitals = Vitals(2)
    for rank in (0, 1):
        take(vitals, 10.0, rank, 0, source=Source.NOBODY, quiet=None, first=None)
    assert (vitals.step(), vitals.resumed()) == (None, None)
    take(vitals, 10.0, 0, 6, source=Source.WATCHED)
    assert (vitals.step(), vitals.resumed()) == (6, None)
    take(vitals, 10.0, 1, 8, resumed=5)
    assert (vitals.step(), vitals.resumed(), vitals.advance().steps) == (8, 5, 6)


def test_the_last_sign_of_life_is_that_of_any_rank_and_outlasts_a_sleep_of_the_coordinator() -> None:
    vitals = Vitals(2)
    take(vitals, 100.0, 0, 5)
    take(vitals, 100.0, 1, 5)
    assert (vitals.alive(), vitals.advance().lived) == (None, None)
    take(vitals, 140.0, 0, 5, lived=3.0, sign="processor time")
    take(vitals, 140.0, 1, 5, lived=12.0, sign="bytes read or written")
    assert vitals.alive() == (137.0, 0, "processor time")
    vitals.slept(60.0)
    assert vitals.advance().lived == 197.0


def test_numbers_that_a_worker_makes_up_are_nobodys_end() -> None:
    vitals = Vitals(1)
    take(vitals, 100.0, 0, 5, activity=99, source=77)
    assert vitals.beats[0].activity is Activity.NONE
    assert vitals.step() is None
