"""Ranks together compute what one process would, and notice when they no longer do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainer_harness import ranks, values
from trainer_job import Every, Job, close, replace, same, train

from swarmtrain.trainer import Options, Trainer, TrainerError

JOB = Job(epochs=2, plain=True, snapshot=Every(), samples=40, batch_size=8)


def lines(directory: Path, rank: int) -> list[dict[str, Any]]:
    text = (directory / f"node{rank}" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("samples", [40, 41, 43])  # the last step of an epoch has 8, 1 or 3 samples
def test_any_number_of_ranks_trains_as_one_process_does(
    tmp_path: Path, world_size: int, samples: int
) -> None:
    job = replace(JOB, samples=samples)
    alone = values(train, 1, tmp_path / "alone", job)[0]
    together = values(train, world_size, tmp_path / "together", job)
    for one in together:
        assert close(one["weights"], alone["weights"])
        assert same(one["weights"], together[0]["weights"])
        assert one["step"] == alone["step"]
        # 25 samples to evaluate on: an average that counted one twice would show.
        assert one["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_accumulated_pieces_equal_the_whole_batch(tmp_path: Path, micro_batch: int | None) -> None:
    whole = values(train, 2, tmp_path / "whole", JOB)[0]
    microbatches = values(train, 2, tmp_path / "pieces", replace(JOB, micro_batch=micro_batch))
    assert close(microbatches[0]["weights"], whole["weights"])
    assert same(microbatches[0]["weights"], microbatches[1]["weights"])


BATCH_NORM = replace(JOB, plain=False, samples=100, batch_size=32, epochs=1)


@pytest.mark.parametrize("world_size", [2, 3, 5])  # the last step has 4 samples
def test_batch_norm_trains_at_every_number_of_ranks(tmp_path: Path, world_size: int) -> None:
    alone = values(train, 1, tmp_path / "alone", BATCH_NORM)[0]
    together = values(train, world_size, tmp_path / "together", replace(BATCH_NORM, micro_batch=3))
    assert [one["step"] for one in together] == [alone["step"]] * world_size == [4] * world_size
    assert all(same(one["weights"], together[0]["weights"]) for one in together)


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_step_that_batch_norm_cannot_make_is_refused_before_the_first(
    tmp_path: Path, world_size: int
) -> None:
    for outcome in ranks(train, world_size, tmp_path, replace(BATCH_NORM, samples=97)):
        assert outcome.error == "TrainerError"
        assert "a step of 1 sample would ask for that\n\nhint: set drop_last=True" in outcome.message
    assert not any(line["kind"] == "step" for line in lines(tmp_path, 0))
    values(train, world_size, tmp_path, replace(BATCH_NORM, samples=97, drop_last=True))


def convolutional(resume: bool) -> int:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
    data = torch.utils.data.TensorDataset(torch.randn(9, 1, 4, 4), torch.randn(9, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = Options(batch_size=4, snapshot=Every())
    with Trainer(model, data, optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
        before = [buffer.clone() for buffer in model.buffers()]
        trainer._check_steps()  # it tries a step, and nothing of that is left
        assert same(list(model.buffers()), before)
        trainer.fit(epochs=1)
        return trainer.step


def test_one_image_is_enough_for_batch_norm_in_two_dimensions(tmp_path: Path) -> None:
    assert values(convolutional, 2, tmp_path, False) == [3, 3]


def test_what_is_left_out_at_the_end_of_an_epoch_is_so_on_any_number_of_ranks(tmp_path: Path) -> None:
    job = replace(JOB, samples=43, drop_last=True, snapshot=Every(steps=3))
    alone = values(train, 1, tmp_path / "alone", job)[0]
    assert (alone["step"], alone["epoch"]) == (10, 2)
    values(train, 2, tmp_path / "parts", replace(job, epochs=None, steps=7))
    for one in values(train, 3, tmp_path / "parts", job):
        assert close(one["weights"], alone["weights"]) and one["step"] == 10


def test_an_epoch_ends_where_it_stands_when_the_rest_is_to_be_left_out(tmp_path: Path) -> None:
    whole = replace(JOB, samples=43, snapshot=Every(steps=5), epochs=None, steps=5)  # 40 of 43 samples
    values(train, 2, tmp_path, whole)
    again = values(train, 2, tmp_path, replace(whole, steps=None, epochs=2, drop_last=True))
    assert (again[0]["step"], again[0]["epoch"]) == (10, 2)


def synchronised(samples: int) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2))
    data = torch.utils.data.TensorDataset(torch.randn(samples, 2), torch.randn(samples, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = Options(batch_size=4, snapshot=Every())
    with Trainer(model, data, optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
        trainer.fit(epochs=1)


def test_a_step_in_which_some_ranks_would_only_stand_in_is_refused_for_synchronised_batch_norm(
    tmp_path: Path,
) -> None:
    for outcome in ranks(synchronised, 2, tmp_path, 9):
        assert "a step of 1 sample does not give 2 ranks the same" in outcome.message
    for outcome in ranks(synchronised, 2, tmp_path, 8):  # as far as it goes without GPUs
        assert outcome.error == "ValueError" and "GPU" in outcome.message


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_and_resumes_bit_for_bit(tmp_path: Path, precision: Any) -> None:
    job = replace(JOB, precision=precision, epochs=None, steps=24, snapshot=Every(steps=4), plain=False)
    job = replace(job, steady=False)
    whole = values(train, 2, tmp_path / "whole", job)[0]
    full = values(train, 2, tmp_path / "full", replace(job, precision="fp32"))[0]["metrics"]["loss"]
    # of ln 3, when untrained
    assert whole["metrics"]["loss"] == pytest.approx(full, abs=0.05) and full < 0.95
    values(train, 2, tmp_path / "parts", replace(job, steps=7))
    parts = values(train, 2, tmp_path / "parts", job)
    assert same(parts[0]["weights"], whole["weights"])


@pytest.mark.parametrize(("culprit", "world_size"), [(1, 2), (0, 3)])
def test_a_rank_that_drifts_is_named_at_the_next_snapshot(
    tmp_path: Path, culprit: int, world_size: int
) -> None:
    job = replace(JOB, epochs=4, snapshot=Every(steps=3), drift_at=(culprit, 5))
    for outcome in ranks(train, world_size, tmp_path, job):
        assert outcome.error == "DriftError"
        assert f"rank {culprit} has drifted apart" in outcome.message
        assert "by step 6" in outcome.message


def test_drift_is_noticed_at_the_end_also_without_snapshots(tmp_path: Path) -> None:
    for outcome in ranks(train, 2, tmp_path, replace(JOB, drift_at=(1, 9))):
        assert outcome.error == "DriftError"


def block(directory: Path, rank: int) -> Path:
    """Lets nobody write a node's snapshots, not even root."""
    path = directory / f"node{rank}" / "snapshots"
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file where the directory should be")
    return path


def test_a_node_that_cannot_write_is_named_and_training_goes_on(tmp_path: Path) -> None:
    block(tmp_path, 1)
    outcomes = ranks(train, 2, tmp_path, replace(JOB, snapshot=Every(epochs=1)))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert (
        outcomes[1].output.count("node 1 could not write the snapshot of step 5 to disk, and trains on") == 1
    )
    failed = [line for line in lines(tmp_path, 1) if line["kind"] == "snapshot_failed"]
    assert [line["step"] for line in failed] == [5, 10]
    assert failed[0]["node"] == "1" and "File exists" in failed[0]["error"]
    assert [line["step"] for line in lines(tmp_path, 0) if line["kind"] == "snapshot"] == [5, 10]


def test_no_node_that_can_write_leaves_the_training_to_its_end(tmp_path: Path) -> None:
    for rank in range(2):
        block(tmp_path, rank)
    outcomes = ranks(train, 2, tmp_path, replace(JOB, snapshot=Every(epochs=1)))
    assert [outcome.value["step"] for outcome in outcomes] == [10, 10]
    assert "no node could write its last snapshot, of step 10" in outcomes[0].output
    assert lines(tmp_path, 0)[-1]["kind"] == "end"


def test_the_agent_is_told_of_everything_in_order(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, snapshot=Every(steps=4), evaluate=Every(epochs=1)))
    first, second = lines(tmp_path, 0), lines(tmp_path, 1)
    assert {key: first[0][key] for key in ("kind", "rank", "world", "device")} == {
        "kind": "start",
        "rank": 0,
        "world": 2,
        "device": "cpu",
    }
    assert all(isinstance(line["t"], float) for line in first)
    assert second[0]["rank"] == 1
    goals = [(line["kind"], line["step"], line["total_steps"]) for line in first if line["kind"] == "goal"]
    assert goals == [("goal", 0, 10)] and not any(line["kind"] == "goal" for line in second)
    last_step = [line for line in first if line["kind"] == "step"][-1]
    assert last_step["step"] == 10 and last_step["epoch"] == 1 and last_step["samples"] == 8
    assert last_step["loss"] > 0 and last_step["step_s"] > 0 and 0 < last_step["lr"] < 1e-2
    saved = [line for line in first if line["kind"] == "snapshot"]
    assert [line["step"] for line in saved] == [4, 8, 10]
    assert all(Path(line["path"]).stat().st_size == line["bytes"] for line in saved)
    evaluated = [line for line in first if line["kind"] == "eval"]
    assert [line["step"] for line in evaluated] == [5, 10]
    assert set(evaluated[0]["metrics"]) == {"loss", "accuracy"}
    phases = [(line["name"], line["on"]) for line in first if line["kind"] == "phase"]
    assert phases.count(("evaluation", True)) == phases.count(("evaluation", False)) == 2
    assert first[-1]["kind"] == "end" and first[-1]["step"] == 10 and len(first[-1]["weights"]) == 64
    assert first[-1]["weights"] == second[-1]["weights"]


def test_one_process_without_any_environment_trains_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SWARMTRAIN_SNAPSHOTS", "SWARMTRAIN_METRICS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    result = train(replace(JOB, snapshot=Every(epochs=1)))
    assert result["epoch"] == 2
    assert len(list((tmp_path / "snapshots").glob("*.json"))) == 2


def test_fit_without_a_goal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    model = nn.Linear(1, 1)
    data = torch.utils.data.TensorDataset(torch.zeros(4, 1), torch.zeros(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        Trainer(model, data, optimizer, loss=nn.functional.mse_loss) as trainer,
        pytest.raises(TrainerError, match="no goal"),
    ):
        trainer.fit()


def train_and_count_threads(job: Job) -> int:
    train(job)
    return len(list(Path("/proc/self/task").iterdir()))


def test_no_thread_of_the_process_group_is_left_to_crash_the_exit(tmp_path: Path) -> None:
    assert values(train_and_count_threads, 2, tmp_path, JOB) == [1, 1]


def test_a_trainer_that_cannot_be_made_leaves_the_last_word_to_the_error(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "from swarmtrain.trainer import Trainer\n"
        "def loss(outputs, targets): raise AssertionError\n"
        "data = TensorDataset(torch.randn(8, 2), torch.randn(8, 1))\n"
        "model = torch.nn.Linear(2, 1)\n"
        "Trainer(model, data, torch.optim.SGD(model.parameters(), 0.1), loss=loss, eval_data=TensorDataset())\n"
    )
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1 and "atexit" not in done.stderr, done.stderr
