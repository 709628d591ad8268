"""What the Trainer's steps and snapshots take from a GPU."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_table import Tell

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("grouped", [False, True], ids=["one process", "a group"])
def test_no_step_waits_for_the_gpu(tmp_path: Path, tell: Tell, grouped: bool) -> None:
    script = Path(__file__).parent / "scripts" / "no_waiting.py"
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | (group | {"MASTER_PORT": str(free_port())} if grouped else {}),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "steps without waiting" in done.stdout
    how = "with DistributedDataParallel" if grouped else "in one process"
    tell(f"steps {how} in which torch refused any wait", done.stdout.split()[-4])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_snapshot_of_the_gpu_stalls_training_for_a_tenth_of_what_torch_save_does(
    tmp_path: Path, tell: Tell
) -> None:
    line = [sys.executable, str(ROOT / "benchmarks" / "snapshot_stall.py"), "3", "cuda"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    state = re.search(r"([\d.]+) M parameters, (\d+) MB of state", done.stdout)
    assert state is not None
    for way in ("torch.save", "swarmtrain"):
        stall = re.search(rf"^\| {re.escape(way)} \| ([\d.]+) ", done.stdout, re.MULTILINE)
        assert stall is not None
        tell(f"stall of a snapshot of {state[2]} MB, {way}", f"{stall[1]} ms")
