"""Of what people are told: which events, how often, and by whom it was taken. A book is what its events amount to."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.coordinator.core.alerts.book import WINDOW, AlertBook, AlertPolicy
from swarmtrain.coordinator.core.alerts.loss import SPAN, LossWatch
from swarmtrain.coordinator.core.alerts.nodes import NodeLevels, NodeWatch
from swarmtrain.protocol.alerts.kinds import ALERT_KINDS, AlertKind
from swarmtrain.protocol.facts import Failure, Incident, MasterAddress, Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import (
    Ended,
    GenerationEnded,
    GenerationFailed,
    GenerationFormed,
    Recovered,
    load,
)
from swarmtrain.protocol.journal.remarks import SnapshotFailed, StallSeen, StragglerSeen, Warned
from swarmtrain.protocol.journal.told import AlertGivenUp, AlertRaised, AlertSettled


def failure(kind: str, node: str = "b") -> GenerationFailed:
    return GenerationFailed(text=f"{node}: {kind}", failure=Failure(kind, node, 1.0, "went wrong"))


def ended(outcome: Outcome) -> Ended:
    return Ended(text=outcome.value, outcome=outcome, reason="", generation=1, workers=[])


def formed(number: int) -> GenerationFormed:
    return GenerationFormed(
        text="", generation=number, parts={}, backend="gloo", master=MasterAddress("a", "10.0.0.1", 1)
    )


def stopped(what: str) -> GenerationEnded:
    return GenerationEnded(text="", incident=Incident(1.0, what, 1, 2, False), attempt=None, wait=0.0)


def recovered(*, planned: bool = False) -> Recovered:
    return Recovered(
        text="went on", seconds=1.0, at_step=1, from_step=1, nodes=2, planned=planned, generation=2
    )


def hot(node: str = "a") -> AlertRaised:
    return AlertRaised(text=f"{node} is hot", alert="gpu_hot", about=node)


def book(events: Iterable[Event], policy: AlertPolicy | None = None, apart: float = 1.0) -> AlertBook:
    found = AlertBook(policy or AlertPolicy(targets=("x",)))
    for seq, event in enumerate(events, 1):
        found = found.apply(event if event.seq else event.numbered(seq, seq * apart))
    return found


@pytest.mark.parametrize(
    ("event", "kind", "about"),
    [
        (ended(Outcome.FAILED), "failed", ""),
        (ended(Outcome.SUCCEEDED), "finished", ""),
        (ended(Outcome.STOPPED), "finished", ""),
        (recovered(), "healed", "rank # fell"),
        (failure("node"), "node_lost", "b"),
        (failure("hang"), "hung", "generation 3"),
        (StallSeen(text="no step for 40 s: rank 1 waits"), "hung", "generation 3"),
        (StragglerSeen(text="b: rank 1 is slow", rank=1, node="b"), "slow", "rank 1"),
        (SnapshotFailed(text="b: No space left on device; training goes on", node="b"), "disk_low", "b"),
        (hot("GPU 0 of b"), "gpu_hot", "GPU 0 of b"),
    ],
)
def test_an_event_is_told_of_as_what_it_is(event: Event, kind: AlertKind, about: str) -> None:
    before = [formed(3), stopped("rank 12345678 fell")]
    (alert,) = book([*before, event]).waiting
    assert (alert.kind, alert.about, alert.number, alert.text) == (kind, about, 3, event.text)
    others = frozenset(ALERT_KINDS) - {kind}
    assert not book([*before, event], AlertPolicy(others, targets=("x",))).waiting


@pytest.mark.parametrize(
    "event",
    [
        failure("exception"),
        recovered(planned=True),
        SnapshotFailed(text="b: Read-only file system", node="b"),
        Warned(text="a clock is off"),
    ],
)
def test_nothing_is_told_of_what_is_no_alert(event: Event) -> None:
    assert not book([event]).waiting


def test_the_same_is_not_told_again_within_an_hour_and_what_was_held_back_is_counted() -> None:
    found = book([hot(), hot(), hot("c"), hot()], apart=10.0)
    assert [(each.about, each.note) for each in found.waiting] == [
        ("a", ""),
        ("c", "1 alert before this was held back"),
    ]
    later = found.apply(hot().numbered(5, WINDOW + 11))
    assert later.waiting[-1].about == "a" and later.waiting[-1].note == "1 alert before this was held back"


def test_of_one_standstill_that_is_seen_again_and_again_one_alert_comes_and_nothing_is_counted() -> None:
    found = book([formed(1), StallSeen(text="no step"), StallSeen(text="no step"), failure("hang"), hot()])
    assert [(each.kind, each.note) for each in found.waiting] == [("hung", ""), ("gpu_hot", "")]
    again = found.apply(formed(2)).apply(StallSeen(text="no step").numbered(7, 60.0))
    assert [each.kind for each in again.waiting] == ["hung", "gpu_hot", "hung"]


def test_no_more_than_so_many_pass_in_an_hour_and_the_last_says_so_but_the_end_always_comes() -> None:
    policy = AlertPolicy(most=3, targets=("x",))
    events = [*(hot(str(number)) for number in range(10)), ended(Outcome.FAILED)]
    found = book(events, policy)
    assert [each.number for each in found.waiting] == [1, 2, 3, 11]
    assert "number 3 within an hour: others are held back for 60 min" in found.waiting[2].note
    assert found.waiting[3].note == "7 alerts before this were held back"


def test_a_target_is_told_of_each_alert_in_its_order_until_it_has_settled_it() -> None:
    policy = AlertPolicy(targets=("x", "y"))
    found = book([hot(), hot("b"), AlertSettled(text="", number=1, target="x")], policy)
    assert [found.next_for(each) for each in ("x", "y")] == [found.waiting[1], found.waiting[0]]
    found = found.apply(AlertGivenUp(text="", number=1, target="y").numbered(4, 4.0))
    assert [each.number for each in found.waiting] == [2]
    for target in ("x", "y"):
        found = found.apply(AlertSettled(text="", number=2, target=target).numbered(5, 5.0))
    assert not found.waiting and found.next_for("x") is None


KEYS = st.sampled_from(
    [hot("a"), hot("b"), failure("node"), formed(2), recovered(), stopped("x"), StallSeen(text="s")]
)


@given(st.lists(st.tuples(KEYS, st.floats(0, 2000)), max_size=60), st.integers(1, 5))
def test_whatever_happens_the_bound_holds_and_a_replay_of_the_journal_comes_to_the_same(
    happened: list[tuple[Event, float]], most: int
) -> None:
    policy, now, journal = AlertPolicy(most=most, targets=("x",)), 0.0, list[Event]()
    for event, after in happened:
        now += after
        journal.append(event.numbered(len(journal) + 1, now))
    found = book(journal, policy)
    times = [each.time for each in found.waiting]
    for begin in times:
        assert len([time for time in times if begin <= time < begin + WINDOW]) <= most
    assert book([load(event.dump()) for event in journal], policy) == found


# ---- what is measured ------------------------------------------------------------------------------------------------


def told(losses: Iterable[float]) -> list[str]:
    watch = LossWatch()
    found = [watch.take(loss, step) for step, loss in enumerate(losses, 1)]
    return [each.kind for each in found if each is not None]


def noisy(seed: int, level: float, spread: float, count: int) -> list[float]:
    chance = random.Random(seed)
    return [level * math.exp(chance.gauss(0, spread)) for _ in range(count)]


def falling(count: int, seed: int = 0, spread: float = 0.2) -> list[float]:
    return [2.3 * noise / (1 + step / 50) for step, noise in enumerate(noisy(seed, 1.0, spread, count))]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_told_of_once(bad: float) -> None:
    assert told([1.0, bad, bad, 1.0, bad]) == ["nan"]


def test_a_loss_that_runs_away_and_stays_there_is_told_of_once() -> None:
    away = [*falling(1000), *(0.2 * 1.02**step for step in range(600))]
    watch = LossWatch()
    texts = [each.text for step, loss in enumerate(away) if (each := watch.take(loss, step)) is not None]
    (text,) = texts
    assert "of the last 200 reports the median loss is" in text and "it was down to" in text


@pytest.mark.parametrize(
    "losses",
    {
        "falls": falling(3000),
        "plateau": noisy(1, 0.7, 0.3, 3000),
        "very noisy": noisy(2, 1.0, 1.5, 3000),
        "a spike of a hundred steps": [*falling(1000), *[30.0] * 100, *falling(2000)],
        "a spike that comes back slowly": [
            *falling(1000),
            *(30 * 0.97**step for step in range(400)),
            *falling(99),
        ],
        "a new task": [*falling(2000), *falling(2000, 3)],
        "overfits": [*falling(1000), *(0.1 + step / 3000 for step in range(3000))],
        "negative": [
            *noisy(4, 1.0, 0.1, 500),
            *(-loss for loss in noisy(5, 9.0, 0.1, 500)),
            *noisy(6, 99.0, 0.1, 900),
        ],
        "a game": [1.4 + math.sin(step / 300) for step in range(6000)],
        "too short": [1.0] * 150 + [9.0] * 150,
    }.values(),
)
def test_nothing_is_claimed_of_a_loss_that_need_not_diverge(losses: list[float]) -> None:
    assert told(losses) == []


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=30), st.integers(1, 120))
def test_a_loss_that_comes_back_below_its_beginning_now_and_then_never_diverges(
    levels: list[float], width: int
) -> None:
    """What is said holds of all of the last reports, not of their middle alone."""
    losses = [1.0] * SPAN + [value for level in levels for value in [*[level] * width, 0.9]]
    assert "diverging" not in told(losses)


def samples(used: Iterable[float], apart: float = 5.0) -> list[str]:
    watch, found = NodeWatch(), list[str]()
    for number, share in enumerate(used):
        sample = NodeLevels(node="a", time=number * apart, used=share, free=1e9)
        found += [each.text for each in watch.take(sample, number * apart)]
    return found


def test_a_disk_that_stays_nearly_full_is_told_of_until_there_is_room_again() -> None:
    assert samples([0.97] * 60) == ["a has 3.0 % of its disk left (1.0 GB)"]
    assert samples([*[0.97] * 10, 0.9] * 5) == []
    assert len(samples([*[0.97] * 20, *[0.94] * 5, *[0.97] * 20])) == 1
    assert len(samples([*[0.97] * 20, 0.9, *[0.97] * 20])) == 2


def test_a_gpu_that_is_slowed_by_heat_for_half_a_minute_is_told_of() -> None:
    watch = NodeWatch()
    looks = [NodeLevels(node="a", time=5.0 * number, gpus={"1": (True, 91.0)}) for number in range(9)]
    found = [each for look in looks for each in watch.take(look, look.time)]
    assert [each.text for each in found] == [
        "GPU 1 of a has had low clocks for 30 s as it is too hot at 91 °C"
    ]
    assert found[0].about == "GPU 1 of a"


def test_an_old_sample_says_nothing_of_now() -> None:
    watch = NodeWatch()
    for time in (0.0, 100.0):
        assert watch.take(NodeLevels(node="a", time=time, used=0.99), time + 40) == []
