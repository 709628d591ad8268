"""Dealing samples out to ranks: each once, at any world size, from any place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from swarmtrain.trainer import SampleCursor, TrainerError
from swarmtrain.trainer.data import TrainLoader, checked_size, inputs_and_targets, to_device
from swarmtrain.trainer.dealing import Dealing, goal_of, plan_steps, step_sizes
from swarmtrain.trainer.evaluation import count_samples

CASES = list(itertools.product([1, 2, 7, 24, 25], [1, 2, 3, 5], [1, 4, 6], [None, 1, 2]))


def dealt(
    cursor: SampleCursor, world_size: int, batch_size: int, micro_batch: int | None = None, least: int = 1
) -> Any:
    """Every rank's plan of the rest of the epoch, as a list of steps for each rank."""
    dealing = Dealing(world_size, batch_size, micro_batch, least)
    return [list(plan_steps(cursor, rank, dealing)) for rank in range(world_size)]


def counted(plans: Any) -> Any:
    return [
        index
        for plan in plans
        for step in plan
        for microbatch in step.microbatches
        if microbatch.samples
        for index in microbatch.indices
    ]


@pytest.mark.parametrize(("size", "world_size", "batch_size", "micro_batch"), CASES)
def test_each_sample_is_dealt_out_once(
    size: int, world_size: int, batch_size: int, micro_batch: int | None
) -> None:
    plans = dealt(SampleCursor(size, seed=3), world_size, batch_size, micro_batch)
    assert sorted(counted(plans)) == list(range(size))


@pytest.mark.parametrize(("size", "world_size", "batch_size", "micro_batch"), CASES)
def test_ranks_make_the_same_steps_and_each_takes_part_in_all(
    size: int, world_size: int, batch_size: int, micro_batch: int | None
) -> None:
    for same_step in zip(*dealt(SampleCursor(size), world_size, batch_size, micro_batch), strict=True):
        assert len({step.samples for step in same_step}) == 1
        assert (
            sum(microbatch.samples for step in same_step for microbatch in step.microbatches)
            == same_step[0].samples
        )
        for step in same_step:
            assert step.microbatches
            assert all(
                len(microbatch.indices) <= (micro_batch or batch_size) for microbatch in step.microbatches
            )


def test_a_step_is_the_same_samples_at_every_world_size() -> None:
    def steps(world_size: int) -> Any:
        plans = dealt(SampleCursor(25, seed=1), world_size, 6)
        return [sorted(counted([[step] for step in same_step])) for same_step in zip(*plans, strict=True)]

    assert steps(1) == steps(2) == steps(3) == steps(4)


@pytest.mark.parametrize("stops", [[(2, 6), (3, 6)], [(3, 4), (1, 5), (4, 6)], [(5, 1), (2, 24)]])
def test_world_sizes_that_change_in_an_epoch_leave_no_sample_out(stops: Any) -> None:
    cursor = SampleCursor(47, seed=9)
    seen = []
    for number, (world_size, batch_size) in enumerate(stops):
        plans = dealt(cursor, world_size, batch_size)
        if number < len(stops) - 1:
            plans = [plan[:2] for plan in plans]
        seen += counted(plans)
        cursor.advance(sum(step.samples for step in plans[0]))
    assert cursor.at_end
    assert sorted(seen) == list(range(47))


def test_each_epoch_has_an_order_of_its_own_and_a_seed_repeats_it() -> None:
    cursor = SampleCursor(100, seed=5)
    first = cursor.order().tolist()
    cursor.next_epoch()
    assert cursor.order().tolist() != first
    assert SampleCursor(100, seed=5).order().tolist() == first
    assert SampleCursor(100, seed=6).order().tolist() != first
    assert SampleCursor(4, shuffle=False).order().tolist() == [0, 1, 2, 3]


def test_a_cursor_goes_to_where_another_stood() -> None:
    cursor = SampleCursor(10, epoch=3, consumed=4)
    other = SampleCursor(10)
    other.load_state_dict(cursor.state_dict())
    assert other == cursor


@pytest.mark.parametrize("changed", [{"size": 11}, {"seed": 1}, {"shuffle": False}])
def test_other_data_is_taken_between_epochs_and_refused_within_one(changed: dict[str, Any]) -> None:
    between = SampleCursor(10, epoch=2).state_dict()
    within = SampleCursor(10, epoch=2, consumed=4).state_dict()
    cursor = SampleCursor(**{"size": 10, **changed})
    cursor.load_state_dict(between)
    assert cursor.epoch == 2
    with pytest.raises(TrainerError, match=f"with {next(iter(changed))}"):
        cursor.load_state_dict(within)


def test_the_loader_yields_a_rank_its_batches_and_starts_where_the_cursor_stands() -> None:
    dataset = TensorDataset(torch.arange(10), torch.arange(10) * 2)
    cursor = SampleCursor(10, shuffle=False, consumed=4)
    loader = TrainLoader(dataset, cursor, rank=1, dealing=Dealing(2, 4, 1))
    steps = [
        (step.samples, [microbatch.batch[0].tolist() for microbatch in step.microbatches])
        for step in loader.steps()
    ]
    assert steps == [(4, [[5], [7]]), (2, [[9]])]


def test_loading_leaves_the_training_s_random_numbers_alone() -> None:
    loader = TrainLoader(TensorDataset(torch.arange(4.0)), SampleCursor(4), rank=0, dealing=Dealing(1, 2))
    before = torch.get_rng_state()
    for step in loader.steps():
        list(step.microbatches)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [2, 7, 24, 25, 33])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("micro_batch", [None, 3, 4])
def test_a_rank_has_at_least_so_many_samples_or_none(
    size: int, world_size: int, micro_batch: int | None
) -> None:
    cursor, dealing = SampleCursor(size), Dealing(world_size, 8, micro_batch, 2)
    plans = dealt(cursor, world_size, 8, micro_batch, least=2)
    assert sorted(counted(plans)) == list(range(size))
    for same_step in zip(*plans, strict=True):
        microbatches = [len(microbatch.indices) for step in same_step for microbatch in step.microbatches]
        smallest = min(
            microbatch.samples for step in same_step for microbatch in step.microbatches if microbatch.samples
        )
        assert smallest == dealing.smallest(same_step[0].samples)
        assert min(microbatches) >= min(2, same_step[0].samples)
    assert {step.samples for step in plans[0]} == step_sizes(cursor, 8)


def test_what_is_too_little_for_a_step_is_left_out_where_that_is_wanted() -> None:
    cursor = SampleCursor(25, seed=3, least=8)
    plans = dealt(cursor, 3, 8)
    assert [step.samples for step in plans[0]] == [8, 8, 8]
    assert sorted(counted(plans)) == sorted(cursor.order()[:24].tolist())
    assert step_sizes(cursor, 8) == {8}
    cursor.advance(16)
    assert not cursor.at_end
    cursor.advance(8)
    assert cursor.at_end and list(plan_steps(cursor, 0, Dealing(3, 8))) == []


def test_steps_that_are_the_same_on_all_ranks_are_told_from_others() -> None:
    assert Dealing(3, 32).is_even(32) and Dealing(3, 32).is_even(4) and not Dealing(3, 32).is_even(2)
    assert Dealing(3, 32, micro_batch=6).is_even(32)
    assert not Dealing(3, 32, micro_batch=10).is_even(32)  # 11 and 10 samples: two pieces and one


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "has no length"),
        (TensorDataset(torch.zeros(0)), "is empty"),
        (DataLoader(TensorDataset(torch.zeros(3))), "is a DataLoader"),
    ],
)
def test_data_that_cannot_be_dealt_out_is_refused(data: Any, message: str) -> None:
    with pytest.raises(TrainerError, match=message):
        checked_size(data, "training")


def test_batches_move_with_their_structure_and_are_counted() -> None:
    batch = {"a": [torch.zeros(3, 2), torch.ones(3)], "b": (torch.zeros(3), "name")}
    moved = to_device(batch, torch.device("meta"))
    assert (
        moved["a"][0].device.type == "meta"
        and moved["b"][0].device.type == "meta"
        and moved["b"][1] == "name"
    )
    assert isinstance(moved["b"], tuple)
    assert count_samples([batch, torch.zeros(3)]) == 3


def test_samples_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(TrainerError, match="not an"):
        inputs_and_targets(torch.zeros(3), torch.device("cpu"))


@pytest.mark.parametrize(
    ("consumed", "least", "wanted", "end"),
    [
        (0, 1, {"epochs": 2}, 22),  # 10 whole steps and a smaller one, twice
        (0, 10, {"epochs": 2}, 20),  # smaller ones are left out
        (50, 1, {"epochs": 2}, 7 + 6 + 11),
        (0, 1, {"steps": 30}, 30),
        (0, 1, {"epochs": 2, "steps": 15}, 15),
        (0, 1, {"epochs": 0}, 7),
        (0, 1, {"steps": 3}, 7),  # which lie behind it
    ],
)
def test_a_training_knows_the_step_at_which_it_ends(
    consumed: int, least: int, wanted: dict[str, int], end: int
) -> None:
    cursor = SampleCursor(105, consumed=consumed, least=least)
    step = 7 if consumed or end == 7 else 0
    told = goal_of(cursor, step, wanted.get("epochs"), wanted.get("steps"), 10)
    assert told == end
