"""A run that was healed, as the command line tells it: it has succeeded, and says what befell it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))

# Rank 1 of the first generation is killed in the middle of its steps.
FLAKY = """\
import os, signal, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
first = os.environ["SWARMTRAIN_GENERATION"] == "1"
for step in range(40):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    time.sleep(0.02)
    if first and step == 20 and dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_ON", "local")
    (tmp_path / "flaky.py").write_text(FLAKY)


def sh(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [SWARMTRAIN, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env={**os.environ}, check=False)


def test_a_healed_run_exits_with_0_and_tells_of_its_recovery() -> None:
    done = sh("run", "-j", "2x1", "flaky.py")
    assert done.returncode == 0, done.stderr
    told = [line.removeprefix("swarmtrain: ") for line in done.stderr.splitlines()]
    killed = told.index("rank 1 on node1: killed by SIGKILL")
    recovered = next(index for index, line in enumerate(told) if line.startswith("recovered: "))
    assert killed < recovered
    told_so = r"at step (2\d); begun anew on 2 nodes after .*; \1 steps lost but for what it saves by itself$"
    assert re.search(told_so, told[recovered]), told[recovered]
    assert not any(line.startswith("error:") for line in told)
    assert any(line.startswith("  healed  1 restart, ") for line in told)

    assert sh("wait", "flaky").returncode == 0
    status = json.loads(sh("status", "flaky", "--json").stdout)
    assert (status["state"], status["restarts"], len(status["recoveries"])) == ("succeeded", 1, 1)
    assert status["recoveries"][0]["text"] in sh("status", "flaky").stdout
    marks = [line[20] for line in sh("events", "flaky").stdout.splitlines()]
    assert "!" in marks and marks.count("+") == 2  # recovered, succeeded
    assert sh("ps", "-a").stdout.splitlines()[1].split()[:3] == ["flaky.1", "succeeded", "1"]


def test_without_restarts_the_first_failure_ends_the_run() -> None:
    done = sh("run", "-j", "1x2", "--restart", "never", "flaky.py")
    assert done.returncode == 1
    assert "error: flaky.1 failed: rank 1 on node0: killed by SIGKILL" in done.stderr
    assert "recovered" not in done.stderr
