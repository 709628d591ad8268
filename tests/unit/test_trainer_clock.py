"""The ranks' one clock: what is due when, and how rarely that is asked."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hand_clock import HandClock

from swarmtrain.trainer.distributed import World
from swarmtrain.trainer.snapshots import clock as clock_module
from swarmtrain.trainer.snapshots.clock import SharedClock

CPU = torch.device("cpu")


def world(size: int = 1, rank: int = 0) -> Any:
    return World(rank, size, 0, "0", CPU, CPU, "none", owned=False)


@pytest.fixture
def time() -> HandClock:
    return HandClock()


def test_things_are_due_by_their_own_times_and_put_off_when_they_cost_too_much(time: HandClock) -> None:
    clock = SharedClock(world(), {"disk": 10.0, "memory": 4.0, "never": None}, {}, time)
    found: dict[str, list[int]] = {}
    for step in range(1, 31):
        time.now += 1.0
        for name in clock.due(step):
            found.setdefault(name, []).append(step)
            clock.reset(name)
            if step == 12:
                clock.put_off("memory", 10.0)
    assert found == {"disk": [10, 20, 30], "memory": [4, 8, 12, 22, 26, 30]}


def test_a_wish_of_any_rank_is_everyone_s(time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def greatest(world: Any, values: Any) -> Any:
        asked.append(values.tolist())
        return torch.maximum(values, torch.tensor([0, 1]))  # another rank wishes a pause

    monkeypatch.setattr(clock_module, "greatest", greatest)
    assert SharedClock(world(2), {}, {"pause": lambda: False}, time).due(1) == {"pause"}


def test_ranks_ask_each_other_a_few_times_a_second_and_never_more_than_64_steps_apart(
    time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def greatest(world: Any, values: Any) -> Any:
        asked.append(time.now)
        return values

    monkeypatch.setattr(clock_module, "greatest", greatest)
    clock = SharedClock(world(2), {}, {"pause": lambda: False}, time)
    for step in range(1, 2001):
        time.now += 0.01
        clock.due(step)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert 70 <= len(asked) <= 90 and max(gaps) < 0.5
    asked.clear()
    for step in range(2001, 12001):
        time.now += 0.0001
        clock.due(step)
    assert 10_000 / 64 - 30 <= len(asked) <= 10_000 / 64 + 30


def test_without_anything_to_look_for_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "greatest", None)
    assert SharedClock(world(2), {"disk": None}, {}).due(1) == set()
