"""Lines of output on the client: what is asked for, how it looks, and where a reader goes on."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from run_fakes import Theatre

from swarmtrain.control.views.logs import (
    Cursor,
    Look,
    Search,
    Selection,
    parse_ranks,
    parse_regex,
    parse_since,
    render,
)
from swarmtrain.coordinator.clients.requests import _filter
from swarmtrain.coordinator.store.output import Reader
from swarmtrain.errors import RequestError
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.replies import Done, Line, RunReply


@pytest.mark.parametrize(
    ("text", "ranks"),
    [("0", (0,)), ("0,2-3", (0, 2, 3)), ("3,1", (1, 3)), (" 1 - 2 , 2", (1, 2)), ("4095", (4095,))],
)
def test_ranks_are_read(text: str, ranks: tuple[int, ...]) -> None:
    assert parse_ranks(text) == ranks


@pytest.mark.parametrize("text", ["", "x", "1,", "-1", "3-1", "1-2-3", "0-99999999", "1.5", "4096"])
def test_what_is_no_list_of_ranks_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="no list of ranks"):
        parse_ranks(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", -600.0),
        ("1.5m", -90.0),
        ("30s", -30.0),
        ("10m30s", -630.0),
        ("0s", -0.001),
        ("123.5", 123.5),
        ("1970-01-01T00:10:00Z", 600.0),
        ("1970-01-01 02:10:00+02:00", 600.0),
    ],
)
def test_moments_are_read(text: str, moment: float) -> None:
    assert parse_since(text) == moment


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_since("2026-01-31T09:30") == datetime.datetime(2026, 1, 31, 9, 30).timestamp()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "10 minutes", "m", "-5m", "2026-13-01", "9" * 20, "9" * 400, "9" * 400 + "s"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="no moment"):
        parse_since(text)


def test_a_wrong_regular_expression_is_refused_here() -> None:
    assert parse_regex("loss|error") == "loss|error"
    with pytest.raises(RequestError, match="no regular expression"):
        parse_regex("(")


def test_a_selection_asks_for_no_more_than_was_said() -> None:
    asked = {"op": "logs", "follow": False}
    assert dump(Selection().request()) == asked
    assert dump(Selection(ranks=(0,), tail=0).request()) == {**asked, "ranks": (0,), "tail": 0}
    everything = Selection(ranks=(1,), nodes=("a",), since=5.0, tail=3).request()
    wanted = {"ranks": (1,), "nodes": ("a",), "since": 5.0, "tail": 3}
    assert dump(everything) == {**asked, **wanted}


def test_a_pattern_is_nothing_that_a_coordinator_ever_runs() -> None:
    """It may take for ever, (a+)+$ against aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab, and the coordinator keeps leases."""
    asked = dump(Selection(ranks=(1,), regex="(a+)+$", tail=3).request())
    assert asked == {"op": "logs", "follow": False, "ranks": (1,)}


def searched(selection: Selection, *replies: dict[str, Any]) -> list[list[str]]:
    """What is shown after each of these replies."""
    search = Search(selection)
    return [[line.text for line in search.whole(load(RunReply, reply))] for reply in replies]


def some(*texts: str) -> dict[str, Any]:
    return {"lines": [[1.0, 1, 0, "a", text] for text in texts]}


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        (Selection(), [["x1", "y1", "x2"], ["x3"], [], ["x4", "y2"], []]),
        (Selection(regex="x"), [["x1", "x2"], ["x3"], [], ["x4"], []]),
        (Selection(regex="x", tail=2), [[], [], ["x2", "x3"], ["x4"], []]),
        (Selection(regex="x", tail=0), [[], [], [], ["x4"], []]),
    ],
)
def test_a_pattern_is_looked_for_here_also_in_the_last_lines(
    selection: Selection, shown: list[list[str]]
) -> None:
    followed: Any = (some("x1", "y1", "x2"), some("x3"), {"caught_up": True}, some("x4", "y2"), {"done": {}})
    assert searched(selection, *followed) == shown


def test_the_last_lines_with_a_pattern_are_known_at_the_end() -> None:
    assert searched(Selection(regex="x", tail=1), some("x1"), some("x2"), {"done": {}}) == [[], [], ["x2"]]


def test_a_pattern_is_looked_for_in_lines_that_go_on() -> None:
    search = Search(Selection(regex="x"))
    assert search.unfinished(RunReply(done=Done())) is None
    going_on = search.unfinished(load(RunReply, {"unfinished": some("x", "y")["lines"]}))
    assert going_on is not None and [line.text for line in going_on] == ["x"]


def test_an_age_is_counted_back_by_the_coordinator(stage: Theatre) -> None:
    """So a client whose clock is wrong, and a coordinator's machine whose clock is set, show the same lines."""
    run = stage.make()
    for number in range(5):
        stage.clock.turn(60.0)
        stage.clock.epoch += 3600.0
        run.output.append((1, 0), "a", run.journal.clock.now(), 2 * number, f"{number}\n")
    wanted = _filter(Selection(since=parse_since("3m")).request(), run.journal.clock.now() + 30.0)
    assert [text for *_, text in Reader(run.output.path, wanted).lines()] == ["2", "3", "4"]
    assert Selection(since=-600.0).nothing("t.1") == "t.1 wrote nothing in the last 10 min"


def test_what_a_worker_wrote_comes_out_byte_for_byte() -> None:
    written = b"caf\xc3\xa9 \xff\xfe [red]x[/red] \x1b[1mbold\x1b[0m 10%\r20%"
    text = written.decode("utf-8", "surrogateescape")
    line = Line(0.0, 1, 3, "lab-1", text)
    assert render([line], Look(raw=True)) == b"[3] " + written + b"\n"
    cleaned = written.replace(b"\r", b"")
    assert render([line]) == b"[3] " + cleaned + b"\n"
    assert render([line], Look(plain=True)) == b"[3] " + re.sub(rb"\x1b\[\d+m", b"", cleaned) + b"\n"


def test_a_long_line_is_not_wrapped() -> None:
    assert render([Line(0.0, 1, 0, "lab-1", "x" * 65536)]).count(b"\n") == 1


def test_colour_is_on_the_rank_only_and_differs_between_ranks() -> None:
    shown = [render([Line(0.0, 1, rank, "lab-1", "hi")], Look(colour=True)) for rank in range(4)]
    assert len(set(shown)) == 4
    assert shown[0] == b"\x1b[36m[0]\x1b[0m hi\n"


def test_time_and_node_are_shown_on_request() -> None:
    moment = datetime.datetime(2026, 1, 31, 9, 30).timestamp()
    line = Line(moment, 1, 0, "lab-1", "hi")
    assert render([line], Look(times=True, nodes=True)) == b"2026-01-31 09:30:00 [0 lab-1] hi\n"


def lines(*texts: str, time: float = 1.0, rank: int = 0) -> list[Line]:
    return [Line(time, 1, rank, "lab-1", text) for text in texts]


def test_a_cursor_that_is_not_rewound_passes_everything() -> None:
    cursor = Cursor()
    assert [each.text for each in cursor.fresh(lines("a", "a") + lines("a"))] == ["a", "a", "a"]


@pytest.mark.parametrize("shown", range(7))
def test_a_rewound_cursor_goes_on_where_it_was(shown: int) -> None:
    every = lines("a", "b") + lines("b", "b", time=2.0) + lines("x", rank=1) + lines("c", time=3.0)
    cursor = Cursor()
    before = list(cursor.fresh(every[:shown]))
    cursor.rewind()
    assert before + list(cursor.fresh(every)) == every


def test_a_replay_that_begins_late_loses_nothing() -> None:
    cursor = Cursor()
    list(cursor.fresh(lines("a") + lines("b", time=2.0)))
    cursor.rewind()
    assert [each.text for each in cursor.fresh(lines("b", time=2.0) + lines("c", time=3.0))] == ["c"]
