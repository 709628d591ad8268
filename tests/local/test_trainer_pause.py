"""Asked to pause on one rank, all ranks save at one step and leave; what the agent feels of them meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from trainer_harness import ranks, values
from trainer_job import Every, Job, replace, same, train

from swarmtrain import Client
from swarmtrain import Job as Submitted
from swarmtrain.job import Restart
from swarmtrain.trainer import Trainer, snapshot
from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.wire.pulse import Activity, Pulse, Source

JOB = Job(steps=400, snapshot=Every(steps=1000), evaluate=Every(epochs=20))
PULSE = {"SWARMTRAIN_PULSE": "{node}/pulse"}


def pulse(directory: Path, rank: int) -> Pulse:
    return Pulse.map(directory / f"node{rank}" / "pulse")


def steps(directory: Path, rank: int) -> list[int]:
    return [each.step for each in snapshot_files.listed(directory / f"node{rank}" / "snapshots")]


def test_all_ranks_pause_at_one_step_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    whole = values(train, 2, tmp_path / "whole", JOB)[0]
    env = {**PULSE, "SWARMTRAIN_MEMORY": "{node}/memory"}
    outcomes = ranks(train, 2, tmp_path, replace(JOB, pause_at=(1, 30)), env=env)
    (step,) = steps(tmp_path, 0)
    assert steps(tmp_path, 1) == [step] and 30 <= step <= 30 + 64
    for rank, outcome in enumerate(outcomes):
        assert outcome.exit_code == 0 and outcome.value is None
        felt = pulse(tmp_path, rank)
        assert (felt.paused, felt.step, felt.source) == (1, step, Source.TRAINER)
        memory = tmp_path / f"node{rank}" / "memory"
        assert snapshot_files.listed(memory)[0].step == step
    assert f"Paused at step {step}: the group of nodes changes" in outcomes[0].output
    assert "Paused" not in outcomes[1].output

    resumed = values(train, 2, tmp_path, JOB, env=env)
    assert same(resumed[1]["weights"], whole["weights"])
    felt = pulse(tmp_path, 1)
    assert (felt.resumed, felt.step, felt.paused) == (step, 400, 0)


def test_a_pause_that_nothing_can_be_saved_for_is_no_pause(tmp_path: Path) -> None:
    for rank in range(2):
        (tmp_path / f"node{rank}").mkdir()
        (tmp_path / f"node{rank}" / "snapshots").write_text("no directory can be here")
    outcomes = ranks(train, 2, tmp_path, replace(JOB, pause_at=(0, 30)), env=PULSE)
    assert [outcome.value["step"] for outcome in outcomes] == [400, 400]
    assert outcomes[0].output.count("so the training does not pause") == 1
    assert pulse(tmp_path, 0).paused == 0


def test_ranks_with_different_numbers_of_pieces_pass_the_same_marks(tmp_path: Path) -> None:
    values(train, 3, tmp_path, replace(JOB, plain=True, steps=40, samples=41, micro_batch=1), env=PULSE)
    marks = {pulse(tmp_path, rank).mark for rank in range(3)}
    assert len(marks) == 1 and marks.pop() >= 3 * 40


def slow_on_rank_1() -> tuple[list[int], int]:
    """The activities seen in start, first step and evaluation, and nanoseconds of this rank's own work."""
    import os

    felt = Pulse.map(Path(os.environ["SWARMTRAIN_PULSE"]))
    data = torch.utils.data.TensorDataset(torch.zeros(40, 1), torch.zeros(40, 1))
    model = torch.nn.Linear(1, 1)
    seen: list[Any] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> Any:
        if model.training and trainer.step > 2 and trainer.world.rank == 1:
            time.sleep(0.02)
        seen.append(felt.activity)
        return (outputs - targets).square().mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Trainer(model, data, optimizer, loss=loss, eval_data=data) as trainer:
        trainer.fit(steps=20)
    return [seen[0], seen[1], seen[-1]], felt.busy_ns


def test_the_agent_feels_what_is_done_and_who_is_slow(tmp_path: Path) -> None:
    (first, quick), (second, slow) = values(slow_on_rank_1, 2, tmp_path, env=PULSE)
    assert first == second
    assert first[0] == Activity.START and first[-1] == Activity.EVALUATION
    assert slow > 17 * 20e6 > 2 * quick


def train_in_parts() -> list[Activity]:
    """What the agent feels before, between and after two trainings that one script makes of one."""
    felt = [Activity(mine().activity)]
    data = torch.utils.data.TensorDataset(torch.ones(8, 1), torch.ones(8, 1))
    model = torch.nn.Linear(1, 1)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if model.training:
            felt.append(Activity(mine().activity))
        return torch.nn.functional.mse_loss(outputs, targets)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Trainer(model, data, optimizer, loss=loss, eval_data=data) as trainer:
        trainer.evaluate()
        for steps in (2, 4):
            trainer.fit(steps=steps)
            trainer.evaluate()
            felt.append(Activity(mine().activity))
    felt.append(Activity(mine().activity))
    return felt


def mine() -> Pulse:
    return Pulse.map(Path(os.environ["SWARMTRAIN_PULSE"]))


def test_what_a_script_does_before_between_and_after_its_trainings_is_told_from_steps(tmp_path: Path) -> None:
    start, none, after = Activity.START, Activity.NONE, Activity.AFTER_FIT
    for felt in values(train_in_parts, 2, tmp_path, env=PULSE):
        assert felt == [start, start, none, after, none, none, after, after]


def test_a_script_with_two_calls_is_at_its_end_when_it_has_waited_for_its_last_snapshot(
    tmp_path: Path,
) -> None:
    assert values(two_calls, 1, tmp_path, env=PULSE) == [[Activity.NONE, Activity.AFTER_FIT, Activity.NONE]]


def two_calls() -> list[Activity]:
    felt = []
    for step, wait in ((1, False), (2, True), (3, False)):
        snapshot.save(step, every=Every(steps=5), wait=wait, model=torch.nn.Linear(1, 1))
        felt.append(Activity(mine().activity))
    return felt


AFTERWARDS = """
import time, torch
from swarmtrain.trainer import Every, Options, Trainer

data = torch.utils.data.TensorDataset(torch.ones(8, 1), torch.ones(8, 1))
model = torch.nn.Linear(1, 1)

def loss(outputs, targets):
    time.sleep(0.05)
    return torch.nn.functional.mse_loss(outputs, targets)

optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with Trainer(model, data, optimizer, loss=loss, options=Options(batch_size=1, snapshot=Every())) as trainer:
    trainer.fit(steps=30)
    time.sleep(5)
    print("exported", flush=True)
"""


def test_what_a_script_does_after_its_training_is_no_hang(tmp_path: Path, home: Path) -> None:
    (tmp_path / "train.py").write_text(AFTERWARDS)
    job = Submitted(
        name="after", script="train.py", nodes=1, workers_per_node=2, restart=Restart(hang_timeout=2.0)
    )
    handle = Client(on="local").run(job)
    assert handle.wait(timeout=60).state == "succeeded"
    assert handle.status().restarts == 0
