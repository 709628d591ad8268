"""Why a rank is slow: what differs between it and the others, said only where it is clear; and what the series tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from client_fakes import seen

from swarmtrain.coordinator.clients.measures import node_measures, rank_paces
from swarmtrain.coordinator.store.series.head import Batch, Reading
from swarmtrain.coordinator.store.series.store import SeriesStore
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.diagnose import diagnose
from swarmtrain.diagnosis.measures import NodeMeasures, RankPace, why_slow
from swarmtrain.protocol.journal.remarks import StragglerSeen

NODES = {0: "lab-1", 1: "lab-2", 2: "lab-3"}
USUAL = RankPace(data=0.002, compute=0.02)
SLOW = RankPace(data=0.002, compute=0.06)
STOLEN, THROTTLED, BUSY = "node/cpu_steal_ratio", "node/cpu_throttled_ratio", "node/cpu_busy_ratio"


def measured(values: Mapping[str, float], hot: float = 0.0) -> NodeMeasures:
    gpu = {"gpu/slowed_by_heat": hot, "gpu/temperature_celsius": 91.0}
    return NodeMeasures(time=1000.0, values=values, gpus={"0": gpu})


def why(
    own: RankPace, mine: NodeMeasures | None = None, others: NodeMeasures | None = None
) -> tuple[str, list[str]] | None:
    measures = {} if mine is None else {"lab-2": mine}
    if others is not None:
        measures |= {"lab-1": others, "lab-3": others}
    found = why_slow(1, NODES, {0: USUAL, 1: own, 2: USUAL}, measures)
    return None if found is None else (found.why, list(found.seen))


def test_a_rank_that_waits_for_its_data_is_told_from_one_that_computes_longer() -> None:
    waits = RankPace(data=0.05, compute=0.021)
    told = "waits 50 ms a step for its data, the others 2 ms"
    assert why(waits) == ("it waits for its data", [told])
    told = "computes 60 ms a step, the others 20 ms"
    assert why(SLOW) == ("its computing takes longer", [told])


@pytest.mark.parametrize("name", ["node/pressure_io_ratio", "node/cpu_wait_ratio"])
def test_a_slow_disk_is_told_where_no_other_node_waits_for_one(name: str) -> None:
    waits, busy, idle = RankPace(data=0.05, compute=0.021), measured({name: 0.62}), measured({name: 0.04})
    found = why(waits, busy, idle)
    assert found is not None and "the disk of its node is slow" in found[0]
    assert "processes on lab-2 wait for a disk 62 % of the time, on other nodes 4 % at most" in found[1]
    for mine, others in ((busy, busy), (idle, idle), (busy, None), (None, None)):
        assert (found := why(waits, mine, others)) is not None and found[0] == "it waits for its data"


def test_of_its_own_past_it_is_said_whether_it_was_so_before() -> None:
    for before, words in (
        (0.022, "took 22 ms for both some minutes ago, and takes 62 ms now"),
        (0.06, "took as long some minutes ago"),
    ):
        found = why(replace(SLOW, before=before))
        assert found is not None and found[1][-1] == words


@pytest.mark.parametrize(
    "own", [USUAL, RankPace(data=0.002, compute=0.024), RankPace(data=0.022, compute=0.04)]
)
def test_what_is_not_clear_is_not_said(own: RankPace) -> None:
    assert why(own) is None
    assert why_slow(1, NODES, {1: SLOW}, {}) is None
    assert why_slow(1, NODES, {0: USUAL}, {}) is None


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (measured({}, hot=1.0), "its GPU is slowed by heat"),
        (measured({STOLEN: 0.3}), "the host of its virtual machine gives the processors to others"),
        (measured({THROTTLED: 0.3}), "its container's processor limit holds it back"),
        (
            measured({BUSY: 0.99}),
            "its node's processors are all busy: another process runs there, or it has fewer of them",
        ),
    ],
)
def test_what_is_taken_from_a_node_and_from_no_other_is_named(mine: NodeMeasures, words: str) -> None:
    idle = measured({BUSY: 0.3})
    found = why(SLOW, mine, idle)
    assert found is not None and found[0] == words and "lab-2" in found[1][1]
    for others in (mine, None):  # it is everywhere so, or nobody knows
        found = why(SLOW, mine, others)
        assert found is not None and found[0] == "its computing takes longer"


def test_the_reason_is_told_with_the_straggler() -> None:
    told = StragglerSeen(text="lab-2: rank 1 takes 60 ms a step, 3.0 times as long", rank=1, node="lab-2")
    workers = [replace(seen().workers[0], rank=rank, node=node) for rank, node in NODES.items()]
    case = Case.of(replace(seen(step=12), workers=workers), (told,))
    assert diagnose(case).unseen == ["Why its work takes longer."]
    found = diagnose(replace(case, paces={0: USUAL, 1: SLOW, 2: USUAL}))
    assert (found.code, found.cause, found.unseen) == ("slow-rank", "its computing takes longer", [])
    assert "computes 60 ms a step, the others 20 ms" in [each.text for each in found.evidence]


# ---- from the series -------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeriesStore]:
    """Two ranks, of which one became slow a minute ago, and a node that measures itself every ten seconds."""
    kept = SeriesStore(tmp_path / "series", beside=lambda work: work())
    for rank in (0, 1):
        readings = []
        for second in range(0, 600, 5):
            compute = 0.03 if rank == 1 and second >= 540 else 0.01
            names = ("forward", "backward", "optimizer")
            values = {f"train/{name}_seconds": compute for name in names} | {"train/data_seconds": 0.001}
            readings.append(Reading(1000.0 + second, second, values))
        kept.append(Batch(f"1-{rank}", 1, f"lab-{rank + 1}", 1, (("rank", str(rank)),), tuple(readings)))
    levels = [
        Reading(
            1000.0 + second, None, {"node/memory_available_bytes": 1e9 - second, "node/swap_used_bytes": 7.0}
        )
        for second in range(0, 600, 10)
    ]
    kept.append(Batch("lab-1#1", 1, "lab-1", 0, (("node", "lab-1"),), tuple(levels)))
    heat = Reading(1590.0, None, {"gpu/temperature_celsius": 80.0})
    kept.append(Batch("lab-1#2", 1, "lab-1", 0, (("node", "lab-1"), ("gpu", "0")), (heat,)))
    yield kept
    kept.close()


def test_the_newest_measurements_before_a_failure_are_found(store: SeriesStore) -> None:
    found = node_measures(store, ["lab-1", "lab-9"], 1305.0)
    values = {"node/memory_available_bytes": 1e9 - 300, "node/swap_used_bytes": 7.0}
    assert found == {"lab-1": NodeMeasures(time=1300.0, values=values)}
    assert node_measures(store, ["lab-1"], 1600.0)["lab-1"].gpus == {"0": {"gpu/temperature_celsius": 80.0}}
    assert node_measures(store, ["lab-1"], 1700.0) == {}, "what is old says nothing"


def test_where_the_time_of_steps_goes_is_found_now_and_before(store: SeriesStore) -> None:
    found = rank_paces(store, 1, 1600.0)
    assert (found[0].data, found[0].compute) == pytest.approx((0.001, 0.03))
    assert (found[1].compute, found[1].before) == pytest.approx((0.09, 0.031))
    assert rank_paces(store, 1, 1010.0) == {}, "too few steps"
    assert rank_paces(store, 2, 1600.0) == {}
