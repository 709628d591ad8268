"""What the coordinator reads out of its workers' pulses."""

from __future__ import annotations

import pytest
from run_fakes import pulse

from swarmtrain.coordinator.core.model import Advance
from swarmtrain.coordinator.run.heartbeats import HeartbeatTracker
from swarmtrain.protocol.from_agent import PulseReport
from swarmtrain.wire.pulse import Activity, Source


def take(heartbeats: HeartbeatTracker, now: float, rank: int, step: int, **fields: object) -> bool:
    return heartbeats.take(PulseReport(*pulse(rank, step, **fields)), now)  # type: ignore[arg-type]


def begin(*began: tuple[int | None, int | None]) -> HeartbeatTracker:
    """A generation whose ranks have begun with these epochs, and these steps by their optimizers' own count."""
    heartbeats = HeartbeatTracker(len(began))
    for rank, (epoch, counted) in enumerate(began):
        told = PulseReport(*pulse(rank, 1))._replace(epoch=epoch, counted=counted)
        heartbeats.take(told, 10.0)
    return heartbeats


@pytest.mark.parametrize(
    ("began", "expected"),
    [
        pytest.param([(48, 1), (48, 1)], "", id="the same"),
        pytest.param(
            [(48, None), (0, None)], "rank 0 began at epoch 48, rank 1 began at epoch 0", id="epochs"
        ),
        pytest.param(
            [(None, 701), (None, 1), (None, 1)],
            "rank 0 began at step 701, rank 1 began at step 1",
            id="steps",
        ),
        pytest.param([(3, None), (None, None)], "", id="one that does not tell"),
        pytest.param([(None, None), (None, None)], "", id="nobody tells"),
    ],
)
def test_ranks_that_begin_at_different_points_are_named(
    began: list[tuple[int | None, int | None]], expected: str
) -> None:
    assert begin(*began).different_starts() == expected


def test_before_the_first_pulse_nothing_is_known() -> None:
    heartbeats = HeartbeatTracker(2)
    assert heartbeats.advance() == Advance(busy=True)
    assert (heartbeats.step(), heartbeats.resumed(), heartbeats.begun(), heartbeats.usual()) == (
        None,
        None,
        None,
        None,
    )
    assert HeartbeatTracker().advance() == Advance(busy=True)


def test_a_generation_has_begun_when_its_last_rank_has_made_a_step() -> None:
    heartbeats = HeartbeatTracker(2)
    take(heartbeats, 100.0, 0, 5, first=3.0)
    assert heartbeats.begun() is None
    take(heartbeats, 100.0, 1, 0, quiet=None, first=None)
    assert heartbeats.begun() is None
    take(heartbeats, 104.0, 1, 5, first=1.0)
    take(heartbeats, 110.0, 0, 60, first=13.1)  # the same step, said with another delay
    assert heartbeats.begun() == 103.0


def test_the_usual_step_is_the_median_over_what_was_made_between_two_pulses() -> None:
    heartbeats = HeartbeatTracker(1)
    for now, step in ((10.0, 1), (11.0, 6), (12.0, 11), (22.0, 12), (23.0, 17)):
        take(heartbeats, now, 0, step)
    assert heartbeats.usual() == pytest.approx(0.2)
    assert heartbeats.advance().steps == 17


def test_a_coordinator_that_was_just_started_again_takes_the_mean_for_the_usual_step() -> None:
    heartbeats = HeartbeatTracker(2)
    take(heartbeats, 100.0, 0, 41, quiet=30.0, first=34.0)
    assert heartbeats.usual() == pytest.approx(0.1)
    assert heartbeats.advance().stepped == pytest.approx(70.0)


def test_the_time_of_a_step_does_not_wander_with_the_delay_of_messages() -> None:
    heartbeats = HeartbeatTracker(1)
    assert take(heartbeats, 10.3, 0, 7, quiet=0.1)
    assert heartbeats.stepped() == pytest.approx(10.2)
    assert not take(heartbeats, 11.0, 0, 7, quiet=0.9)
    assert not take(heartbeats, 12.0, 0, 7, quiet=1.5)
    assert heartbeats.stepped() == pytest.approx(10.1)
    assert take(heartbeats, 13.0, 0, 8)
    assert heartbeats.stepped() == 13.0
    heartbeats.slept(30.0)
    assert heartbeats.stepped() == 43.0


@pytest.mark.parametrize("activity", [each for each in Activity if each is not Activity.NONE])
def test_one_rank_in_a_phase_without_steps_keeps_all_from_standing_still(activity: Activity) -> None:
    heartbeats = HeartbeatTracker(2)
    take(heartbeats, 10.0, 0, 7)
    assert heartbeats.advance().busy  # the other one has not said anything
    take(heartbeats, 10.0, 1, 7)
    assert not heartbeats.advance().busy
    take(heartbeats, 10.0, 1, 7, activity=activity)
    assert heartbeats.advance().busy


def test_all_ranks_have_to_be_able_to_pause() -> None:
    heartbeats = HeartbeatTracker(2)
    take(heartbeats, 10.0, 0, 7)
    assert not heartbeats.advance().can_pause
    take(heartbeats, 10.0, 1, 7, source=Source.WATCHED)
    assert not heartbeats.advance().can_pause
    take(heartbeats, 10.0, 1, 7)
    assert heartbeats.advance().can_pause


def test_where_nobody_counts_there_is_no_step() -> None:
    heartbeats = HeartbeatTracker(2)
    for rank in (0, 1):
        take(heartbeats, 10.0, rank, 0, source=Source.NOBODY, quiet=None, first=None)
    assert (heartbeats.step(), heartbeats.resumed()) == (None, None)
    take(heartbeats, 10.0, 0, 6, source=Source.WATCHED)
    assert (heartbeats.step(), heartbeats.resumed()) == (6, None)
    take(heartbeats, 10.0, 1, 8, resumed=5)
    assert (heartbeats.step(), heartbeats.resumed(), heartbeats.advance().steps) == (8, 5, 6)


def test_the_last_sign_of_life_is_that_of_any_rank_and_outlasts_a_sleep_of_the_coordinator() -> None:
    heartbeats = HeartbeatTracker(2)
    take(heartbeats, 100.0, 0, 5)
    take(heartbeats, 100.0, 1, 5)
    assert (heartbeats.alive(), heartbeats.advance().lived) == (None, None)
    take(heartbeats, 140.0, 0, 5, lived=3.0, sign="processor time")
    take(heartbeats, 140.0, 1, 5, lived=12.0, sign="bytes read or written")
    assert heartbeats.alive() == (137.0, 0, "processor time")
    heartbeats.slept(60.0)
    assert heartbeats.advance().lived == 197.0


def test_numbers_that_a_worker_makes_up_are_nobodys_end() -> None:
    heartbeats = HeartbeatTracker(1)
    take(heartbeats, 100.0, 0, 5, activity=99, source=77)
    assert heartbeats.beats[0].activity is Activity.NONE
    assert heartbeats.step() is None
