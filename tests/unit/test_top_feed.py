"""What the live screen asks of a coordinator, how often, and what becomes of it when nobody answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client_fakes import Coordinator, FakeLauncher, Message, Receive, status, told
from hand_clock import HandClock

from swarmtrain.control.look.feed import OverviewFeed
from swarmtrain.errors import ClusterError, RequestError

EVENTS = [
    {"seq": number, "t": 1000.0 + number, "kind": "note", "text": f"event {number}"} for number in (1, 2, 3)
]


class Told:
    """A coordinator that answers as a real one does; a test changes what it knows."""

    def __init__(self) -> None:
        self.status = status(now=1000.0)
        self.events = list(EVENTS)
        self.points = [[1000.0, 1000.0, 1, 1, 0.5, 0.5, 0.5, 1, 0]]
        self.coordinator = Coordinator(
            status=lambda request, receive: iter([{"status": self.status, "done": {}}]),
            events=self._events,
            logs=lambda request, receive: iter([{"lines": [[1000.0, 1, 0, "lab-1", "hello"]]}, {"done": {}}]),
            series=self._series,
            explain=told(
                {"diagnosis": {"run": "digits.1", "code": "healthy", "verdict": "fine"}, "done": {}}
            ),
        )

    def _events(self, request: Message, receive: Receive) -> Iterator[Message]:
        yield from ({"event": each} for each in self.events if each["seq"] > request.get("after", 0))
        yield {"done": {}}

    def _series(self, request: Message, receive: Receive) -> Iterator[Message]:
        series: dict[str, Any] = {
            "name": "train/loss",
            "labels": {"rank": "0"},
            "time": self.points[-1][1],
            "value": 0.5,
        }
        if request.get("points", True):
            since = request.get("start", 0.0)
            series["points"] = [point for point in self.points if point[1] >= since]
        yield {"series": series}
        yield {"done": {}}

    def asked(self, op: str) -> list[Message]:
        """The requests of one kind since the last time."""
        found = [each for each in self.coordinator.requests if each["op"] == op]
        self.coordinator.requests[:] = [each for each in self.coordinator.requests if each["op"] != op]
        return found


@pytest.fixture
def coordinator() -> Told:
    return Told()


@pytest.fixture
def launcher(coordinator: Told) -> FakeLauncher:
    return FakeLauncher(digits_1=coordinator.coordinator)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def feed(launcher: FakeLauncher, clock: HandClock) -> Iterator[OverviewFeed]:
    found = OverviewFeed(launcher, launcher.kept[0], clock=clock.monotonic)
    yield found
    found.close()


def test_a_look_brings_all_that_a_screen_shows(feed: OverviewFeed) -> None:
    seen = feed.look()
    assert seen.status.run == "digits.1" and [each.seq for each in seen.events] == [1, 2, 3]
    assert [line.text for line in seen.lines] == ["hello"] and seen.curve("train/loss") is not None
    assert seen.diagnosis is not None and seen.diagnosis.verdict == "fine" and seen.notice == ""


def test_later_looks_ask_only_for_what_is_new(
    feed: OverviewFeed, coordinator: Told, clock: HandClock
) -> None:
    feed.look()
    for op in ("events", "series", "explain"):
        assert coordinator.asked(op)
    coordinator.events.append({"seq": 4, "t": 1010.0, "kind": "note", "text": "event 4"})
    coordinator.points.append([1001.0, 1001.0, 2, 1, 0.4, 0.4, 0.4, 1, 0])
    clock.turn(1.0)
    seen = feed.look()
    assert [each["after"] for each in coordinator.asked("events")] == [3]
    assert [(each["start"], each["names"][0]) for each in coordinator.asked("series")] == [
        (1000.0, "train/loss")
    ]
    assert [each.seq for each in seen.events] == [1, 2, 3, 4]
    loss = seen.curve("train/loss")
    assert loss is not None and [point.mean for point in loss.points] == [0.5, 0.4], "no point comes twice"
    assert coordinator.asked("explain") == []
    clock.turn(4.0)
    feed.look()
    assert len(coordinator.asked("series")) > 1, "nodes are looked at every few seconds"
    clock.turn(10.0)
    feed.look()
    assert len(coordinator.asked("explain")) == 1


def test_a_diagnosis_is_asked_for_at_once_when_something_has_changed(
    feed: OverviewFeed, coordinator: Told
) -> None:
    feed.look()
    coordinator.asked("explain")
    coordinator.status = status(now=1001.0, healing="rank 1 on lab-2 was killed")
    feed.look()
    assert len(coordinator.asked("explain")) == 1


def test_of_another_generation_all_points_are_asked_for_anew(feed: OverviewFeed, coordinator: Told) -> None:
    feed.look()
    coordinator.asked("series")
    coordinator.status = status(now=1001.0, generation=2)
    feed.look()
    assert "start" not in coordinator.asked("series")[0]


def test_ranks_that_a_person_chooses_are_asked_for(feed: OverviewFeed, coordinator: Told) -> None:
    feed.look()
    coordinator.asked("logs"), coordinator.asked("series")
    feed.ranks = (1,)
    feed.look()
    assert [each["ranks"] for each in coordinator.asked("logs")] == [[1]]
    assert coordinator.asked("series")[0]["ranks"] == [1]


def test_what_takes_long_is_asked_for_rarely(
    launcher: FakeLauncher, coordinator: Told, clock: HandClock
) -> None:
    answers = coordinator.coordinator.answers

    def slowly(
        answer: Callable[[Message, Receive], Iterator[Message]],
    ) -> Callable[[Message, Receive], Iterator[Message]]:
        def replies(request: Message, receive: Receive) -> Iterator[Message]:
            clock.turn(2.0)
            yield from answer(request, receive)

        return replies

    answers["logs"] = slowly(answers["logs"])
    feed = OverviewFeed(launcher, launcher.kept[0], clock=clock.monotonic)
    for _ in range(10):
        feed.look()
        clock.turn(1.0)
    feed.close()
    assert len(coordinator.asked("logs")) == 1, "two seconds of work are done once in forty"


def test_a_coordinator_that_is_away_is_said_and_so_is_its_return(
    feed: OverviewFeed, launcher: FakeLauncher, clock: HandClock
) -> None:
    before = feed.look()
    away = launcher.coordinators.pop("digits.1")
    feed.close()
    seen = feed.look()
    assert seen.notice == "the coordinator of digits.1 does not answer yet; training goes on, trying again"
    assert seen.events == before.events and seen.status == before.status
    launcher.coordinators["digits.1"] = away
    assert feed.look().notice == "the coordinator is back"
    clock.turn(6.0)
    assert feed.look().notice == ""


def test_one_that_never_answered_is_an_error_and_so_is_a_run_that_was_removed(
    feed: OverviewFeed, launcher: FakeLauncher
) -> None:
    away = launcher.coordinators.pop("digits.1")
    with pytest.raises(ClusterError, match="does not answer yet"):
        feed.look()
    launcher.coordinators["digits.1"] = away
    feed.look()
    feed.close()
    launcher.coordinators.clear()
    launcher.kept.clear()
    with pytest.raises(RequestError, match=r"digits\.1 was removed"):
        feed.look()


def test_a_run_that_has_ended_is_looked_at_once_more_and_let_go(
    feed: OverviewFeed, coordinator: Told
) -> None:
    feed.look()
    for op in ("logs", "series", "explain"):
        coordinator.asked(op)
    coordinator.status = status(state="failed", reason="no")
    seen = feed.look()
    assert seen.status.has_ended and feed._link is None, "no connection keeps its coordinator from its rest"
    assert all(coordinator.asked(op) for op in ("logs", "series", "explain")), (
        "all of it, as it was at the end"
    )


def test_an_earlier_version_that_measures_nothing_is_shown_all_the_same(
    feed: OverviewFeed, coordinator: Told
) -> None:
    for op in ("series", "explain"):
        del coordinator.coordinator.answers[op]
    seen = feed.look()
    assert seen.values == () and seen.lines and seen.diagnosis is not None
    coordinator.asked("series")
    feed.look()
    assert coordinator.asked("series") == [], "it is asked once"


def test_what_keeps_a_run_from_its_place_is_said(
    launcher: FakeLauncher, coordinator: Told, clock: HandClock
) -> None:
    coordinator.status = status(state="starting", generation=0, workers=[], members=[])
    launcher.troubles = "no node has the image"
    feed = OverviewFeed(launcher, launcher.kept[0], clock=clock.monotonic)
    assert feed.look().notice == "no node has the image"
    feed.close()
