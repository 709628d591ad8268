"""What is measured of real runs: their training, their nodes, and nothing is lost when the coordinator is away."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

from healed import reach
from healed_local import restart_coordinator, start, worker_of
from waiting import until

from swarmtrain import Client, Job, Series, SeriesRange
from swarmtrain.control.handle import RunHandle

_PLAIN = """
import time, torch, torch.distributed as dist
from torch import nn
from swarmtrain.trainer import report

dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(400):
    time.sleep(0.01)  # its data
    loss = model(torch.randn(8, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    report(loss=loss, lr=1e-3, accuracy=0.5)
dist.destroy_process_group()
"""


def one(handle: RunHandle, name: str, rank: int = 0, **within: object) -> Series:
    (series,) = handle.series(name, within=SeriesRange(ranks=(rank,), **within))  # type: ignore[arg-type]
    return series


def mean(series: Series) -> float:
    values = [point.mean for point in series.points if point.mean is not None]
    return sum(values) / len(values)


def test_a_plain_script_tells_its_loss_in_one_call_and_where_its_steps_go(home: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(_PLAIN)
    os.chdir(tmp_path)
    handle = Client("local").run(Job(script="plain.py", files=("plain.py",), nodes=2))
    reach(handle, 50)
    until(lambda: handle.status().loss is not None, 10, "a loss")
    assert handle.wait().state == "succeeded"
    loss = one(handle, "train/loss", x="step")
    assert loss.points[0].x <= 5 and loss.points[-1].x >= 399
    assert one(handle, "train/accuracy").value == 0.5
    assert one(handle, "train/learning_rate", rank=1).value == 1e-3
    assert 0.01 <= mean(one(handle, "train/data_seconds")) < mean(one(handle, "train/step_seconds"))
    parts = ("data", "forward", "backward", "communication", "optimizer")
    told = sum(mean(one(handle, f"train/{part}_seconds")) for part in parts)
    assert abs(told - mean(one(handle, "train/step_seconds"))) < 0.5 * told
    status = handle.status()
    assert status.goodput is not None and 0 < status.goodput.ratio < 1
    assert status.goodput.data >= 3.0


def test_of_a_healed_training_each_step_has_one_loss(home: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    handle = start(tmp_path, epochs=14, pause=0.05)
    reach(handle, 40)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    assert handle.wait().state == "succeeded"
    points = one(handle, "train/loss", x="step", most=0).points
    assert {point.generation for point in points} == {1, 2}
    steps = [point.step for point in points]
    assert steps == sorted(set(steps), key=lambda step: step or 0)
    status = handle.status()
    told = len(one(handle, "train/loss", x="step", most=0, repeated=True).points)
    assert told >= len(points)  # none is made again where it went on from the very step
    assert status.goodput is not None and status.goodput.recovering > 0


def test_nodes_are_measured_and_a_coordinator_that_is_away_loses_nothing(home: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    handle = start(tmp_path, epochs=200, pause=0.05)
    reach(handle, 20)
    until(lambda: len(handle.series("node/load", points=False)) == 2, 40, "measurements")
    restart_coordinator(home / "runs" / handle.id / "coordinator", pause=12.0)
    back = time.time()
    until(lambda: (one(handle, "train/loss").time or 0) > back, 60, "news of the training")
    for series in (one(handle, "train/loss", most=0), *handle.series("node/memory_used_ratio")):
        times = [point.time for point in series.points]
        gaps = [after - before for before, after in pairwise(times)]
        assert max(gaps) < (12.0 if series.name.startswith("node") else 2.0), (str(series), gaps)
    handle.stop()
    assert {label["node"] for label in (each.labels for each in handle.series("node/cpu_busy_ratio"))} == {
        "node0",
        "node1",
    }
