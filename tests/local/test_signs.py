"""Signs of life of real processes: which of them work, and which wait, over gloo and without a group."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from healed import events, story
from worker_harness import free_port, rank_env

from swarmtrain import Client, Job
from swarmtrain.agent.worker_group.usage import sign, tree

WINDOW = 2.5  # seconds; what counts are shares of a processor

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
POLLS = "import time; print('up', flush=True)\nwhile True: time.sleep(5)"
COMPUTES = "import time; print('up', flush=True)\nwhile True: sum(range(20_000)); time.sleep(0.5)"
READS = "import time; print('up', flush=True)\nwhile True: open('/etc/hostname').read(); time.sleep(1)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTES!r}])"

GROUP = """
import time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 1))
model(torch.randn(8, 4)).sum().backward()
print("up", flush=True)
end = time.monotonic() + 5
while dist.get_rank() == 0 and time.monotonic() < end:
    model.module(torch.randn(8, 4))
    time.sleep(0.5)
if dist.get_rank() == 0:
    print("rests", flush=True)
    time.sleep(600)
dist.barrier()
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are killed in the end."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)  # a child of its own, too
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def begin(started: list[subprocess.Popen[str]], text: str, env: dict[str, str] | None = None) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    started.append(process)
    return process.pid


def seen(pids: list[int]) -> list[str]:
    """What each does within a window."""
    before = [tree(pid) for pid in pids]
    began = time.monotonic()
    time.sleep(WINDOW)
    took = time.monotonic() - began
    return [sign(first, tree(pid), took) for first, pid in zip(before, pids, strict=True)]


def says(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None and process.stdout.readline() == f"{line}\n"


def test_a_process_that_works_is_told_from_one_that_waits(started: list[subprocess.Popen[str]]) -> None:
    pids = [begin(started, text) for text in (SLEEPS, POLLS, COMPUTES, READS, CHILD)]
    for process in started:
        says(process, "up")
    assert seen(pids) == ["", "", "processor time", "bytes read or written", "processor time"]


def test_of_a_group_over_gloo_the_rank_that_works_is_seen_and_those_that_wait_are_not(
    started: list[subprocess.Popen[str]],
) -> None:
    port = free_port()
    pids = [begin(started, GROUP, rank_env(rank, 2, port)) for rank in (0, 1)]
    for process in started:
        says(process, "up")
    time.sleep(0.5)  # until the other one waits
    assert seen(pids) == ["processor time", ""]
    says(started[0], "rests")
    assert seen(pids) == ["", ""]


LONG_TEST = """
import time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    time.sleep(0.02)
end = time.monotonic() + 42
while dist.get_rank() == 0 and time.monotonic() < end:
    model.module(torch.randn(8, 4))  # a long test set
    time.sleep(0.5)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.long
def test_a_rank_that_tests_while_the_others_wait_is_told_of_and_left_alone(
    tmp_path: Path, home: Path
) -> None:
    (tmp_path / "train.py").write_text(LONG_TEST)
    handle = Client(on="local").run(Job(script="train.py", nodes=2, env={"OMP_NUM_THREADS": "1"}))
    assert handle.wait(timeout=120).state == "succeeded", story(handle)
    status = handle.status()
    assert (status.generation, status.restarts) == (1, 0)
    (told,) = events(handle, "stall")
    line = 1 + LONG_TEST.splitlines().index("    time.sleep(0.5)")
    assert re.fullmatch(
        rf"no step for 3\d s: rank 0 on node0 is at train.py:({line}|{line - 1}) in <module>, while the others wait in "
        rf"barrier \(train.py:{line + 1} in <module>\); rank 0 works \(processor time\)",
        told["text"],
    ), told["text"]
