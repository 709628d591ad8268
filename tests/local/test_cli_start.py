"""What is settled before a run on this machine starts: its GPUs, its files, its arguments. With real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
SHOW = """\
import json, os, sys
print(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), sys.argv[1:], os.environ["LOCAL_WORLD_SIZE"]]))
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_ON", "local")
    (tmp_path / "show.py").write_text(SHOW)


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SWARMTRAIN, "run", *words],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=60,
        check=False,
    )


def shown(done: subprocess.CompletedProcess[str]) -> list[list[object]]:
    """What each rank printed, by rank."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line.partition(" ")[2]) for line in sorted(done.stdout.splitlines())]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that lists two GPUs. Nothing else of it is pretended: no test here computes on them."""
    (tmp_path / "driver").mkdir()
    program = tmp_path / "driver" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: T4 (UUID: GPU-aa)'\necho 'GPU 1: T4 (UUID: GPU-bb)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_nodes_on_one_machine_share_out_its_gpus_or_are_refused() -> None:
    shows = ("--no-python", sys.executable, "show.py")  # no torch, for speed
    done = run("-j", "2..2", *shows)
    assert [row[0] for row in shown(done)] == ["0", "1"]
    assert "2 GPUs for 2 nodes: each has 1 GPU of its own" in done.stderr

    named = run("-j", "2x1", "-e", "CUDA_VISIBLE_DEVICES=GPU-bb,0", *shows)
    assert [row[0] for row in shown(named)] == ["GPU-bb", "0"]

    refused = run("-j", "3x1", "--name", "three", *shows)
    assert refused.returncode == 3
    assert "error: this machine has 2 GPUs, and 3 workers need one each" in refused.stderr
    one = run("-j", "1x2", "--name", "three", *shows, CUDA_VISIBLE_DEVICES="1")
    assert one.returncode == 3 and "1 GPU, and 2 workers need one each" in one.stderr
    listed = subprocess.run([SWARMTRAIN, "ps", "-a"], capture_output=True, text=True, check=True)
    assert "three" not in listed.stdout, "nothing has started"

    assert [row[0] for row in shown(run("-j", "3x1", "--gpus", "0", *shows))] == ["", "", ""]


def test_a_module_gets_everything_behind_it_and_torchrun_s_own_flags_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "show.py").write_text(SHOW)
    line = (
        "--standalone --nnodes=1 --nproc_per_node=2 --rdzv_id=7 --role=x -m pkg.show --lr 1 --name two -- -j"
    )
    done = run(*line.split())
    assert shown(done) == [[os.environ.get("CUDA_VISIBLE_DEVICES"), line.split()[-6:], "2"]] * 2
    assert "--standalone, --rdzv-id: ignored, since one command starts every node" in done.stderr
    again = run("--resume")
    assert "as show.1 was started" in again.stderr and shown(again) == shown(done)


def test_keys_and_links_out_stay_where_they_are_and_empty_directories_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    for name in (".ssh", "checkpoints", "logs/deep", "pkg"):
        (job / name).mkdir(parents=True)
    for name in (".env.local", ".ssh/id_rsa", "service.pem", "checkpoints/best.pt", "pkg/a.py"):
        (job / name).write_text("secret")
    (job / "outside").symlink_to("/etc/passwd")
    (job / "list.py").write_text(
        "import pathlib; print(sorted(str(each) for each in pathlib.Path().rglob('*')))\n"
    )
    monkeypatch.chdir(job)
    line = ("--name", "list", "--no-python", sys.executable, "list.py")
    dry = run("--dry-run", *line)
    assert dry.returncode == 0, dry.stderr
    assert [line.split() for line in dry.stdout.splitlines()] == [
        *(["79", "B", "list.py"], ["6", "B", "pkg/a.py"]),
        *(["empty", "checkpoints/"], ["empty", "logs/deep/"]),
    ]
    for said in (
        ".ssh/, .env.local, service.pem (12 B); such files usually hold keys",
        "outside (",
        "checkpoints/",
    ):
        assert dry.stderr.count(said) == 1
    assert "list.1 was not started" in dry.stderr and "list.1" not in run("--dry-run", *line).stdout
    done = run(*line)
    assert done.returncode == 0, done.stderr
    assert ".ssh/, .env.local, service.pem" in done.stderr
    arrived = done.stdout.partition(" ")[2].strip()
    assert arrived == str(
        sorted(
            [
                ".swarmtrain-code.json",
                "checkpoints",
                "list.py",
                "logs",
                "logs/deep",
                "pkg",
                "pkg/a.py",
            ]
        )
    )
    named = run("--dry-run", "--files", "list.py", "--files", ".env.local", *line)
    assert ".env.local" in named.stdout and "usually hold keys" not in named.stderr


WRITES_TO_ITS_DATA = """\
import os, pathlib
with open("data/train.bin", "r+b") as file:
    file.write(os.environ["GROUP_RANK"].encode())
images = list(pathlib.Path("images").iterdir())
print(os.path.getsize("data/train.bin"), len(images), sum(each.stat().st_size for each in images))
"""
# Runs what follows; says after how many seconds a run was submitted, and how many kilobytes of memory it took.
MEASURED = """\
import resource, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
for line in process.stderr:
    if " submitted: " in line:
        seconds = time.monotonic() - began
    sys.stderr.write(line)
code = process.wait()
print("used", seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_twenty_gigabytes_beside_the_script_cost_nothing_and_stay_as_they_are(tmp_path: Path) -> None:
    sizes = {
        "data/train.bin": 20_000_000,
        "val.csv": 10**10,
        "model.safetensors": 4 * 10**9,
        "data.h5": 4 * 10**9,
    }
    sizes |= {"checkpoint-60/model.safetensors": 10**9, "checkpoint-60/config.json": 100}
    sizes |= {f"images/{number}.jpg": 10**6 for number in range(1500)}
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    (tmp_path / "write.py").write_text(WRITES_TO_ITS_DATA)
    line = ("run", "-j", "2x1", "--start", "cold", "write.py")
    argv = [sys.executable, "-c", MEASURED, SWARMTRAIN, *line]
    took = list[float]()
    while not took or (min(took) >= 3 and len(took) < 3):  # others may work on this machine
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        *ranks, used = done.stdout.splitlines()
        seconds, kilobytes = map(float, used.split()[1:])
        took.append(seconds)
        assert kilobytes < 200_000
    assert min(took) < 3
    copied = "swarmtrain: train.bin is copied, since it is about to be written to"
    said = ("20000000 1500 1500000000", copied)
    assert sorted(ranks) == [f"[{rank}] {text}" for rank in range(2) for text in said]
    assert (tmp_path / "data/train.bin").read_bytes() == bytes(20_000_000), "each node has written to a copy"
    assert (
        "model files and checkpoints" in done.stderr
        and "model.safetensors, checkpoint-60/ (5 GB)" in done.stderr
    )
    assert "used where it lies, not copied: data.h5, data/train.bin, images/" in done.stderr


def test_a_file_that_did_not_travel_is_named_when_the_script_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").touch()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "read.py").write_text('open("../data/train.csv")\n')
    monkeypatch.chdir(tmp_path / "job")
    done = run("--start", "cold", "--max-restarts", "0", "read.py")
    assert done.returncode == 1
    told = " ".join(done.stderr.split())
    assert f"cause: {tmp_path}/data/train.csv is here, but it lies outside of {tmp_path}/job" in told
    shown = subprocess.run(
        [SWARMTRAIN, "status", "--json", "read"], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["cause"]["hint"].endswith("or give the script its absolute path")
