"""What clients get of the series: which of them, in which range, on which axis, how fine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmtrain.coordinator.store.series.head import Batch, Reading
from swarmtrain.coordinator.store.series.query import Query
from swarmtrain.coordinator.store.series.store import SeriesLimits, SeriesStore
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.points import Series, SeriesPoint

NOW = 10_000.0


class Told:
    """A store, and what is told to it."""

    def __init__(self, path: Path) -> None:
        self.store = SeriesStore(path / "series", limits=SeriesLimits(head=25), beside=lambda work: work())
        self._offsets: dict[str, int] = {}

    def node(self, node: str, moment: float, **values: float) -> None:
        self._tell(f"{node}#1", node, 0, ("node", node), Reading(moment, None, _named(values)))

    def rank(
        self, rank: int, step: int, moment: float, generation: int = 1, node: str = "", **values: float
    ) -> None:
        node = node or f"lab-{rank + 1}"
        reading = Reading(moment, step, _named(values))
        self._tell(f"{generation}-{rank}", node, generation, ("rank", str(rank)), reading)

    def _tell(
        self, source: str, node: str, generation: int, label: tuple[str, str], reading: Reading
    ) -> None:
        self._offsets[source] = offset = self._offsets.get(source, 0) + 1
        self.store.append(Batch(source, offset, node, generation, (label,), (reading,)))

    def ask(self, *names: str, **wanted: object) -> list[Series]:
        return list(Query(self.store, SeriesRequest(names, **wanted), NOW).answers())  # type: ignore[arg-type]

    def points(self, name: str, **wanted: object) -> list[SeriesPoint]:
        (series,) = self.ask(name, **wanted)
        return series.points

    def steps(self, name: str, **wanted: object) -> list[tuple[int | None, int, float | None]]:
        return [(each.step, each.generation, each.mean) for each in self.points(name, **wanted)]


def _named(values: dict[str, float]) -> dict[str, float]:
    return {name.replace("__", "/", 1): value for name, value in values.items()}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    scene = Told(tmp_path)
    yield scene
    scene.store.close()


def test_without_names_all_series_come_in_order_with_what_they_are_now(told: Told) -> None:
    told.rank(1, 3, 103.0, train__loss=0.5)
    told.rank(0, 4, 104.0, train__loss=math.nan)
    told.node("lab-1", 105.0, node__cpu_busy_ratio=0.25)
    assert told.ask(points=False) == [
        Series("node/cpu_busy_ratio", {"node": "lab-1"}, "ratio", ["lab-1"], 105.0, None, 0.25),
        Series("train/loss", {"rank": "0"}, "", ["lab-1"], 104.0, 4, None),
        Series("train/loss", {"rank": "1"}, "", ["lab-2"], 103.0, 3, 0.5),
    ]


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (("train/*",), {}, ["train/loss{rank=0}", "train/loss{rank=1}"]),
        (("*loss",), {"ranks": (1,)}, ["train/loss{rank=1}"]),
        (("*",), {"nodes": ("lab-2",)}, ["node/load{node=lab-2}", "train/loss{rank=1}"]),
        (("train/loss{rank=0}", "node/*"), {"nodes": ("lab-1",)}, ["train/loss{rank=0}"]),
        ((), {"labels": {"rank": "[1-9]"}}, ["train/loss{rank=1}"]),
        (("none",), {}, []),
    ],
)
def test_series_are_chosen_by_patterns_ranks_nodes_and_labels(
    told: Told, names: tuple[str, ...], wanted: dict[str, object], found: list[str]
) -> None:
    for rank in (0, 1):
        told.rank(rank, 1, 100.0, train__loss=0.5)
    told.node("lab-2", 100.0, node__load=1.0)
    assert [str(each) for each in told.ask(*names, points=False, **wanted)] == found


def test_a_range_of_time_holds_both_of_its_ends_and_counts_back_from_now(told: Told) -> None:
    for moment in range(9900, 10_000, 10):
        told.node("lab-1", float(moment), node__load=float(moment))
    assert [point.x for point in told.points("node/load", start=9920.0, end=9940.0)] == [9920, 9930, 9940]
    assert [point.x for point in told.points("node/load", start=-30.0)] == [9970, 9980, 9990]
    assert told.ask("node/load", start=9991.0) == []


def test_a_step_that_was_made_again_is_that_of_the_newest_generation(told: Told) -> None:
    """Generation 1 came to step 7; generation 2 went on from step 4 on another node."""
    for step in range(1, 8):
        told.rank(0, step, 100.0 + step, train__loss=float(step))
    for step in range(5, 9):
        told.rank(0, step, 200.0 + step, generation=2, node="lab-9", train__loss=step + 0.5)
    newest = [(step, 1, float(step)) for step in range(1, 5)] + [
        (step, 2, step + 0.5) for step in range(5, 9)
    ]
    assert told.steps("train/loss", x="step") == newest
    assert told.steps("train/loss") == newest
    assert told.steps("train/loss", end=150.0) == newest[:4]
    every = told.steps("train/loss", repeated=True)
    assert len(every) == 11 and (7, 1, 7.0) in every
    assert told.ask("train/loss")[0].nodes == ["lab-1", "lab-9"]


def test_an_evaluation_of_a_step_that_was_made_again_is_void_before_it_is_made_again(told: Told) -> None:
    told.rank(0, 20, 100.0, eval__loss=0.3, train__samples=2000.0)
    told.rank(0, 40, 101.0, eval__loss=0.1, train__samples=4000.0)
    told.rank(0, 31, 200.0, generation=2, train__samples=3100.0, train__loss=0.2)
    assert told.steps("eval/loss") == [(20, 1, 0.3)]
    assert len(told.steps("eval/loss", repeated=True)) == 2


def test_what_nodes_measure_is_never_void(told: Told) -> None:
    told.node("lab-1", 100.0, node__load=1.0)
    told.rank(0, 1, 101.0, generation=2, train__samples=1.0)
    assert told.steps("node/load") == [(None, 0, 1.0)]
    assert told.ask("node/load", x="step") == []


def test_samples_are_an_axis_for_every_series_of_the_training(told: Told) -> None:
    for step in (10, 20, 30):
        told.rank(0, step, 100.0 + step, train__samples=step * 64.0, train__loss=1.0 / step)
    told.rank(1, 15, 116.0, train__loss=0.5)
    assert [point.x for point in told.points("train/loss", ranks=(0,), x="samples")] == [640, 1280, 1920]
    assert [point.x for point in told.points("train/loss", ranks=(1,), x="samples")] == [960]
    assert [point.step for point in told.points("train/loss", ranks=(0,), x="samples", start=1000)] == [
        20,
        30,
    ]


def test_steps_that_come_out_of_order_are_put_in_order_on_their_axis(told: Told) -> None:
    for step in (3, 1, 2):
        told.rank(0, step, 100.0, train__accuracy=float(step))
    assert [point.x for point in told.points("train/accuracy", x="step")] == [1, 2, 3]


def test_what_is_not_finite_is_no_value_and_is_counted(told: Told) -> None:
    told.rank(0, 1, 100.0, train__loss=0.5)
    told.rank(0, 2, 101.0, train__loss=math.nan)
    told.rank(0, 3, 102.0, train__loss=math.inf)
    one, *others = told.points("train/loss")
    assert (one.low, one.mean, one.high, one.bad) == (0.5, 0.5, 0.5, 0)
    assert [(each.mean, each.points, each.bad) for each in others] == [(None, 1, 1)] * 2
    (thin,) = told.points("train/loss", every=1000.0)
    assert (thin.mean, thin.points, thin.bad) == (0.5, 3, 2)


@pytest.mark.parametrize("x", ["time", "step"])
def test_at_most_so_many_points_come_and_none_is_left_out_of_them(told: Told, x: str) -> None:
    for step in range(1, 400):
        told.rank(0, step, 100.0 + step * 7, train__loss=float(step % 50))
    points = told.points("train/loss", x=x, most=40)
    assert 15 <= len(points) <= 40
    assert sum(point.points for point in points) == 399
    assert min(point.low or 0 for point in points) == 0 and max(point.high or 0 for point in points) == 49
    assert [point.x for point in points] == sorted(point.x for point in points)
    assert len(told.points("train/loss", x=x, most=0)) == 399


def test_points_stay_where_they_are_as_a_range_moves_on(told: Told) -> None:
    """A live plot does not flicker: stretches begin at round times, not at the range's edge."""
    for moment in range(0, 3000, 10):
        told.node("lab-1", float(moment), node__load=float(moment % 70))
    first = told.points("node/load", start=0.0, end=2000.0, every=60.0)
    later = told.points("node/load", start=120.0, end=2400.0, every=60.0)
    assert first[2:33] == later[:31]


@settings(max_examples=examples(50))
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 5)), min_size=1, max_size=8),
    st.integers(0, 60),
)
def test_of_every_step_there_is_one_point_however_often_the_training_went_back(
    tmp_path_factory: pytest.TempPathFactory, generations: list[tuple[int, int]], most: int
) -> None:
    """Each generation makes some steps, and the next one goes back by some."""
    told, expected, at, moment = Told(tmp_path_factory.mktemp("series")), dict[int, int](), 0, 100.0
    for number, (steps, back) in enumerate(generations, start=1):
        for step in range(at + 1, at + steps + 1):
            told.rank(0, step, moment, generation=number, train__loss=float(number))
            expected[step] = number
            moment += 1.0
        for void in [each for each in expected if each > at + steps]:
            del expected[void]
        at = max(0, at + steps - back)
    try:
        exact = told.points("train/loss", x="step", most=0)
        assert {point.step: point.generation for point in exact} == expected
        assert len(exact) == len(expected)
        by_time = told.points("train/loss", most=most)
        assert sum(point.points for point in by_time) == len(expected)
    finally:
        told.store.close()
