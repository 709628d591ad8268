"""The live screen of real runs on a real pseudo-terminal: keys, sizes, signals, faults, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from healed_local import agent_of, worker_of
from on_terminal import SWARMTRAIN, OnTerminal
from waiting import check_nothing_left, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.wire.machine.processes import descendants

SCRIPT = """
import os, sys, time
import torch, torch.distributed as dist
from torch import nn
from swarmtrain.trainer import report

steps, fails = int(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(steps):
    time.sleep(0.02)
    loss = model(torch.randn(8, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    report(step=step, loss=loss, accuracy=0.5, total_steps=steps)
    print("\\x1b]0;mine\\x07\\x1b[2Jstep", step, flush=True)
    if step == fails and dist.get_rank() == 1:
        raise ValueError("\\x1b[31mno more")
dist.destroy_process_group()
"""


def start(directory: Path, name: str, steps: int, fails: int = -1, **job: object) -> RunHandle:
    (directory / f"{name}.py").write_text(SCRIPT)
    os.chdir(directory)
    wanted = {"script": f"{name}.py", "files": (f"{name}.py",), "args": (str(steps), str(fails)), "nodes": 2}
    return Client("local").run(Job.model_validate({**wanted, "env": {"OMP_NUM_THREADS": "1"}, **job}))


@contextmanager
def on_terminal(*words: str, columns: int = 80, rows: int = 24, **environment: str) -> Iterator[OnTerminal]:
    terminal = OnTerminal(*words, columns=columns, rows=rows, **environment)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunHandle]:
    """A run that goes on for as long as tests look at it."""
    directory = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWARMTRAIN_HOME", str(directory / "home"))
        patch.chdir(directory)
        handle = start(directory, "live", 100_000)
        until(lambda: (handle.status().step or 0) > 20, 60, "steps")
        yield handle
        handle.stop()
        check_nothing_left(directory, directory / "home")


def test_a_run_is_watched_paused_filtered_and_left_and_the_terminal_is_as_it_was(live: RunHandle) -> None:
    with on_terminal("top", "--on", "local") as terminal:
        terminal.shows(
            "live.1  running", "of 100000", "about", "accuracy 0.5", "STEP", "node0", "node1", "[0] step"
        )
        assert {1049} <= terminal.screen.modes and 25 not in terminal.screen.modes and terminal.screen.styled
        terminal.press("r1\r")
        terminal.until(
            lambda text: "OUTPUT  of rank 1" in text and "[0] step" not in text, what="rank 1 alone"
        )
        terminal.press("\x1b")
        terminal.shows("[0] step")
        terminal.press(" ")
        terminal.shows("paused for 1")
        line = next(each for each in terminal.screen.rows if each.startswith("[0] step"))
        terminal.shows("paused for 2")
        assert line in terminal.screen.rows
        terminal.press(" ")
        terminal.until(lambda text: "paused" not in text and line not in text, what="a line that is new")
        terminal.resize(40, 12)
        narrow = terminal.until(lambda text: "q leave" in text.split("\n")[11], what="another size")
        assert "live.1  running" in narrow.split("\n")[0]
        terminal.resize(80, 30)
        terminal.until(lambda text: "q leave" in text.split("\n")[29], what="the size of before")
        terminal.press("\x1a")
        stat = Path(f"/proc/{terminal.process.pid}/stat")
        terminal.until(
            lambda _: stat.read_text().rpartition(")")[2].split()[0] == "T", what="its being stopped"
        )
        while terminal.read(0.2):
            pass
        assert terminal.is_as_before(), "after Ctrl-Z"
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.until(lambda text: "q leave" in text.split("\n")[29], what="its going on")
        os.kill(agent_of(live, ""), signal.SIGKILL)  # the coordinator; its init starts it again
        terminal.shows("trying again")
        terminal.shows("the coordinator is back")
        terminal.press("q")
        assert terminal.ends() == 0 and terminal.is_as_before()
    assert live.status().state == "running"


def test_whatever_ends_it_the_terminal_is_as_it_was(live: RunHandle) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with on_terminal("top", "live", NO_COLOR="1") as terminal:
            terminal.shows("live.1  running")
            assert not terminal.screen.styled, "NO_COLOR"
            if number == signal.SIGINT:
                terminal.press("\x03")
            else:
                os.kill(terminal.process.pid, number)
            assert terminal.ends() == 128 + number and terminal.is_as_before()
    with on_terminal("top", "live") as terminal:
        terminal.shows("live.1  running")
        terminal.hang_up()
        assert terminal.process.wait(20) == 128 + signal.SIGHUP


def test_a_worker_that_is_killed_is_seen_and_healed_and_a_pipe_has_it_once(live: RunHandle) -> None:
    with on_terminal("top", "live", columns=100, rows=40) as terminal:
        terminal.shows("live.1  running", "LOSS")
        os.kill(worker_of(live, 1), signal.SIGKILL)
        terminal.shows("rank 1 on node1: killed by SIGKILL", "generation 2", "1 restart", seconds=40)
        terminal.press("q")
        assert terminal.ends() == 0
    piped = subprocess.run([SWARMTRAIN, "top", "--once", "--on", "local"], capture_output=True, timeout=60)
    assert piped.returncode == 0 and piped.stderr == b""
    assert piped.stdout.startswith(b"live.1") and b"\x1b" not in piped.stdout and b"EVENTS" in piped.stdout
    assert max(len(line) for line in piped.stdout.decode().splitlines()) <= 80
    told = json.loads(
        subprocess.run([SWARMTRAIN, "top", "live", "--json"], capture_output=True, timeout=60).stdout
    )
    assert told["progress"]["total_steps"] == 100_000 and told["progress"]["steps_per_second"] > 0
    assert {row["rank"] for row in told["ranks"]} == {0, 1} and told["status"]["restarts"] == 1


def test_a_run_that_ends_stays_on_the_screen_with_its_verdict(home: Path, tmp_path: Path) -> None:
    start(tmp_path, "fails", 400, 120, restart="never")
    with on_terminal("top", "fails") as terminal:
        terminal.shows("fails.1  running", seconds=40)
        shown = terminal.shows("fails.1  failed", "raised ValueError: no more", "try: ", "ended", seconds=60)
        assert "step 121 of 400" in shown and "cause: an exception that nobody caught" in shown
        terminal.press("o")
        terminal.shows("ValueError: no more", "only echoes another rank's failure")
        terminal.press("r1\r")
        terminal.until(lambda text: "[1] step 120" in text and "[0]" not in text, what="rank 1 after the end")
        terminal.until(lambda _: not descendants(terminal.process.pid), what="nothing that is held open")
        terminal.press("q")
        assert terminal.ends() == 0 and terminal.is_as_before()
