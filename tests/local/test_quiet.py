"""A failed run as a person reads it: the cause whole, its echoes as one word, and nothing that drives the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))

FAILS = """
import time
import torch, torch.distributed as dist

dist.init_process_group("gloo")
for step in range(100):
    if dist.get_rank() == 1 and step == 5:
        raise ValueError("\\x1b]0;a title\\x07loss is not a number")
    dist.all_reduce(torch.ones(4))
    time.sleep(0.02)
"""

pytestmark = pytest.mark.usefixtures("home")


def swarmtrain(*line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([SWARMTRAIN, *line], cwd=cwd, capture_output=True, timeout=120)


def ranks(output: bytes) -> set[bytes]:
    return {line[:3] for line in output.splitlines()}


def test_echoes_are_folded_while_it_runs_and_afterwards_and_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    run = swarmtrain("run", "--on", "local", "-j", "1x3", "fails.py", cwd=tmp_path)
    assert run.returncode == 1
    cause = [line for line in run.stdout.splitlines() if line.startswith(b"[1]")]
    assert ranks(run.stdout) == {b"[1]"} and cause[0].endswith(b"Traceback (most recent call last):")
    assert cause[-1].endswith(b"ValueError: loss is not a number")
    word = b"ranks 0,2 only echo another rank's failure (RuntimeError: Connection closed by peer"
    assert word in run.stderr and b"`swarmtrain logs fails.1 --rank 0,2 --all`" in run.stderr
    logs = swarmtrain("logs", "fails", cwd=tmp_path)
    assert (logs.stdout, word in logs.stderr) == (run.stdout, True)
    told = swarmtrain("logs", "fails.1", "--rank", "0,2", "--all", cwd=tmp_path)
    assert ranks(told.stdout) == {b"[0]", b"[2]"} and told.stdout.count(b"Connection closed by peer") == 2
    raw = swarmtrain("logs", "fails", "--raw", cwd=tmp_path)
    assert ranks(raw.stdout) == {b"[0]", b"[1]", b"[2]"}
    assert b"ValueError: \x1b]0;a title\x07loss" in raw.stdout
    as_json = swarmtrain("logs", "fails", "--json", cwd=tmp_path)
    texts = [json.loads(line)["text"] for line in as_json.stdout.splitlines()]
    assert len(texts) == len(raw.stdout.splitlines())
    assert any("\x1b]0;a title\x07loss" in text for text in texts)
