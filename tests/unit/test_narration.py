"""What a person is told of a run's events while watching, and how events look in a list."""

from __future__ import annotations

from typing import Any

import pytest
from client_fakes import failure

from swarmtrain.control.views.narration import Narration, Said, entry, tone
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.journal.event import Event


def event(kind: str, text: str, **more: Any) -> Event:
    return events.load({"seq": 1, "t": 1000.0, "kind": kind, "text": text, **more})


def ended(outcome: str) -> Event:
    return event("ended", "text", outcome=outcome, reason="", generation=1, workers=[])


KILLED = "rank 1 on node1: killed by SIGKILL"
HEALED = [
    event("generation", "generation 1: 2 ranks on node0, node1; master node0 (127.0.0.1:20000)"),
    event("started", "all 2 workers started"),
    event("failure", KILLED),
    event("stopping", "stopping generation 1: a rank failed"),
    event("failure", "rank 0 on node0: RuntimeError: Connection closed by peer"),
    event("regather", f"generation 1 failed: {KILLED}; trying again"),
    event("generation", "generation 2: 2 ranks on node0, node1; master node0 (127.0.0.1:20001)"),
    event("started", "all 2 workers started"),
    event("recovered", f"{KILLED} at step 12; continued on 2 nodes from step 10 after 2.1 s"),
]


def told(*happened: Event) -> list[str]:
    story = Narration()
    return [said.text for each in happened if (said := story.tell(each))]


def test_a_failure_that_is_healed_is_three_short_lines() -> None:
    assert told(*HEALED)[2:] == [
        KILLED,
        "trying again",
        "generation 2: 2 ranks on node0, node1; master node0 (127.0.0.1:20001)",
        f"recovered: {KILLED} at step 12; continued on 2 nodes from step 10 after 2.1 s",
    ]


def test_the_root_cause_is_told_where_another_failure_was_heard_first() -> None:
    heard = event("failure", "rank 0 on node0: RuntimeError: Connection closed by peer")
    cause = event("regather", f"generation 1 failed: {KILLED}; trying again in 4 s")
    assert told(heard, cause) == [heard.text, f"generation 1 failed: {KILLED}; trying again in 4 s"]


def test_the_next_generation_s_failure_is_told_again() -> None:
    assert told(*HEALED, *HEALED[2:4]).count(KILLED) == 2


def test_a_stop_by_a_person_is_told() -> None:
    stopping = event("stopping", "stopping generation 1: stopped by a person")
    assert told(stopping) == ["stopping generation 1: stopped by a person"]


RAISED = "rank 1 on node1: ValueError: a / b"
FAILURE = failure(rank=1, node="node1", summary="ValueError: a\n  b", traceback="Traceback ...")
RAISES = event("failure", "rank 1 on node1: ValueError: a\n  b\n", failure=FAILURE)


def test_an_exception_is_left_to_the_traceback_at_the_end() -> None:
    assert told(RAISES) == ["rank 1 on node1 failed"]
    assert told(event("failure", RAISES.text, failure={**FAILURE, "traceback": ""})) == [RAISED]


def test_an_exception_that_is_healed_is_told_when_it_is_tried_again() -> None:
    again = event("regather", "generation 1 failed: rank 1 on node1: ValueError: a\n  b; trying again")
    assert told(RAISES, again) == [
        "rank 1 on node1 failed",
        f"generation 1 failed: {RAISED}; trying again",
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("exception", "rank 0 on node0 lost touch with another rank"),  # as it follows from another's failure
        ("hang", "rank 1 on node1: no step for 60 s: it has made 3 steps, the others 4"),
    ],
)
def test_other_failures_with_a_traceback_keep_their_words(kind: str, text: str) -> None:
    failure = {**FAILURE, "kind": kind, "summary": text.partition(": ")[2] or "Connection closed by peer"}
    assert told(event("failure", text, failure=failure)) == [text]


def test_how_a_run_ended_is_left_to_the_words_at_the_end() -> None:
    assert told(ended("failed")) == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("failure", "plain"),  # it may be healed: the end of a run is told apart
        ("recovered", "good"),
        ("stall", "bad"),
        ("joined", "plain"),
    ],
)
def test_tones_of_what_is_told(kind: str, expected: str) -> None:
    said = Narration().tell(event(kind, "text"))
    assert isinstance(said, Said) and said.tone == expected


@pytest.mark.parametrize(
    ("outcome", "expected"), [("succeeded", "good"), ("failed", "bad"), ("stopped", "plain")]
)
def test_the_end_of_a_run_in_a_list_has_its_tone(outcome: str, expected: str) -> None:
    assert tone(ended(outcome)) == expected


@pytest.mark.parametrize(
    ("kind", "mark"),
    [("failure", "!"), ("recovered", "+"), ("generation", " "), ("left_out", "!"), ("new", " ")],
)
def test_entries_of_a_list_are_marked(kind: str, mark: str) -> None:
    assert entry(event(kind, "words")) == f"{mark} words"


def test_an_entry_of_a_list_is_one_line() -> None:
    assert entry(RAISES) == f"! {RAISED}"
