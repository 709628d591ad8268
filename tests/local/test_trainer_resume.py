"""A training that was stopped ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_harness import ranks, values
from trainer_job import Every, Job, replace, same, train

from swarmtrain.trainer import Trainer
from swarmtrain.trainer.snapshots import files as snapshot_files

JOB = Job(steps=13, snapshot=Every(steps=3))  # an epoch is 5 steps, so steps 3 and 6 are in the middle of one


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return values(train, 2, tmp_path_factory.mktemp("uninterrupted"), JOB)[0]


def node(directory: Path, rank: int) -> Path:
    return directory / f"node{rank}" / "snapshots"


def break_newest(directory: Path) -> int:
    """Flips a bit in the newest snapshot; returns its step."""
    newest = snapshot_files.listed(directory)[0]
    path = directory / newest.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return newest.step


def test_stopped_in_the_middle_of_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    stopped = values(train, 2, tmp_path, replace(JOB, steps=7))
    assert stopped[0]["step"] == 7
    resumed = values(train, 2, tmp_path, JOB)
    assert resumed[0]["step"] == 13 and resumed[0]["epoch"] == 2
    for rank in range(2):
        assert same(resumed[rank]["weights"], uninterrupted["weights"])
    assert resumed[0]["lr"] == uninterrupted["lr"]
    assert resumed[0]["metrics"] == uninterrupted["metrics"]


def test_three_ranks_add_their_gradients_up_in_the_same_order_after_a_resume(tmp_path: Path) -> None:
    """A rounded sum of three depends on their order, and that in an all-reduce on the place in a bucket."""
    job = replace(JOB, steps=30)
    whole = values(train, 3, tmp_path / "whole", job)[0]
    for steps in (7, 12, 20):
        values(train, 3, tmp_path / "parts", replace(job, steps=steps))
    assert same(values(train, 3, tmp_path / "parts", job)[0]["weights"], whole["weights"])


def test_a_failing_rank_fails_the_others_and_the_next_try_goes_on_from_the_snapshot(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    first = ranks(train, 2, tmp_path, replace(JOB, fail_at=(1, 8)))
    assert first[1].error == "ArithmeticError"
    assert first[0].error, "rank 0 trained on without rank 1"
    resumed = ranks(train, 2, tmp_path, JOB)
    assert "at epoch 1, step 6" in resumed[0].output
    assert same(resumed[0].value["weights"], uninterrupted["weights"])


def test_a_finished_training_is_not_trained_again(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    values(train, 2, tmp_path, JOB)
    again = values(train, 2, tmp_path, JOB)
    assert again[0]["step"] == 13
    assert same(again[0]["weights"], uninterrupted["weights"])
    assert again[0]["metrics"] == uninterrupted["metrics"]


def test_a_damaged_newest_snapshot_is_passed_over_and_named(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7))
    assert [break_newest(node(tmp_path, rank)) for rank in range(2)] == [7, 7]
    resumed = ranks(train, 2, tmp_path, JOB)
    assert "damaged snapshot of step 7 on node 0" in resumed[0].output
    assert "damaged snapshot of step 7 on node 1" in resumed[0].output
    assert "does not match its checksum" in resumed[0].output
    assert "at epoch 1, step 6" in resumed[0].output
    assert same(resumed[1].value["weights"], uninterrupted["weights"])


def test_a_node_whose_snapshot_is_damaged_gets_it_from_another(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7))
    break_newest(node(tmp_path, 0))
    resumed = ranks(train, 2, tmp_path, JOB)
    assert "damaged snapshot of step 7 on node 0" in resumed[0].output
    assert "at epoch 1, step 7" in resumed[0].output
    assert same(resumed[0].value["weights"], uninterrupted["weights"])


@pytest.mark.parametrize("holder", [0, 1])
def test_a_snapshot_that_one_node_holds_is_shared_with_all(
    tmp_path: Path, uninterrupted: dict[str, Any], holder: Any
) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7))
    for path in node(tmp_path, 1 - holder).iterdir():
        path.unlink()
    resumed = ranks(train, 2, tmp_path, replace(JOB, snapshot=Every(steps=100)))
    assert "at epoch 1, step 7" in resumed[0].output
    assert same(resumed[0].value["weights"], uninterrupted["weights"])
    for rank in range(2):
        directory = node(tmp_path, rank)
        kept = {manifest.step: manifest for manifest in snapshot_files.listed(directory)}
        assert snapshot_files.damage(directory, kept[7]) is None


def test_nodes_that_stopped_at_different_steps_go_on_from_the_newest(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7))
    newest = snapshot_files.listed(node(tmp_path, 1))[0]
    snapshot_files.discard(node(tmp_path, 1), newest)
    assert [snapshot_files.listed(node(tmp_path, rank))[0].step for rank in range(2)] == [7, 6]
    resumed = values(train, 2, tmp_path, JOB)
    assert same(resumed[1]["weights"], uninterrupted["weights"])


def test_another_number_of_ranks_goes_on_with_each_remaining_sample_once(tmp_path: Path) -> None:
    job = replace(JOB, plain=True, samples=43)
    alone = values(train, 1, tmp_path / "alone", job)[0]
    values(train, 2, tmp_path / "shrunk", replace(job, steps=4))
    grown = values(train, 3, tmp_path / "shrunk", job)
    from trainer_job import close

    assert grown[0]["step"] == alone["step"] and grown[0]["epoch"] == alone["epoch"]
    assert close(grown[2]["weights"], alone["weights"])


def test_workers_that_augment_go_on_bit_for_bit_whatever_their_number(tmp_path: Path) -> None:
    job = replace(JOB, augment=True, workers=1, steps=8)
    whole = values(train, 2, tmp_path / "whole", job)
    values(train, 2, tmp_path / "parts", replace(job, steps=4))
    parts = values(train, 2, tmp_path / "parts", replace(job, workers=2))
    assert same(parts[0]["weights"], whole[0]["weights"])


def test_each_node_keeps_the_newest_few(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, keep=2))
    for rank in range(2):
        directory = node(tmp_path, rank)
        assert [manifest.step for manifest in snapshot_files.listed(directory)] == [13, 12]
        assert len(list(directory.glob("g*"))) == 4


def test_snapshots_by_the_clock_are_taken_at_the_same_steps_on_all_nodes(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=200, snapshot=Every(seconds=0.1), keep=50))
    steps = [[manifest.step for manifest in snapshot_files.listed(node(tmp_path, rank))] for rank in range(2)]
    assert steps[0] == steps[1] and len(steps[0]) > 2


def test_a_fresh_start_does_not_mix_with_an_earlier_training(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=4))
    for outcome in ranks(train, 2, tmp_path, replace(JOB, resume=False)):
        assert outcome.error == "TrainerError"
        assert "holds snapshots of an earlier training" in outcome.message


def test_other_data_in_the_middle_of_an_epoch_is_refused(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7))
    for outcome in ranks(train, 2, tmp_path, replace(JOB, samples=41)):
        assert outcome.error == "TrainerError" and "with size 40, and now size is 41" in outcome.message


class Residual:
    """Something that differs from rank to rank, such as what compression of the gradients has left over."""

    def __init__(self, rank: int) -> None:
        self.left = torch.full((3,), float(rank))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"left": self.left}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.left.copy_(state["left"])


def train_with_residual(steps: int) -> list[float]:
    data = torch.utils.data.TensorDataset(torch.ones(8, 1), torch.ones(8, 1))
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Trainer(model, data, optimizer, loss=torch.nn.functional.mse_loss) as trainer:
        residual = Residual(trainer.world.rank)
        trainer.add_rank_state("residual", residual)
        trainer.resume()
        residual.left += 10
        trainer.fit(steps=steps)
    return residual.left.tolist()


def test_state_of_each_rank_goes_back_to_its_rank_and_to_none_of_another_number(tmp_path: Path) -> None:
    assert values(train_with_residual, 2, tmp_path, 1) == [[10.0] * 3, [11.0] * 3]
    assert values(train_with_residual, 2, tmp_path, 2) == [[20.0] * 3, [21.0] * 3]
    assert values(train_with_residual, 1, tmp_path, 3) == [[10.0] * 3]
