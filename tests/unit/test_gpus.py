"""Which GPUs there are, which of them a run may use, and who sees which. Only nvidia-smi is pretended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmtrain.agent.choices import choose
from swarmtrain.errors import ClusterError
from swarmtrain.job import Job
from swarmtrain.launchers.local.gpus import Shares, share
from swarmtrain.wire.machine import gpus
from swarmtrain.wire.machine.gpus import Card
from swarmtrain.wire.run_spec import RunSpec

UUIDS = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abcd"]
FOUR = [Card(uuid) for uuid in UUIDS]
DIVIDED = [Card(UUIDS[0], ("MIG-1", "MIG-2")), Card(UUIDS[1])]
LISTED = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {UUIDS[0]})
  MIG 3g.20gb     Device  0: (UUID: MIG-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {UUIDS[1]})
"""


def pretend(directory: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    """An nvidia-smi that lists these."""
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def four(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (f"GPU {index}: NVIDIA T4 (UUID: {uuid})\n" for index, uuid in enumerate(UUIDS))
    pretend(directory, monkeypatch, "".join(lines))


def test_the_driver_s_list_is_read_with_the_parts_of_divided_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, LISTED)
    assert gpus.cards() == DIVIDED


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", ["0"]),
        (" 3, 1 ", ["3", "1"]),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("2,7,1", ["2"]),
        ("7", []),
        ("1,1", []),
        (f"{UUIDS[2]},{UUIDS[0]}", [UUIDS[2], UUIDS[0]]),
        ("GPU-bbb", ["GPU-bbb"]),
        ("GPU-bbb,GPU-bb", []),
        ("GPU-", []),
        ("GPU-none", []),
        ("MIG-1", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(named: str | None, devices: list[str]) -> None:
    assert gpus.visible(named, FOUR) == devices


@pytest.mark.parametrize(
    ("named", "devices", "usable"),
    [
        (None, ["MIG-1", "MIG-2", "1"], 1),
        ("MIG-2,MIG-1", ["MIG-2", "MIG-1"], 1),
        ("MIG-3", [], 0),
        ("MIG-GPU-aaa/1/0", ["MIG-GPU-aaa/1/0"], 1),
        ("1", ["1"], 1),
    ],
)
def test_a_process_sees_one_part_of_divided_gpus(named: str | None, devices: list[str], usable: int) -> None:
    assert gpus.visible(named, DIVIDED) == devices
    assert gpus.usable(devices) == usable


@pytest.mark.parametrize(
    ("user", "base", "workers", "said"),
    [
        ({}, {}, 4, "4 workers (one a GPU), backend nccl (4 GPUs)"),
        ({}, {"CUDA_VISIBLE_DEVICES": "1,2"}, 2, "2 workers (one a GPU), backend nccl (2 GPUs)"),
        (
            {"CUDA_VISIBLE_DEVICES": "0"},
            {},
            1,
            "1 worker (one a GPU), backend nccl (1 GPU, of CUDA_VISIBLE_DEVICES=0)",
        ),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": "0"}, 2, "2 workers (one a GPU)"),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}, 1, "1 worker (no GPU, so one), backend gloo"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, {}, 1, "1 worker (no GPU, so one), backend gloo"),
        ({}, {"NVIDIA_VISIBLE_DEVICES": "void"}, 1, "1 worker (no GPU, so one), backend gloo"),
    ],
)
def test_the_job_s_own_variable_counts_when_gpus_are_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: dict[str, str],
    base: dict[str, str],
    workers: int,
    said: str,
) -> None:
    four(tmp_path, monkeypatch)
    choices = choose(RunSpec("train", "script", "train.py"), user, base)
    assert choices.workers == workers
    assert choices.notes[0][1].startswith(said)


def test_workers_that_share_a_gpu_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    four(tmp_path, monkeypatch)
    choices = choose(RunSpec("train", "script", "train.py", workers=2), {"CUDA_VISIBLE_DEVICES": "0"}, {})
    assert choices.backend == "gloo"
    assert choices.notes[1][0] == "warning" and "2 workers share 1 GPU" in choices.notes[1][1]


def test_a_worker_for_each_processor_is_what_torchrun_calls_cpu() -> None:
    choices = choose(RunSpec("train", "script", "train.py", workers_by="cpu", cpus=1.0), {}, {})
    assert (choices.workers, choices.notes[0][1].partition(",")[0]) == (1, "1 worker (one a processor)")


def job(**keys: Any) -> Job:
    return Job(**{"script": "train.py", **keys})


@pytest.mark.parametrize(
    ("keys", "devices", "by_node"),
    [
        ({"nodes": 2}, [], None),
        ({"nodes": 2}, ["0", "1"], ("0", "1")),
        ({"nodes": 2, "workers_per_node": 1}, ["0", "1", "2", "3"], ("0,1", "2,3")),
        ({"nodes": 2, "workers_per_node": 2}, ["3", "2", "1", "0"], ("3,2", "1,0")),
        ({"nodes": 3}, ["0", "1", "2", "3"], ("0", "1", "2")),
        ({"nodes": "1..2"}, UUIDS[:2], tuple(UUIDS[:2])),
        ({"nodes": 1}, ["0", "1"], None),
        ({"nodes": 1, "resources": {"gpus": 1}}, ["0", "1"], ("0",)),
        ({"nodes": 2, "resources": {"gpus": 1}}, ["0", "1", "2", "3"], ("0", "1")),
        ({"nodes": 2, "resources": {"gpus": 0}}, ["0"], ("", "")),
        ({"nodes": 3, "backend": "gloo"}, ["0", "1"], ("0,1", "0,1", "0,1")),
        ({"nodes": 2, "backend": "gloo"}, ["0", "1"], ("0", "1")),
        ({"nodes": 2}, ["MIG-1", "MIG-2", "1"], ("MIG-1", "MIG-2")),
    ],
)
def test_the_gpus_of_one_machine_are_shared_out(
    keys: dict[str, Any], devices: list[str], by_node: tuple[str, ...] | None
) -> None:
    assert share(job(**keys), devices).by_node == by_node


@pytest.mark.parametrize(
    ("keys", "devices", "message"),
    [
        ({"nodes": 2}, ["0"], "this machine has 1 GPU, and 2 workers need one each"),
        ({"workers_per_node": 2}, ["0"], "this machine has 1 GPU, and 2 workers need one each"),
        ({"nodes": 2, "backend": "nccl"}, ["0"], "1 GPU, and 2 workers"),
        ({"nodes": 2, "workers_per_node": 2}, ["0", "1", "2"], "3 GPUs, and 4 workers"),
        ({"nodes": 2, "resources": {"gpus": 2}}, ["0", "1"], "2 nodes of 2 GPUs each need 4"),
        ({"workers_per_node": 2}, ["MIG-1", "MIG-2"], "the workers of a node see only one part"),
    ],
)
def test_too_few_gpus_are_refused_with_the_ways_out(
    keys: dict[str, Any], devices: list[str], message: str
) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        share(job(**keys), devices)
    for way in ("fewer workers", "--gpus 0"):
        assert way in caught.value.hint
    assert ("--backend gloo" in caught.value.hint) == ("resources" not in keys)


def test_gpus_that_are_asked_for_and_not_there_are_missed_before_the_start() -> None:
    with pytest.raises(ClusterError, match="asks for 2 GPUs on each node, and this machine shows none"):
        share(job(resources={"gpus": 2}), [])
    assert share(job(nodes=2), []) == Shares(None)
