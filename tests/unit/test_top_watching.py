"""The thread that looks at a run for the live screen."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from client_fakes import FakeLauncher, fixed, status, told
from waiting import until

from swarmtrain.control.look.feed import OverviewFeed
from swarmtrain.errors import RequestError
from swarmtrain.ui.top.frame import FrameSize, TopView, frame_of
from swarmtrain.ui.top.watching import Looking

LOGS = told({"lines": []}, {"done": {}})


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher(digits_1=fixed(status(), logs=LOGS))


@pytest.fixture
def news() -> threading.Event:
    return threading.Event()


@pytest.fixture
def looking(launcher: FakeLauncher, news: threading.Event) -> Iterator[Looking]:
    with Looking(OverviewFeed(launcher, launcher.kept[0]), 0.01, news.set) as found:
        yield found


def asked(launcher: FakeLauncher) -> int:
    return sum(each["op"] == "status" for each in launcher.coordinators["digits.1"].requests)


def test_it_looks_again_and_again_and_tells(
    launcher: FakeLauncher, looking: Looking, news: threading.Event
) -> None:
    assert news.wait(10) and looking.newest() is not None
    until(lambda: asked(launcher) > 3, 10)


def test_it_asks_nothing_while_it_is_paused(launcher: FakeLauncher, looking: Looking) -> None:
    until(lambda: asked(launcher) > 1, 10)
    looking.choose(TopView(paused=0.0))
    counts = [-1, asked(launcher)]
    while counts[-1] != counts[-2]:  # the look that was under way
        threading.Event().wait(0.1)
        counts.append(asked(launcher))
    looking.choose(TopView())
    until(lambda: asked(launcher) > counts[-1] + 1, 10)


def test_after_the_end_it_looks_only_when_other_ranks_are_chosen(
    launcher: FakeLauncher, looking: Looking, news: threading.Event
) -> None:
    launcher.coordinators["digits.1"].answers["status"] = told({"status": status(state="failed"), "done": {}})
    until(lambda: (seen := looking.newest()) is not None and seen.status.has_ended, 10)
    before = asked(launcher)
    assert not threading.Event().wait(0.1) and asked(launcher) == before
    looking.choose(TopView(ranks=(1,)))
    until(lambda: asked(launcher) > before, 10)


def test_a_coordinator_that_does_not_answer_yet_is_waited_for(
    launcher: FakeLauncher, news: threading.Event
) -> None:
    late = launcher.coordinators.pop("digits.1")
    with Looking(OverviewFeed(launcher, launcher.kept[0]), 0.01, news.set) as looking:
        assert not news.wait(0.1) and looking.newest() is None
        launcher.coordinators["digits.1"] = late
        assert news.wait(10) and looking.newest() is not None


def test_what_takes_a_while_is_said_on_the_screen_and_not_across_it(
    launcher: FakeLauncher, looking: Looking, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher.say("digits.1 has ended, and its coordinator is started again")
    assert looking.said == "digits.1 has ended, and its coordinator is started again"
    shown = [line.plain for line in frame_of(looking.said, FrameSize(30, 4))]
    assert shown == ["digits.1 has ended, and its", "coordinator is started again", "", ""]
    assert capsys.readouterr() == ("", "")


def test_what_makes_looking_impossible_is_raised_where_the_screen_is(
    launcher: FakeLauncher, looking: Looking, news: threading.Event
) -> None:
    assert news.wait(10)
    launcher.kept.clear()
    launcher.coordinators["digits.1"].answers["status"] = told({"hang up": True})
    del launcher.coordinators["digits.1"]

    def is_raised() -> bool:
        try:
            looking.newest()
        except RequestError as error:
            return "was removed" in str(error)
        return False

    until(is_raised, 10)
