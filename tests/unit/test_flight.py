"""Flight records of all ranks, laid beside each other: who is missing from which collective."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swarmtrain.agent.worker_group.flight import read
from swarmtrain.coordinator.core.hang import Verdict
from swarmtrain.coordinator.core.stack_dumps import MainThread
from swarmtrain.coordinator.run.stall import named
from swarmtrain.diagnosis.flight import analyse, last, parted, with_places
from swarmtrain.diagnosis.frames import SourceLine
from swarmtrain.protocol.evidence.seen import FlightFinding, FlightRecord, FlightReport, StackReport
from swarmtrain.worker.instruments import flight

WORLD = {"0": [0, 1, 2]}
RECORDED = sorted((Path(__file__).parent / "fixtures" / "flight").glob("*.json"))


def record(
    seq: int, op: str = "all_reduce", *, done: bool = True, size: int = 4, group: str = "0", place: str = ""
) -> FlightRecord:
    return FlightRecord(group, seq, op, [[size]], ["Float"], done, place=place)


def report(*records: FlightRecord, groups: dict[str, list[int]] | None = None) -> FlightReport:
    return FlightReport(list(records), WORLD if groups is None else groups)


def waits(seq: int, op: str = "all_reduce", *, group: str = "0", size: int = 4) -> FlightRecord:
    return record(seq, op, done=False, group=group, size=size, place="train.py:41 in step")


def found(*reports: FlightReport) -> list[tuple[str, list[int], str]]:
    return [(each.kind, each.ranks, each.text) for each in analyse(dict(enumerate(reports)))]


def test_the_rank_that_has_not_begun_what_the_others_wait_in_is_missing() -> None:
    before = record(3, place="train.py:39 in step")
    text = (
        "rank 1 is not in all_reduce #4 of Float [4] (train.py:41 in step), in which ranks 0 and 2 wait; "
        "its last was all_reduce #3 of Float [4] (train.py:39 in step)"
    )
    assert found(report(before, waits(4)), report(before), report(before, waits(4))) == [
        ("missing", [1], text)
    ]


def test_a_rank_that_has_begun_nothing_is_missing_too() -> None:
    (kind, ranks, text) = found(report(waits(1)), report(), report(waits(1)))[0]
    assert (kind, ranks) == ("missing", [1]) and text.endswith("its first is yet to come")


def test_several_may_be_missing() -> None:
    (kind, ranks, text) = found(report(record(1)), report(record(1), waits(2)), report(record(1)))[0]
    assert (kind, ranks) == ("missing", [0, 2])
    assert (
        text.startswith("ranks 0 and 2 are not in all_reduce #2")
        and "in which rank 1 waits; their last" in text
    )


def test_many_ranks_are_named_in_short() -> None:
    gone = report(record(1))
    text = found(*[gone] * 3, *[report(record(1), waits(2))] * 60, gone)[0][2]
    assert text.startswith("ranks 0, 1, 2 and 63 are not in") and "in which ranks 3 to 62 wait" in text


@pytest.mark.parametrize(
    ("odd", "usual", "how"),
    [
        ([waits(2, "broadcast")], [waits(2)], "not all ranks call the same collectives"),
        ([waits(2, size=5)], [waits(2)], "the shapes differ"),
        ([record(2, "barrier"), waits(3)], [waits(2), record(3, "barrier")], "the order differs"),
        (
            [waits(2, "barrier"), waits(3, "broadcast")],
            [waits(2), record(3, "barrier")],
            "a call was left out",
        ),
        ([waits(2, "barrier"), waits(3)], [waits(2)], "a call was added"),
    ],
)
def test_the_rank_that_calls_something_else_is_named_first(
    odd: list[FlightRecord], usual: list[FlightRecord], how: str
) -> None:
    first = record(1)
    usually, oddly = report(first, *usual), report(first, *odd)
    (kind, ranks, text) = found(usually, usually, oddly)[0]
    assert (kind, ranks) == ("mismatch", [2])
    assert text.startswith(f"rank 2 is in {odd[0].op} #2") and text.endswith(f": {how}")


def test_types_may_differ_too() -> None:
    half = FlightRecord("0", 1, "all_reduce", [[4]], ["Half"])
    assert found(report(waits(1)), report(waits(1)), report(half))[0][2].endswith("the types differ")


def test_of_two_ranks_that_disagree_rank_0_is_taken_to_be_right() -> None:
    assert found(report(waits(1)), report(waits(1, "broadcast")))[0][1] == [1]


def test_what_differs_by_nature_is_no_mismatch() -> None:
    roots = FlightRecord("0", 1, "scatter", [[4], [4], [4]], ["Float"] * 3)
    others = FlightRecord("0", 1, "scatter", [], [])
    assert [kind for kind, *_ in found(report(roots), report(others), report(others))] == ["together"]


def test_what_is_over_everywhere_was_no_mismatch() -> None:
    odd = report(record(1, size=9), waits(2))
    assert [kind for kind, *_ in found(odd, report(record(1), waits(2)), report(record(1)))] == ["missing"]


def test_what_is_over_though_it_was_not_the_same_is_told() -> None:
    sound = [record(3), record(4), record(5)]
    other = [record(3), record(4, "broadcast", place="train.py:7 in step"), record(5)]
    found = parted({0: report(*sound), 1: report(*other), 2: report(*sound)})
    assert found is not None and (found.kind, found.ranks, found.seq) == ("parted", [1], 4)
    assert found.text == (
        "rank 1 had broadcast #4 of Float [4] (train.py:7 in step) where rank 0 had all_reduce #4 of Float [4]: both "
        "came through, and what was computed from there on may be wrong"
    )
    whole = replace(sound[1], dtypes=["Int"])
    types = parted({0: report(*sound), 1: report(sound[0], whole, sound[2])})
    assert types is not None and "all_reduce #4 of Int [4]" in types.text


def test_what_may_differ_or_is_not_over_has_not_parted_anybody() -> None:
    sound = report(record(3), record(4))
    assert parted({0: sound, 1: sound}) is None
    assert parted({0: sound, 1: report(record(3), record(4, size=9))}) is None, (
        "uneven parts of an all-gather"
    )
    assert parted({0: sound, 1: report(record(3), waits(4, "broadcast"))}) is None, (
        "a hang, which `analyse` tells of"
    )
    assert parted({0: sound, 1: report(record(9, "broadcast"))}) is None, "the older ones have gone"
    assert parted({0: sound, 1: FlightReport(reason="it does not answer")}) is None
    mine, yours = (
        report(record(4, group="a"), groups={"a": [0]}),
        report(record(4, "barrier", group="b"), groups={"b": [1]}),
    )
    assert parted({0: mine, 1: yours}) is None, "groups of their own"


def test_all_in_the_same_collective_are_told_so_and_nobody_is_blamed() -> None:
    (kind, ranks, text) = found(*[report(record(6), waits(7))] * 3)[0]
    assert (kind, ranks) == ("together", [])
    assert text == ("all ranks are in all_reduce #7 of Float [4] (train.py:41 in step): nobody is missing")


def test_a_rank_of_which_nothing_is_known_is_named_as_such() -> None:
    silent = FlightReport(reason="it does not answer")
    (kind, ranks, text) = found(report(waits(7)), report(waits(7)), silent)[0]
    assert (kind, ranks) == ("together", [2])
    assert text.startswith("nothing is known of rank 2; all others are in all_reduce #7")


def test_who_waits_in_another_group_waits_for_whoever_is_missing_there() -> None:
    """Rank 3 holds up rank 2 in their group; rank 2 is missing from the one of all, and is not to blame."""
    groups = {"0": [0, 1, 2, 3], "5": [2, 3]}
    world = [record(1), waits(2)]
    at = {
        0: FlightReport(world, groups),
        1: FlightReport(world, groups),
        2: FlightReport([record(1), waits(1, group="5")], groups),
        3: FlightReport([record(1)], groups),
    }
    told = [(each.kind, each.ranks, each.group) for each in analyse(at)]
    assert told == [("missing", [3], "0"), ("missing", [3], "5")]


def test_two_that_wait_for_each_other_are_a_circle() -> None:
    groups = {"5": [0, 1], "6": [0, 1]}
    at = {0: FlightReport([waits(1, group="5")], groups), 1: FlightReport([waits(1, group="6")], groups)}
    told = [(each.kind, each.ranks, each.group) for each in analyse(at)]
    assert told == [("circle", [1], "5"), ("circle", [0], "6")]


@pytest.mark.parametrize(
    "reports",
    [
        (),
        (report(),),
        (report(record(4)), report(record(5)), report(record(4))),
        (FlightReport(reason="no"),) * 3,
    ],
)
def test_a_group_that_gets_on_shows_nothing(reports: tuple[FlightReport, ...]) -> None:
    assert found(*reports) == []


def test_sends_and_receives_are_left_out_and_still_tell_that_a_rank_waits() -> None:
    receives = FlightRecord("0", 1, "recv 2<-0", done=False, p2p=True)
    reports = [report(record(1), waits(2)), report(record(1), waits(2)), report(record(1), receives)]
    assert [kind for kind, *_ in found(*reports)] == ["circle"]
    assert last(reports[2]) == record(1)


def test_where_records_have_no_lines_the_stack_of_who_waits_has() -> None:
    stack = 'Current thread 0x01 (most recent call first):\n  File "/w/train.py", line 41 in step\n'
    bare = report(record(1), record(2, done=False))
    placed = with_places(
        {0: StackReport(stack, flight=bare), 1: StackReport(stack, flight=report(record(1)))}
    )
    assert [each.place for each in placed[0].records] == ["", "train.py:41 in step"]
    assert [each.place for each in placed[1].records] == [""]
    assert with_places({0: StackReport(stack)}) == {}


# ---- as torch writes it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_recorded_dumps_lead_to_the_rank(file: Path) -> None:
    """On NCCL after torch's own format (torch/distributed/flight_recorder), by hand: unverified on GPUs."""
    case = json.loads(file.read_text())
    reports = {
        int(rank): read({"records": [flight._record(entry) for entry in entries], "groups": case["groups"]})
        for rank, entries in case["entries"].items()
    }
    assert all(not each.reason for each in reports.values())
    first = analyse(reports)[0]
    assert (first.kind, first.ranks, first.text) == (case["kind"], case["ranks"], case["text"])


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"records": 1, "groups": {}},
        {"records": [{}], "groups": {}},
        {"records": [], "groups": {"0": "x"}},
        {"records": [{"frames": [[1]]}], "groups": {}},
    ],
)
def test_a_worker_may_answer_anything(told: dict[str, object]) -> None:
    assert read(told).reason == "its answer is no answer"


# ---- with stacks -----------------------------------------------------------------------------------------------------

SLEEPS = MainThread(SourceLine("/w/train.py", 37, "main"), None)
MISSING = FlightFinding("missing", [1], "0", 4, "all_reduce", "rank 1 is not in all_reduce #4")


@pytest.mark.parametrize(
    ("verdict", "recorded", "reason"),
    [
        (Verdict((), "all wait"), None, "all wait"),
        (Verdict((), "all wait"), MISSING, "rank 1 is not in all_reduce #4: it is at train.py:37 in main"),
        (
            Verdict((2,), "rank 2 is at x"),
            MISSING,
            "rank 1 is not in all_reduce #4: it is at train.py:37 in main",
        ),
        (
            Verdict((1,), "rank 1 is at x (it is evaluating)"),
            MISSING,
            "rank 1 is not in all_reduce #4: it is at train.py:37 in main (it is evaluating)",
        ),
        (Verdict((2,), "rank 2 does not run: stopped"), MISSING, "rank 2 does not run: stopped"),
        (
            Verdict((2,), "rank 2 is at x"),
            FlightFinding("together", [1], "0", 4, "all_reduce", "nothing is known of rank 1"),
            "rank 2 is at x",
        ),
    ],
)
def test_records_say_what_a_rank_is_missing_from_and_stacks_where_it_is(
    verdict: Verdict, recorded: FlightFinding | None, reason: str
) -> None:
    assert named(verdict, recorded, {1: SLEEPS}).reason == reason
