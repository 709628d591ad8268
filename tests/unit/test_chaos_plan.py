"""Plans of faults: what a file and flags may say, every mistake with its line, and when each fault is due."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmtrain.control.chaos.faults import (
    KINDS,
    LIMIT,
    MIX,
    Fault,
    FaultPlan,
    FaultSchedule,
    choose,
    random_plan,
)
from swarmtrain.control.chaos.plan_file import PlanError, fault_from_flags, parse_kinds, read_plan


def written(directory: Path, text: str) -> Path:
    path = directory / "chaos.yaml"
    path.write_text(text)
    return path


def test_a_plan_says_what_happens_when_and_to_whom(tmp_path: Path) -> None:
    text = """
seed: 7
for: 15m
faults:
  - {at: step 120, do: kill-worker, rank: 1}
  - {at: 30s, do: freeze, node: lab-2, for: 1m}
  - {every: 20s, do: kill-container}
  - {at: 5, every: 20s, do: stop-worker, rank: random}
  - {do: fill-disk, node: lab-3, leave: 4k, limit: 2g}
  - {do: slow-link, rate: 200mbit}
  - {do: kill-coordinator}
  - {do: power-off, node: lab-1}
"""
    plan = read_plan(written(tmp_path, text))
    assert plan == FaultPlan(
        (
            Fault("kill-worker", "1", step=120),
            Fault("freeze", "lab-2", after=30.0, seconds=60.0),
            Fault("kill-container", "random", every=20.0),
            Fault("stop-worker", "random", after=5.0, every=20.0, seconds=10.0),
            Fault("fill-disk", "lab-3", seconds=10.0, leave=4096, limit=2 << 30),
            Fault("slow-link", "random", seconds=10.0, rate="200mbit"),
            Fault("kill-coordinator", ""),
            Fault("power-off", "lab-1"),
        ),
        seed=7,
        length=900.0,
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{do: kil-worker}", "faults[1].do: 'kil-worker' is no fault (did you mean kill-worker?)"),
        ("{at: 3s}", "faults[1].do: is missing"),
        ("{do: 3}", "faults[1].do: 3 is no fault"),
        ("[do]", "faults[1]: must be a fault, as {at: 30s, do: kill-worker}, not a list"),
        ("{do: kill-worker, rnk: 1}", "faults[1].rnk: unknown key (did you mean rank?)"),
        ("{do: kill-worker, node: a}", "faults[1].node: kill-worker has none (it takes at, every, rank)"),
        ("{do: kill-worker, for: 3s}", "faults[1].for: kill-worker has none (it takes at, every, rank)"),
        ("{do: kill-worker, rank: one}", "faults[1].rank: 'one' is no rank (write a number, or random)"),
        ("{do: kill-worker, at: step x}", "faults[1].at: 'step x' is no step (write step 120)"),
        ("{do: kill-worker, at: soon}", "faults[1].at: 'soon' is no moment (write 30s, 5m or step 120)"),
        ("{do: kill-worker, at: step 3, every: 3s}", "faults[1].every: goes with a time, not with a step"),
        ("{do: kill-worker, every: 0s}", "faults[1].every: '0s' is too often (0.1s at least)"),
        ("{do: freeze, node: 3}", "faults[1].node: 3 is no node's name"),
        ("{do: freeze, for: long}", "faults[1].for: 'long' is no duration"),
        ("{do: slow-link}", "faults[1].rate: is missing: write it like 200mbit"),
        ("{do: slow-link, rate: fast}", "faults[1].rate: 'fast' is no rate of a link"),
        ("{do: fill-disk, leave: much}", "faults[1].leave: 'much' is no size"),
        ("{do: power-on}", "faults[1].node: names the node that is powered on"),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, entry: str, says: str) -> None:
    path = written(tmp_path, f"seed: 1\n# nothing\nfaults:\n  - {entry}\n")
    with pytest.raises(PlanError) as raised:
        read_plan(path)
    assert raised.value.message.startswith(f"{path}:4: {says}")


def test_all_mistakes_come_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path, "faults:\n  - do: freezing\n  - do: freeze\n    rank: 0\nsed: 7\nfor: x\nseed: a\n"
    )
    with pytest.raises(PlanError) as raised:
        read_plan(path)
    assert [
        str(problem).removeprefix(f"{path}:").partition(": ")[0] for problem in raised.value.problems
    ] == [
        *("2", "4", "5", "6", "7"),
    ]
    assert "the plan has 5 mistakes" in raised.value.message
    assert "sed: unknown key (did you mean seed?)" in raised.value.message
    assert "kill-worker" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds nothing"),
        ("- do: freeze", "holds a list"),
        ("seed: 3", "faults: must be a list of faults, not nothing"),
        ("faults: []", "faults: must be a list of faults, not a list"),
        ("faults:\n  - {do: freeze, do: unplug}", "the same key twice"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        read_plan(written(tmp_path, text))
    with pytest.raises(PlanError, match="there is no such file"):
        read_plan(tmp_path / "absent.yaml")


def test_flags_say_the_same_as_an_entry_and_are_named_in_mistakes() -> None:
    values: dict[str, Any] = {"do": "freeze", "node": "lab-2", "for": "3s", "at": "step 9", "rank": None}
    assert fault_from_flags(values) == Fault("freeze", "lab-2", step=9, seconds=3.0)
    with pytest.raises(PlanError, match=r"--rank: 'x' is no rank"):
        fault_from_flags({"do": "kill-worker", "rank": "x"})
    with pytest.raises(PlanError, match=r"'frezze' is no fault \(did you mean freeze\?\)") as raised:
        fault_from_flags({"do": "frezze"})
    assert "slow-link" in raised.value.hint


@pytest.mark.parametrize("seed", range(5))
def test_a_random_plan_is_the_same_for_the_same_seed_and_survives_being_written(
    tmp_path: Path, seed: int
) -> None:
    plan = random_plan(seed, every=20, length=900, kinds=list(MIX))
    assert plan == random_plan(seed, every=20, length=900, kinds=[*MIX][::-1])
    assert plan != random_plan(seed + 1, every=20, length=900, kinds=list(MIX))
    assert len(plan.faults) == 45
    assert [fault.after for fault in plan.faults[:3]] == [20.0, 40.0, 60.0]
    assert read_plan(written(tmp_path, plan.text())) == plan
    assert {fault.kind for fault in random_plan(seed, 1, 60, ["freeze", "unplug"]).faults} == {
        "freeze",
        "unplug",
    }


def test_only_what_random_plans_hold_can_be_asked_of_them() -> None:
    assert parse_kinds("freeze, kill-worker") == ("freeze", "kill-worker")
    with pytest.raises(
        PlanError, match=r"'frese' is nothing that a random plan holds \(did you mean freeze\?\)"
    ):
        parse_kinds("frese")
    with pytest.raises(PlanError, match="names nothing"):
        parse_kinds(",")


def due(schedule: FaultSchedule, elapsed: float, step: int | None = None) -> list[tuple[int, int]]:
    return [(each.index, each.count) for each in schedule.due(elapsed, step)]


def test_each_fault_is_due_once() -> None:
    faults = (Fault("kill-worker", after=10), Fault("kill-worker", step=5), Fault("kill-worker"))
    schedule = FaultSchedule(FaultPlan(faults))
    assert due(schedule, 0.0) == [(2, 1)]
    assert due(schedule, 9.9, 4) == []
    assert due(schedule, 10.0, 7) == [(0, 1), (1, 1)]
    assert due(schedule, 99.0, 99) == []
    assert (schedule.waiting(), schedule.missed()) == ([], [])


def test_a_repeated_fault_comes_again_but_never_in_a_heap() -> None:
    schedule = FaultSchedule(FaultPlan((Fault("kill-worker", every=20), Fault("freeze", after=5, every=20))))
    assert due(schedule, 19.9) == [(1, 1)]
    assert due(schedule, 20.1) == [(0, 1)]
    assert due(schedule, 39.0) == [(1, 2)]
    assert due(schedule, 95.0) == [(0, 2), (1, 3)]
    assert due(schedule, 99.0) == []
    assert due(schedule, 100.0) == [(0, 3)]
    assert len(schedule.waiting()) == 2


def test_a_plan_is_over_after_its_time() -> None:
    schedule = FaultSchedule(
        FaultPlan((Fault("kill-worker", every=20), Fault("freeze", step=9)), length=30.0)
    )
    assert due(schedule, 21.0) == [(0, 1)]
    assert due(schedule, 41.0, 9) == []
    assert schedule.waiting() == []
    assert schedule.missed() == [Fault("freeze", step=9)]


def test_what_is_random_is_drawn_from_the_seed_and_the_place_in_the_plan() -> None:
    def draws(seed: int) -> list[float]:
        schedule = FaultSchedule(FaultPlan((Fault("kill-worker", every=1), Fault("freeze", every=1)), seed))
        return [each.draw for second in (1, 2, 3) for each in schedule.due(second, None)]

    assert draws(7) == draws(7) != draws(8)
    assert len(set(draws(7))) == 6
    assert [choose(draw, "abc") for draw in (0.0, 0.34, 0.99, 1.0)] == ["a", "b", "c", "c"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("kill-worker", "1"), "rank 1 gets SIGKILL"),
        (Fault("kill-worker"), "rank any gets SIGKILL"),
        (Fault("freeze", "a", seconds=10.0), "a freezes for 10s"),
        (Fault("fill-disk", "a", seconds=1.5), "the disk of a is full but for 1m for 1.5s"),
        (Fault("slow-link", "a", rate="1gbit", seconds=2), "the link of a is slow (1gbit) for 2s"),
        (Fault("kill-coordinator", ""), "the coordinator is killed"),
    ],
)
def test_a_fault_is_a_sentence(fault: Fault, says: str) -> None:
    assert fault.sentence() == says


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("kill-worker"), "at once"),
        (Fault("kill-worker", after=30), "at 30s"),
        (Fault("kill-worker", step=3), "at step 3"),
        (Fault("kill-worker", every=20), "every 20s"),
        (Fault("kill-worker", after=5, every=20), "at 5s and every 20s"),
    ],
)
def test_when_a_fault_comes_is_said(fault: Fault, says: str) -> None:
    assert fault.when() == says


def test_every_kind_says_what_it_does_and_no_more_is_written_than_ten_gigabytes() -> None:
    assert all("{target}" in kind.words or not kind.target for kind in KINDS.values())
    assert all(kind.end for kind in KINDS.values() if kind.lasts)
    assert LIMIT == 10_000_000_000
