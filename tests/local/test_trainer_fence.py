"""Whoever goes on writes what is newer than all that it found, whatever its run and its generation are called."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainer_harness import ranks, values
from trainer_job import Every, Job, replace, train

from swarmtrain import Client
from swarmtrain import Job as Submitted
from swarmtrain.trainer import Options, Trainer, snapshot
from swarmtrain.trainer.snapshots import files as snapshot_files

JOB = Job(snapshot=Every(steps=10), evaluate=Every(), plain=True, batch_size=4)


def agent(run: str, generation: int, fence: int | None = None, submission: str = "") -> dict[str, str]:
    """What an agent tells a worker of its start."""
    told = {"SWARMTRAIN_RUN": run, "SWARMTRAIN_GENERATION": str(generation)}
    told["SWARMTRAIN_FENCE"] = str(generation if fence is None else fence)
    return told | {"SWARMTRAIN_SUBMISSION": submission or run}


def steps(directory: Path, tier: str = "snapshots") -> list[int]:
    return [each.step for each in snapshot_files.listed(directory / tier)]


def reach(
    directory: Path, step: int, env: dict[str, str] | None = None, world_size: int = 1, **how: Any
) -> str:
    """Trains to ``step`` in all; returns what rank 0 printed. Its last snapshot is there afterwards, as it must be."""
    outcomes = ranks(train, world_size, directory, replace(JOB, steps=step, **how), env=env)
    assert [outcome.error for outcome in outcomes] == [""] * world_size, outcomes[0].output
    for rank in range(world_size):
        assert steps(directory / f"node{rank}")[0] == step
    return outcomes[0].output


STARTS = {
    "after a run that was healed once, one that was not": [agent("digits.1", 2), agent("other.1", 1)],
    "after a removed run with a high number, one that has its number again": [
        agent("digits.3", 2, 30_002),
        agent("digits.2", 1, 20_001),
    ],
    "plain Python after a run": [agent("digits.1", 3), {}],
    "plain Python after plain Python": [{}, {}],
}


@pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)
def test_a_training_that_is_gone_on_with_goes_on_from_where_the_last_one_ended(
    tmp_path: Path, starts: tuple[Any, Any]
) -> None:
    first, second = starts
    reach(tmp_path, 40, first)
    assert "step 40" in reach(tmp_path, 60, second)
    assert "step 60" in reach(tmp_path, 70, first)


def test_a_node_that_saw_nothing_of_it_is_told_the_order_and_gets_the_snapshot(tmp_path: Path) -> None:
    reach(tmp_path, 40, agent("digits.7", 3, 70_003))
    output = reach(tmp_path, 60, agent("digits.2", 1), world_size=2)
    assert "step 40" in output
    fences = [
        {each.fence for each in snapshot_files.listed(tmp_path / f"node{rank}" / "snapshots")}
        for rank in (0, 1)
    ]
    assert fences == [{70_003, 70_004}] * 2


def test_snapshots_of_an_older_version_are_gone_on_from_in_their_order_and_superseded(tmp_path: Path) -> None:
    reach(tmp_path, 20, agent("digits.1", 2))
    reach(tmp_path, 30, agent("digits.2", 1, 20_001), keep=9)
    for path in (tmp_path / "node0" / "snapshots").glob("*.json"):
        fields = json.loads(path.read_text())
        old = {name: value for name, value in fields.items() if name not in ("fence", "run", "submission")}
        path.write_text(json.dumps(old | {"format": 2, "generation": fields["fence"]}))
    for path in (tmp_path / "node0" / "snapshots").glob("fence-*"):
        path.unlink()
    assert "step 30" in reach(tmp_path, 40)
    assert "step 40" in reach(tmp_path, 50)


def test_a_generation_that_wrote_nothing_is_below_the_next_one_all_the_same(tmp_path: Path) -> None:
    """Else the two would write under one fence, where the step decides and not who came later."""
    failed = ranks(train, 1, tmp_path, replace(JOB, steps=20, fail_at=(0, 1)))
    assert failed[0].error == "ArithmeticError"
    reach(tmp_path, 20)
    (newest, *_) = snapshot_files.listed(tmp_path / "node0" / "snapshots")
    assert newest.fence == 2


# --- Two at a time ----------------------------------------------------------------------------------------------


class Waits(torch.utils.data.Dataset[Any]):
    """Lets somebody else do something when a sample is loaded for the so-manieth time."""

    def __init__(self, at: int, then: Any) -> None:
        self.left, self.then = at, then

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left == 0:
            self.then()
        return torch.ones(1), torch.ones(1)


def short(data: Any, to: int, directory: Path, **more: Any) -> None:
    model = nn.Linear(1, 1)
    options = Options(batch_size=1, snapshot=Every(steps=5), snapshots=directory, keep=2, **more)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Trainer(model, data, optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
        trainer.fit(steps=to)


def test_two_that_write_to_one_directory_keep_their_own_and_the_later_one_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    there = tmp_path / "snapshots"
    # While the first one stands at step 12, a second one goes on from there to 31 and ends.
    short(Waits(13, lambda: short(Waits(0, None), 31, there)), 20, there)
    held = {(each.fence, each.step) for each in snapshot_files.listed(there)}
    assert {(1, 20), (2, 31)} <= held
    for each in snapshot_files.listed(there):
        assert snapshot_files.damage(there, each) is None
    assert caplog.text.count("another training has begun to write snapshots to") == 1
    caplog.set_level("INFO", "swarmtrain.trainer")
    short(Waits(0, None), 32, there)
    assert any("Resuming from" in said and said.endswith("step 31") for said in caplog.messages)


def test_a_last_snapshot_that_somebody_removed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    model, data = nn.Linear(1, 1), Waits(0, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = Options(batch_size=1, snapshot=Every(steps=5), snapshots=tmp_path)
    with Trainer(model, data, optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
        trainer.fit(steps=5)
        for path in tmp_path.glob("g*"):
            path.unlink()
        trainer.fit(steps=5)
    assert [each.step for each in snapshot_files.listed(tmp_path)] == [5]


# --- Afresh -----------------------------------------------------------------------------------------------------


def test_a_fresh_start_takes_no_others_snapshots_in_any_generation(tmp_path: Path) -> None:
    reach(tmp_path, 20, agent("digits.1", 1, submission="of yesterday"))
    for generation in (1, 2, 3):  # the second may be the first to come as far as this
        env = agent("digits.1", generation, submission="of today")
        (outcome,) = ranks(train, 1, tmp_path, replace(JOB, steps=30, resume=False), env=env)
        assert outcome.error == "TrainerError"
        assert "holds snapshots of an earlier training" in outcome.message


def test_a_fresh_start_goes_on_from_its_own_after_a_fault(tmp_path: Path) -> None:
    first = agent("digits.1", 1, submission="of today")
    assert ranks(train, 1, tmp_path, replace(JOB, steps=30, resume=False, fail_at=(0, 15)), env=first)[
        0
    ].error
    output = reach(tmp_path, 30, agent("digits.1", 2, submission="of today"), resume=False)
    assert "step 10" in output


# --- Scripts with a loop of their own --------------------------------------------------------------------------


def loop(to: int, *, resumes: bool = True) -> int:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = snapshot.resume(model=model, optimizer=optimizer) if resumes else 0
    for step in range(start, to):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        snapshot.save(step + 1, every=Every(steps=10), model=model, optimizer=optimizer)
        for thread in threading.enumerate():
            if thread.name == "swarmtrain-snapshot":
                thread.join()
    snapshot.save(to, wait=True, model=model, optimizer=optimizer)
    return start


def test_two_calls_go_on_from_what_was_written_last(tmp_path: Path) -> None:
    assert values(loop, 1, tmp_path, 40, env=agent("digits.3", 2, 30_002)) == [0]
    assert values(loop, 1, tmp_path, 60) == [40]
    assert values(loop, 1, tmp_path, 70, env=agent("digits.1", 1)) == [60]


def unresumed(to: int) -> int:
    return loop(to, resumes=False)


def test_what_a_script_writes_that_resumes_nothing_is_the_newest_all_the_same(tmp_path: Path) -> None:
    values(loop, 1, tmp_path, 60, env=agent("digits.3", 2, 30_002))
    values(unresumed, 1, tmp_path, 20)
    assert values(loop, 1, tmp_path, 30) == [20]


def twice(first: int, second: int) -> None:
    loop(first, resumes=False)
    loop(second, resumes=False)


def test_a_script_that_counts_from_the_start_again_has_begun_anew(tmp_path: Path) -> None:
    values(twice, 1, tmp_path, 60, 20)
    assert values(loop, 1, tmp_path, 30) == [20]


# --- Whole runs ------------------------------------------------------------------------------------------------

TRAINING = """
import os, sys, time, torch, torch.nn.functional as F
from swarmtrain.trainer import Every, Options, Trainer, seed_everything

seed_everything(0)
data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.randn(64, 1))
model = torch.nn.Linear(4, 1)
dies = int(sys.argv[2]) if os.environ["SWARMTRAIN_GENERATION"] == "1" else 0

def loss(outputs, targets):
    time.sleep(0.01)  # so that no snapshot is left out since the last one is still being written
    if trainer.step + 1 == dies:
        trainer._snapshots.finish()
        os._exit(9)
    return F.mse_loss(outputs, targets)

options = Options(batch_size=8, snapshot=Every(steps=10))
with Trainer(model, data, torch.optim.SGD(model.parameters(), lr=0.01), loss=loss, options=options) as trainer:
    trainer.fit(steps=int(sys.argv[1]))
"""


def test_a_number_that_rm_has_freed_loses_nothing(tmp_path: Path, home: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    client = Client(on="local")

    def run(to: int, dies: int = 0) -> Any:
        job = Submitted(name="freed", script="train.py", args=[str(to), str(dies)], nodes=1)
        handle = client.run(job, resume=to > 40)
        result = handle.wait(timeout=150)
        assert result.state == "succeeded", result.reason
        return handle, handle.status()

    run(40)
    second, status = run(100, dies=75)
    assert status.resumed is not None and (status.resumed.step, status.generation) == (70, 2)
    second.remove()
    _, status = run(200)
    assert status.resumed is not None and status.resumed.step == 100
    assert status.snapshot is not None and status.snapshot.step == 200
    assert Path(status.snapshot.path or "").is_file()
    handle, status = run(210)
    assert status.resumed is not None and status.resumed.step == 200
    assert handle.snapshots.listing().snapshots[0].step == 210
    assert handle.snapshots.verify().damaged == []
