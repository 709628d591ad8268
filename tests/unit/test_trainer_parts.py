"""The trainer's small parts: options, random numbers, drift, what is told to others, the choice of a backend."""

from __future__ import annotations

import io
import json
import logging
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_clock import HandClock
from torch import nn

from swarmtrain.trainer import (
    DriftError,
    Every,
    Options,
    TrainerError,
    derive_seed,
    distributed,
    seed_everything,
)
from swarmtrain.trainer.distributed import World, check_drift, join_world, tensor_bytes, weights_hash
from swarmtrain.trainer.evaluation import Evaluator
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.reports import log
from swarmtrain.trainer.reports.metrics import Reporter
from swarmtrain.trainer.reports.step_report import StepReport
from swarmtrain.trainer.seeding import random_state, restore_random_state, undisturbed

CPU = torch.device("cpu")
ALONE = World(0, 1, 0, "0", CPU, CPU, "none", owned=False)


# --- Options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 is too small"),
        ({"micro_batch": 0}, "micro_batch=0"),
        ({"keep": 0}, "keep=0"),
        ({"workers": -1}, "workers=-1"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"precision": "int4"}, "one of fp32, bf16, fp16"),
        ({"scheduler_per": "day"}, "one of step, epoch"),
        ({"evaluate": Every(seconds=3)}, "use epochs or steps"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainerError, match=message):
        Options(**wrong)


def test_every_counts_steps_and_epochs() -> None:
    assert Every().never and not Every(seconds=1).never
    assert [step for step in range(1, 8) if Every(steps=3).after_step(step)] == [3, 6]
    assert [epoch for epoch in range(1, 5) if Every(epochs=2).after_epoch(epoch)] == [2, 4]
    assert not Every(epochs=1).after_step(1)
    with pytest.raises(TrainerError, match="never"):
        Every(steps=0)


# --- Random numbers ------------------------------------------------------------------------------------------


def test_seeds_differ_by_purpose_and_are_the_same_everywhere() -> None:
    seeds = [
        derive_seed(0, "rank", 0),
        derive_seed(0, "rank", 1),
        derive_seed(1, "rank", 0),
        derive_seed(0, "epoch", 0),
    ]
    assert len(set(seeds)) == 4 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "rank", 1) == 7875494958828312837


def draw() -> Any:
    return random.random(), torch.rand(1).item()


def test_random_numbers_go_on_from_a_saved_state() -> None:
    import numpy

    seed_everything(5)
    state = random_state()
    first = draw(), numpy.random.rand(), numpy.random.randn()
    restore_random_state(state)
    assert (draw(), numpy.random.rand(), numpy.random.randn()) == first
    seed_everything(5)
    assert draw() == first[0]


def test_what_is_drawn_undisturbed_changes_nothing() -> None:
    seed_everything(5)
    first = draw()
    seed_everything(5)
    with undisturbed():
        draw()
    assert draw() == first


# --- Drift ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hashes", "ranks"),
    [("aab", [2]), ("baa", [0]), ("ab", [1]), ("abac", [1, 3]), ("aabb", [2, 3])],
)
def test_the_ranks_that_differ_from_most_are_named(hashes: list[str], ranks: list[int]) -> None:
    with pytest.raises(DriftError, match="by step 7") as caught:
        check_drift(list(hashes), 7)
    assert caught.value.ranks == ranks


def test_ranks_that_agree_have_not_drifted() -> None:
    check_drift(["a", "a", "a"], 7)


def test_the_hash_sees_every_bit_of_parameters_and_buffers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(torch.bfloat16)
    before = weights_hash(model)
    assert weights_hash(model) == before
    model[1].get_buffer("num_batches_tracked").add_(1)
    assert weights_hash(model) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_the_bytes_of_a_tensor_are_its_elements_in_order(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1], [1, 1]], dtype=dtype)
    expected = bytes(tensor.t().contiguous().flatten().view(torch.uint8).tolist())
    assert tensor_bytes(tensor.t()) == expected
    assert tensor_bytes(torch.zeros(0)) == b""


# --- Telling others ------------------------------------------------------------------------------------------


def report(step: int, loss: float = 0.5) -> Any:
    return StepReport(step, 0, torch.tensor(loss), 1, learning_rate=0.1, seconds=0.01, samples=8, done=0.5)


def told(path: Path) -> Any:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Any) -> Iterator[Any]:
    monkeypatch.setenv("SWARMTRAIN_METRICS", str(tmp_path / "metrics.jsonl"))
    reporter = Reporter(ALONE, clock=clock)
    yield reporter
    reporter.close()


def test_steps_are_told_at_most_twenty_times_a_second_and_the_last_always(
    tmp_path: Path, clock: Any, reporter: Reporter
) -> None:
    for step in range(1, 1001):
        clock.now += 0.001
        reporter.step(report(step))
    reporter.close()
    lines = [line for line in told(tmp_path / "metrics.jsonl") if line["kind"] == "step"]
    assert len(lines) <= 21
    assert lines[-1]["step"] == 1000
    assert all(line["step_s"] == 0.01 for line in lines)


def test_what_happens_is_told_in_order(tmp_path: Path, reporter: Reporter) -> None:
    reporter.step(report(1))
    reporter.step(report(2))
    with reporter.phase("evaluation"):
        pass
    kinds = [(line["kind"], line.get("step", line.get("on"))) for line in told(tmp_path / "metrics.jsonl")]
    assert kinds == [("start", None), ("step", 1), ("step", 2), ("phase", True), ("phase", False)]


def test_a_phase_ends_also_when_what_is_in_it_fails(tmp_path: Path, reporter: Reporter) -> None:
    with pytest.raises(ValueError, match="planted"), reporter.phase("snapshot"):
        raise ValueError("planted")
    *_, last = told(tmp_path / "metrics.jsonl")
    assert (last["kind"], last["name"], last["on"], last["seconds"]) == ("phase", "snapshot", False, 0.0)


def test_numbers_that_json_has_no_word_for_are_told_in_words(tmp_path: Path, reporter: Reporter) -> None:
    reporter.step(report(1, loss=float("nan")))
    reporter.evaluation(1, 0, {"loss": float("inf"), "accuracy": 0.5})
    step, evaluated = told(tmp_path / "metrics.jsonl")[1:]
    assert step["loss"] == "nan"
    assert evaluated["metrics"] == {"loss": "inf", "accuracy": 0.5}


@contextmanager
def no_logging() -> Iterator[Any]:
    """As in a program that has not set logging up; pytest has, when a test begins."""
    root, ours = logging.getLogger(), log.LOG
    with pytest.MonkeyPatch.context() as patch:
        for logger in (root, ours):
            patch.setattr(logger, "handlers", [])
        try:
            yield
        finally:
            ours.setLevel(logging.NOTSET)
            root.setLevel(logging.WARNING)


def test_a_pipe_gets_whole_lines_now_and_then(capsys: pytest.CaptureFixture[str], clock: Any) -> None:
    with no_logging():
        reporter = Reporter(ALONE, clock=clock)
        for step in range(1, 13):
            clock.now += 1.0
            reporter.step(report(step))
        reporter.epoch(0, 0.25, {"accuracy": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "epoch 0   50%  step 5  loss 0.5000  800 samples/s",
        "epoch 0   50%  step 10  loss 0.5000  800 samples/s",
        "epoch 0  done  train loss 0.2500  evaluated:  accuracy 0.5000",
    ]


def test_without_progress_words_are_left(capsys: pytest.CaptureFixture[str], clock: Any) -> None:
    with no_logging():
        reporter = Reporter(ALONE, progress=False, clock=clock)
        for step in range(1, 13):
            clock.now += 1.0
            reporter.step(report(step))
        reporter.say("Paused at step 12")
    assert capsys.readouterr().out == "Paused at step 12\n"


def test_words_are_as_print_would_make_them_where_nobody_has_set_logging_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with no_logging():
        Reporter(ALONE).say("Starting at step 0")
        log.LOG.warning("100% of the disk is full")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("Starting at step 0\n", "swarmtrain: 100% of the disk is full\n")


@pytest.mark.parametrize("late", [False, True])
def test_words_go_where_the_program_has_its_logging_go(
    capsys: pytest.CaptureFixture[str], late: bool
) -> None:
    theirs = io.StringIO()
    setup: dict[str, Any] = {
        "stream": theirs,
        "level": logging.INFO,
        "format": "%(name)s %(levelname)s %(message)s",
    }
    with no_logging():
        reporter = Reporter(ALONE) if late else None
        logging.basicConfig(**setup)
        reporter = reporter or Reporter(ALONE)
        reporter.say("Starting at step 0")
        log.LOG.warning("the disk is full")
    assert theirs.getvalue().splitlines() == [
        "swarmtrain.trainer INFO Starting at step 0",
        "swarmtrain.trainer WARNING the disk is full",
    ]
    assert capsys.readouterr() == ("", "")


def test_rank_0_alone_says_how_a_training_gets_on(capsys: pytest.CaptureFixture[str]) -> None:
    with no_logging():
        Reporter(replace(ALONE, rank=1, size=2)).say("Starting at step 0")
    assert capsys.readouterr().out == ""


def test_nothing_in_the_trainer_prints() -> None:
    sources = Path(log.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if re.search(r"(?<![.\w])print\(", path.read_text())] == []


class FullDisk(io.StringIO):
    """A stream that goes to a file which can take no more."""

    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["metrics", "words", "a bar"])
def test_a_disk_that_is_full_costs_words_and_not_the_training(
    monkeypatch: pytest.MonkeyPatch, clock: Any, what: str
) -> None:
    if what == "metrics":
        monkeypatch.setenv("SWARMTRAIN_METRICS", "/dev/full")
    for stream in () if what == "metrics" else ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, FullDisk())
    with no_logging():
        reporter = Reporter(ALONE, clock=clock, progress=what == "a bar")
        if what == "words":
            reporter.say("Starting at step 0")
            log.LOG.warning("node a could not write the snapshot of step 12, and trains on")
        for step in range(1, 13):
            clock.now += 1.0
            reporter.step(report(step))
        reporter.close()


# --- Evaluation ----------------------------------------------------------------------------------------------


def test_a_metric_of_the_wrong_shape_is_named() -> None:
    data = torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.zeros(3))
    evaluator = Evaluator(
        data,
        {"odd": lambda outputs, targets: torch.zeros(7)},
        world=ALONE,
        precision=Precision("fp32", CPU),
        batch_size=3,
    )
    with pytest.raises(TrainerError, match=r"odd returned shape \[7\] for 3 samples"):
        evaluator(nn.Linear(2, 1))


def test_means_and_values_of_samples_both_give_the_mean_over_all() -> None:
    inputs = torch.arange(5.0).unsqueeze(1)
    evaluator = Evaluator(
        torch.utils.data.TensorDataset(inputs, inputs),
        {
            "mean": lambda outputs, targets: targets.mean(),
            "each": lambda outputs, targets: targets.squeeze(1),
        },
        world=ALONE,
        precision=Precision("fp32", CPU),
        batch_size=2,
    )
    model = nn.Dropout().train()
    assert evaluator(model) == {"mean": 2.0, "each": 2.0}
    assert model.training


# --- The process group ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "message"), [("mpi", "one of auto, nccl, gloo"), ("nccl", "sees no GPU")])
def test_a_backend_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: Any, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SWARMTRAIN_BACKEND", asked)
    with pytest.raises(TrainerError, match=message):
        join_world()


def test_without_an_environment_there_is_one_rank_and_no_process_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "SWARMTRAIN_BACKEND", "SWARMTRAIN_NODE"):
        monkeypatch.delenv(name, raising=False)
    world = join_world()
    assert (world.rank, world.size, world.owned, world.leads, world.leads_node) == (0, 1, False, True, True)
    assert not torch.distributed.is_initialized()


def test_ranks_share_a_gpu_over_gloo_and_not_over_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in (("is_available", True), ("device_count", 2), ("set_device", None)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    for rank in (0, 1, 2):
        assert distributed._choose_device(rank, "gloo") == torch.device("cuda", rank % 2)
    with pytest.raises(TrainerError, match="local rank 2 has no GPU of its own: this process sees 2"):
        distributed._choose_device(2, "nccl")
