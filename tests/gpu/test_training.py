"""Trainings on this machine's GPUs: they start, heal and fail as those on processors do."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from gpu_runs import start, text
from gpu_table import Tell
from healed import events, reach, weights
from healed_local import worker_of

from swarmtrain import Client, ClusterError
from swarmtrain.control.handle import RunHandle

SCRIPTS = Path(__file__).parent / "scripts"
FSDP = Path(__file__).parents[2] / "examples" / "plain" / "fsdp.py"
STEPS = 160


def cards(handle: RunHandle) -> set[str]:
    """The GPUs that the steps of a run were computed on."""
    found = (re.search(r"step \d+ on cuda:\d+ of (\S+)", line) for line in text(handle))
    return {match[1] for match in found if match}


@pytest.mark.usefixtures("home")
def test_warm_and_cold_workers_train_the_same_and_nobody_has_touched_the_gpu_before(tell: Tell) -> None:
    ends, seconds = {}, {}
    for way in ("cold", "warm"):
        began = time.monotonic()
        handle = start(SCRIPTS / "training.py", "20", "fp32", name=way, start=way)
        reach(handle, 1, seconds=120)
        seconds[way] = time.monotonic() - began
        assert handle.wait(timeout=120).state == "succeeded", text(handle)
        assert "touched before: False" in text(handle)
        assert len(cards(handle)) == 1
        ends[way] = weights(handle)
        tell(f"from the command to the first step, {way}", f"{seconds[way]:.1f} s")
    assert ends["warm"] == ends["cold"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_worker_leaves_no_trace_in_the_weights(tell: Tell, precision: str) -> None:
    whole = start(SCRIPTS / "training.py", str(STEPS), precision, name="whole")
    assert whole.wait(timeout=180).state == "succeeded", text(whole)
    handle = start(SCRIPTS / "training.py", str(STEPS), precision)
    reach(handle, 100, seconds=120)
    os.kill(worker_of(handle, 0), signal.SIGKILL)
    assert handle.wait(timeout=180).state == "succeeded", text(handle)
    assert weights(handle) == weights(whole)
    (recovery,) = handle.status().recoveries
    tell(f"training again after a killed worker, {precision}", f"{recovery.seconds:.1f} s")


@pytest.mark.usefixtures("home")
def test_the_gpus_are_shared_out_among_nodes_and_too_few_are_refused() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(ClusterError, match=f"{count + 1} workers need one each"):
        start(SCRIPTS / "training.py", "5", "fp32", nodes=count + 1)
    assert Client(on="local").runs() == []
    handle = start(SCRIPTS / "training.py", "20", "fp32", nodes=count)
    assert handle.wait(timeout=180).state == "succeeded", text(handle)
    assert len(cards(handle)) == count


@pytest.mark.usefixtures("home")
def test_two_ranks_share_one_gpu_over_gloo_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    handle = start(SCRIPTS / "training.py", "20", "fp32", nodes=2, backend="gloo")
    assert handle.wait(timeout=180).state == "succeeded", text(handle)
    assert len(cards(handle)) == 1
    assert len(handle.status().weights or {}) == 2
    assert weights(handle)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("how", "words"),
    [("memory", ["OutOfMemoryError", "CUDA out of memory"]), ("assert", ["device-side assert"])],
)
def test_a_failure_of_the_gpu_is_the_cause_and_is_not_tried_for_ever(how: str, words: list[str]) -> None:
    handle = start(SCRIPTS / "failing.py", how)
    result = handle.wait(timeout=240)
    assert result.state == "failed"
    assert "rank 0" in result.reason
    for word in words:
        assert word in result.reason + str(handle.status().cause)
    assert len(events(handle, "started")) <= 3


@pytest.mark.usefixtures("home")
def test_a_sharded_model_trains(tell: Tell) -> None:
    nodes = min(2, torch.cuda.device_count())
    handle = start(FSDP, "--steps", "20", nodes=nodes)
    assert handle.wait(timeout=180).state == "succeeded", text(handle)
    assert sum("holds" in line for line in text(handle)) == nodes
    tell("FSDP2, ranks", str(nodes))
