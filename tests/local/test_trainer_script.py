"""Snapshots for scripts of one's own: the documented script, killed and resumed, and what the two calls promise."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from trainer_harness import ranks, values
from trainer_job import same

from swarmtrain.trainer import Every, snapshot
from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.wire.pulse import Pulse, Source

DOCUMENT = Path(__file__).parents[2] / "docs" / "trainer.md"


def documented() -> tuple[str, str]:
    """The script of docs/trainer.md, as it was and as it is with snapshots."""
    (diff,) = re.findall(r"```diff\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
    lines = diff.splitlines()
    before = [line[1:] for line in lines if not line.startswith("+")]
    after = [line[1:] for line in lines if not line.startswith("-")]
    return "\n".join(before) + "\n", "\n".join(after) + "\n"


def torchrun(script: str, directory: Path, processes: int) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    (directory / "train.py").write_text(script)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWARMTRAIN_")}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            "train.py",
        ],
        cwd=directory,
        env={**environment, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def weights(process: subprocess.Popen[str]) -> dict[str, str]:
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    return dict(re.findall(r"rank (\d): weights ([-+.e\d]+)", output))  # the ends of lines may mix


def kill_after(step: int, process: subprocess.Popen[str], directory: Path) -> None:
    """Kills the ranks and their launcher once a snapshot of ``step`` or later is there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    limit = time.monotonic() + 100
    while not any(each.step >= step for each in snapshot_files.listed(directory)):
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[0]
        time.sleep(0.01)
    pids = [int(each) for each in children.read_text().split()]
    process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)


def test_the_documented_change_makes_a_script_end_as_if_it_had_never_been_killed(tmp_path: Path) -> None:
    before, after = (text.replace("1500", "600") for text in documented())
    whole = weights(torchrun(before, tmp_path / "before", 2))
    assert set(whole) == {"0", "1"} and len(set(whole.values())) == 1

    directory = tmp_path / "after" / "snapshots"
    kill_after(300, torchrun(after, tmp_path / "after", 2), directory)
    left = snapshot_files.listed(directory)[0].step
    assert 300 <= left < 600
    assert weights(torchrun(after, tmp_path / "after", 2)) == whole
    assert snapshot_files.listed(directory)[0].step == 600


@pytest.mark.long
def test_the_documented_script_runs_as_one_process_too(tmp_path: Path) -> None:
    _, after = documented()
    whole = weights(torchrun(after.replace("1500", "300"), tmp_path / "whole", 1))
    weights(torchrun(after.replace("1500", "150").replace("steps=100", "steps=50"), tmp_path / "parts", 1))
    assert weights(torchrun(after.replace("1500", "300"), tmp_path / "parts", 1)) == whole


class Counter:
    """Something with a state that is another on each rank."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def script(
    steps: int, every: Every, pause_at: tuple[int, int] | None = None, drift_at: int | None = None
) -> dict[str, Any]:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(3)
    model = DistributedDataParallel(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))
    )
    torch.manual_seed(rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    counter, extra = Counter(), {"seen": 0}
    objects: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "counter": counter,
    }
    start = snapshot.resume(extra=extra, **objects)
    for step in range(start, steps):
        if (rank, step) == pause_at:
            Pulse.map(Path(os.environ["SWARMTRAIN_PULSE"])).pause = 1
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        scheduler.step()
        counter.count += rank + 1
        extra["seen"] += 8
        if drift_at == step and rank == 1:
            with torch.no_grad():
                next(model.parameters())[0, 0] += 1e-3
        snapshot.save(step + 1, every=every, extra=extra, **objects)
    snapshot.save(steps, wait=True, extra=extra, **objects)
    state = [tensor.clone() for tensor in model.module.state_dict().values()]
    # as the Trainer does: DDP as the last owner of a gloo group may wait for itself (torch 2.13)
    del (model, objects)
    gc.collect()
    dist.destroy_process_group()
    return {"weights": state, "count": counter.count, "seen": extra["seen"], "start": start}


def test_all_that_was_given_goes_on_each_rank_with_its_own(tmp_path: Path) -> None:
    whole = values(script, 2, tmp_path / "whole", 40, Every())
    values(script, 2, tmp_path / "parts", 17, Every(steps=5))
    parts = values(script, 2, tmp_path / "parts", 40, Every(steps=5))
    assert [each["start"] for each in parts] == [17, 17]
    assert [each["count"] for each in parts] == [40, 80]
    assert parts[0]["seen"] == 320
    assert all(same(each["weights"], whole[0]["weights"]) for each in parts)


def test_three_ranks_go_on_bit_for_bit(tmp_path: Path) -> None:
    whole = values(script, 3, tmp_path / "whole", 40, Every())
    for steps in (9, 17):
        values(script, 3, tmp_path / "parts", steps, Every(steps=5))
    parts = values(script, 3, tmp_path / "parts", 40, Every(steps=5))
    assert same(parts[0]["weights"], whole[0]["weights"])


def test_more_ranks_go_on_with_the_state_of_rank_0(tmp_path: Path) -> None:
    values(script, 1, tmp_path, 10, Every())
    grown = values(script, 3, tmp_path, 20, Every(seconds=0.05))
    assert [each["count"] for each in grown] == [10 + 10 * (rank + 1) for rank in range(3)]
    assert same(grown[2]["weights"], grown[0]["weights"])
    for rank in range(3):
        assert snapshot_files.listed(tmp_path / f"node{rank}" / "snapshots")[0].step == 20


def test_a_script_pauses_when_any_rank_is_asked_to(tmp_path: Path) -> None:
    env = {"SWARMTRAIN_PULSE": "{node}/pulse", "SWARMTRAIN_MEMORY": "{node}/memory"}
    whole = values(script, 2, tmp_path / "whole", 300, Every())
    outcomes = ranks(script, 2, tmp_path, 300, Every(), (1, 20), env=env)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    felt = [Pulse.map(tmp_path / f"node{rank}" / "pulse") for rank in range(2)]
    step = felt[0].step
    assert [(each.paused, each.step, each.source) for each in felt] == [(1, step, Source.CAN_PAUSE)] * 2
    assert f"Paused at step {step}" in outcomes[0].output
    resumed = values(script, 2, tmp_path, 300, Every(), env=env)
    assert resumed[0]["start"] == step
    assert same(resumed[1]["weights"], whole[1]["weights"])


def test_a_script_whose_ranks_drift_apart_is_told(tmp_path: Path) -> None:
    outcomes = ranks(script, 2, tmp_path, 40, Every(steps=10), None, 14)
    assert [outcome.error for outcome in outcomes] == ["DriftError", "DriftError"]
    assert all(each.step <= 10 for each in snapshot_files.listed(tmp_path / "node0" / "snapshots"))


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    values(script, 1, tmp_path, 5, Every())
    (outcome,) = ranks(other_objects, 1, tmp_path)
    assert outcome.error == "TrainerError"
    assert "holds no classifier: it holds model, optimizer, scheduler, counter" in outcome.message
    (outcome,) = ranks(other_shape, 1, tmp_path)
    assert outcome.error == "TrainerError" and "does not fit model" in outcome.message
    for outcome in ranks(without_a_group, 2, tmp_path):
        assert outcome.error == "TrainerError" and "call init_process_group before" in outcome.message


def test_sharded_models_are_refused(tmp_path: Path) -> None:
    (outcome,) = ranks(sharded, 1, tmp_path)
    assert outcome.error == "TrainerError" and "model is sharded over the ranks" in outcome.message


def test_the_parallel_model_is_found_inside_of_what_compiles_it(tmp_path: Path) -> None:
    assert values(compiled, 1, tmp_path) == [(True, ["bias", "weight"])]


def sharded() -> None:
    dist.init_process_group("gloo")
    model = FullyShardedDataParallel(nn.Linear(1, 1), device_id=torch.device("cpu"))
    snapshot.resume(model=model)


def compiled() -> tuple[bool, list[str]]:
    """Whether both wrappers are seen through, and the names of what would be kept."""
    dist.init_process_group("gloo")
    parallel = DistributedDataParallel(nn.Linear(1, 1))
    model: Any = torch.compile(parallel)
    found = snapshot._parallel(model) is parallel
    dist.destroy_process_group()
    return found, sorted(snapshot._state(model))


def other_objects() -> None:
    snapshot.resume(classifier=nn.Linear(1, 1))


def other_shape() -> None:
    snapshot.resume(model=nn.Linear(1, 1))


def without_a_group() -> None:
    snapshot.resume(model=nn.Linear(1, 1))
