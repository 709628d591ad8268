"""Signals, closed terminals and killed clients: what becomes of a run on this machine whose command line ends."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
WORDS = [SWARMTRAIN, "run", "--on", "local", "-j", "2x1", "--start", "cold", "tick.py"]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def _script(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project := tmp_path / "project").mkdir()  # what is sent does not change while runs write
    monkeypatch.chdir(project)
    text = (
        "import sys, time\nfor n in range(int(sys.argv[1])): print('tick', n, flush=True); time.sleep(0.1)\n"
    )
    (project / "tick.py").write_text(text)


def attached(ticks: int, *, ignored: bool = False) -> subprocess.Popen[bytes]:
    """A command line that shows a run, once that has written something."""
    nohup = ["nohup"] if ignored else []
    process = subprocess.Popen([*nohup, *WORDS, str(ticks)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert b"tick" in process.stdout.readline()
    return process


def states() -> list[str]:
    return [handle.status().state for handle in Client("local").runs()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_an_attached_run_stops_it_in_order(number: signal.Signals) -> None:
    process = attached(600)
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"stopping tick.1 ({number.name})" in words.decode()
    assert "tick.1 stopped" in words.decode()
    assert states() == ["stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_stops_a_run_whose_output_nobody_reads_at_the_moment(
    number: signal.Signals,
) -> None:
    """As with ``| less``: the client is in the middle of a write when the signal comes."""
    Path("tick.py").write_text("import time\nwhile True: print('x' * 500, flush=True); time.sleep(0.002)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    process = subprocess.Popen(WORDS, stdout=writing, stderr=subprocess.PIPE, env=environment)
    until(lambda: not select.select([], [writing], [], 0)[1], 40, "a full pipe")
    process.send_signal(number)
    until(lambda: states() == ["stopped"], 40, "the run's end")
    os.close(writing)
    with open(reading, "rb") as unread:
        while unread.read(1 << 16):
            pass
    _, words = process.communicate(timeout=30)
    assert (process.returncode, words.decode().count("Traceback")) == (128 + number, 0)
    how = "Ctrl-C again kills it" if number == signal.SIGINT else number.name
    assert f"stopping tick.1 ({how})" in words.decode()


def test_what_was_started_to_ignore_a_closed_terminal_does_so() -> None:
    process = attached(15, ignored=True)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert (process.returncode, states()) == (0, ["succeeded"])


def test_a_terminal_that_is_closed_stops_its_run() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(WORDS[0], [*WORDS, "600"])
    seen = b""
    while b"tick 3" not in seen:
        seen += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert states() == ["stopped"]
    (run,) = Client("local").runs()
    assert run.status().reason == "stopped by a person"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_ends_in_the_first_second_leaves_no_run_that_starts_for_ever(
    number: signal.Signals, tmp_path: Path, home: Path
) -> None:
    for run, pause in enumerate((0.0, 0.15), start=1):
        process = subprocess.Popen([*WORDS, "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda run=run: (home / "runs" / f"tick.{run}").exists(), 20)  # type: ignore[misc]
        time.sleep(pause)
        process.send_signal(number)
        assert process.wait(timeout=30) in (-number, 128 + number)
        handle = Client("local").get(f"tick.{run}")
        if number != signal.SIGKILL:
            assert handle.status().state == "stopped"
            continue
        time.sleep(1.0)  # what it was just starting comes into being
        handle = Client("local").get(f"tick.{run}")
        if handle.is_live():  # all of it had been started, or its coordinator is about to notice
            handle.stop()
        assert handle.status().state in ("stopped", "failed")
    job = Job(script="tick.py", args=["1"], nodes=1, start="cold")
    assert Client("local").run(job).wait(timeout=60).state == "succeeded"
    assert len(list((home / "runs").iterdir())) == 3


@pytest.mark.parametrize(("agents", "nodes", "state"), [(1, 2, "failed"), (2, "2..3", "succeeded")])
def test_a_run_whose_client_was_killed_between_the_starts_of_its_nodes_does_not_wait_for_the_others(
    agents: int, nodes: int | str, state: str
) -> None:
    killed = f"""
import os, signal
from swarmtrain import Client, Job
from swarmtrain.launchers.local.processes import ProcessTable
start = ProcessTable.start
def started(table, node, *rest):
    start(table, node, *rest)
    if len([name for name in table.read() if name]) == {agents}:
        os.kill(os.getpid(), signal.SIGKILL)
ProcessTable.start = started
Client("local").run(Job(script="tick.py", args=["1"], nodes={nodes!r}, start="cold"))
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    result = Client("local").get("tick").wait(timeout=30)  # and not five minutes
    assert result.state == state
    words = "the client that submitted the run went before it had started all of it"
    assert result.reason == ("" if state == "succeeded" else f"1 of 2 nodes joined (node0): {words}")
    assert words in [event.text for event in Client("local").get("tick").events()]


def test_a_client_that_was_killed_before_its_run_was_whole_is_not_in_the_way(
    home: Path, tmp_path: Path
) -> None:
    killed = """
import os, signal
from swarmtrain import Client, Job
from swarmtrain.launchers.local import files as local_files
local_files.Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Client("local").run(Job(script="tick.py", args=["1"], nodes=1, start="cold"))
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    assert [path.name[:7] for path in (home / "runs").iterdir()] == [".tick.1"]
    assert Client("local").runs() == []
    job = Job(script="tick.py", args=["1"], nodes=1, start="cold")
    assert Client("local").run(job).wait(timeout=60).state == "succeeded"
    assert [path.name for path in (home / "runs").iterdir()] == ["tick.1"]
