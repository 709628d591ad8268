"""The file of metrics stays small, and tells the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmtrain.coordinator.store import compaction, metrics
from swarmtrain.coordinator.store.compaction import compact, compacted
from swarmtrain.coordinator.store.metrics import MetricsStore

_LINES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("step"), "step": st.integers(1, 99), "step_s": st.sampled_from([0.25, 0.5])},
        optional={
            "steps": st.integers(1, 9),
            "data_s": st.just(0.125),
            "loss": st.sampled_from([0.5, "nan", None]),
        },
    ),
    st.fixed_dictionaries(
        {"kind": st.just("report"), "values": st.fixed_dictionaries({"loss": st.just(0.75)})}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("phase"), "name": st.sampled_from(["evaluation", "snapshot"]), "on": st.booleans()},
        optional={"seconds": st.sampled_from([1.0, 2.0])},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("eval"), "metrics": st.fixed_dictionaries({"loss": st.floats(0, 1)})}
    ),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["snapshot", "memory_snapshot"]), "step": st.integers(1, 99)}
    ),
    st.fixed_dictionaries({"kind": st.just("resume"), "step": st.integers(1, 99)}),
    st.just({"kind": "end", "step": 99, "weights": "abc", "metrics": {}}),
)


def state(store: MetricsStore) -> dict[str, Any]:
    """What a store knows that others ask it for."""
    told = {name: round(value or 0.0, 6) for name, value in vars(store.time_told).items()}
    reports = [store.report(generation) for generation in (1, 2)]
    steps = [store.step_of(rank, generation) for rank in (0, 1) for generation in (1, 2)]
    return {"told": told, "reports": reports, "steps": steps, "offsets": store.offsets, "saves": store.saves}


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), _LINES), max_size=40))
def test_a_compacted_file_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, bool, dict[str, Any]]]
) -> None:
    place = tmp_path_factory.mktemp("metrics")
    generation = 1
    with contextlib.closing(MetricsStore(place / "metrics.jsonl", lambda: 1000.0, archive=True)) as store:
        for number, (rank, renewed, line) in enumerate(said):
            generation = 2 if renewed else generation
            if "snapshot" in line["kind"]:
                line = {**line, "step": number}  # they go on
            text = json.dumps(line) + "\n"
            store.append(generation, rank, f"n{rank}", store.offsets.get((generation, rank), 0), text)
        before = state(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "_KEPT", 3)
        for _ in range(2):
            compact(place / "metrics.jsonl")
    with contextlib.closing(MetricsStore(place / "metrics.jsonl", lambda: 2000.0, archive=True)) as again:
        assert not again.damage
        assert state(again) == before


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(metrics, "_MOST_BYTES", 20_000)
    monkeypatch.setattr(compaction, "_KEPT", 20)
    yield


def test_a_long_training_keeps_a_small_file_and_every_point(small: None, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with contextlib.closing(MetricsStore(path, lambda: 1000.0)) as store:
        for step in range(1, 2001):
            text = json.dumps({"kind": "step", "step": step, "step_s": 0.5, "loss": 1 / step}) + "\n"
            store.append(1, 0, "a", store.offsets.get((1, 0), 0), text)
        assert path.stat().st_size < 100_000
        before = state(store)
        points = {key.name: len(store.series.store().read(key)) for key in store.series.store().last()}
    assert points["train/loss"] == 2000
    with contextlib.closing(MetricsStore(path, lambda: 1000.0)) as again:
        assert state(again) == before
        again.append(1, 0, "a", again.offsets[1, 0], '{"kind":"step","step":2001,"loss":0.5}\n')
        assert again.step_of(0, 1) == 2001


def test_a_disk_that_does_not_take_the_small_file_keeps_the_large_one(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics, "compact", full)
    with contextlib.closing(MetricsStore(tmp_path / "metrics.jsonl", lambda: 1000.0)) as store:
        for step in range(1, 1001):
            text = json.dumps({"kind": "step", "step": step}) + "\n"
            store.append(1, 0, "a", store.offsets.get((1, 0), 0), text)
        assert store.step_of(0, 1) == 1000
    assert "stays as long as it is" in capsys.readouterr().err


def test_of_lines_that_come_by_the_million_one_stays_at_its_place() -> None:
    place = {"g": 1, "r": 0, "n": "a", "at": 5.0}
    lines = [
        {"kind": "step", "step": 1, "steps": 2, "step_s": 1.0, "loss": 0.5, "o": 1, **place},
        {"kind": "resume", "step": 0, "o": 2, **place},
        {"kind": "step", "step": 4, "steps": 2, "step_s": 3.0, "loss": 0.25, "o": 3, **place, "at": 9.0},
    ]
    resume, step = compacted(lines)
    assert resume["kind"] == "resume"
    assert (step["step"], step["steps"], step["step_s"], step["step_s_now"], step["loss"]) == (
        4,
        4,
        2.0,
        3.0,
        0.25,
    )
    assert (step["o"], step["at"], step["first"]) == (3, 9.0, 5.0)
