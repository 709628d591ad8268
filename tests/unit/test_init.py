"""The init, with real processes: what it passes on, what it starts again, what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from swarmtrain.launchers.local.processes import LocalProcess, kill_trees
from swarmtrain.wire.machine.processes import halted

HEAD = """
import os, pathlib, signal, subprocess, sys, time
from swarmtrain.wire.machine import init
init._AGAIN_SECONDS, init._SWEEP_SECONDS, init._SHORT_SECONDS = {pause}, 0.1, {short}
init._STOPPED_SECONDS, init._LOOK_SECONDS = {stopped}, 0.01
lives = pathlib.Path(sys.argv[1])
def begin():
    with lives.open("a") as file:
        print(os.getpid(), file=file)
    return len(lives.read_text().split())
"""


def start(
    path: Path,
    work: str,
    *,
    again: bool = False,
    pause: float = 0.01,
    short: float = 5.0,
    stopped: float = 0.05,
) -> tuple[subprocess.Popen[str], Path]:
    """An init whose child does ``work``; and a file with the child's lives, one process id a line."""
    lives = path / "lives"
    lines = "\n".join(f"    {line}" for line in work.strip().splitlines())
    head = HEAD.format(pause=pause, short=short, stopped=stopped)
    keep = f"init.supervise(work, again={again}, note=lives.with_name(init.CHILD_FILE.name))"
    program = f"{head}\ndef work():\n{lines}\nsys.exit({keep})\n"
    command = [sys.executable, "-c", program, str(lives)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True), lives


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=20.0)
    return process.returncode, errors


@pytest.mark.parametrize(
    ("work", "code"), [("return 7", 7), ("os.kill(os.getpid(), 9)", 137), ("sys.exit(4)", 4)]
)
def test_the_exit_code_is_passed_on(tmp_path: Path, work: str, code: int) -> None:
    assert finish(start(tmp_path, work)[0])[0] == code


def test_what_dies_is_started_again_until_it_is_done(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "return 3 if begin() < 3 else 0", again=True)
    code, errors = finish(process)
    assert (code, len(lives.read_text().split())) == (0, 3)
    assert errors == "ended with 3; starting it again\n" * 2


def test_what_keeps_dying_is_given_up(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "begin()\nreturn 3", again=True)
    assert finish(process)[0] == 3
    assert len(lives.read_text().split()) == 3


def test_a_long_life_is_worth_another_one(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "return 3 if begin() < 5 else 0", again=True, short=0.0)
    assert finish(process)[0] == 0
    assert len(lives.read_text().split()) == 5


def test_a_child_that_was_stopped_is_woken_as_often_as_it_is(tmp_path: Path) -> None:
    process, _ = start(tmp_path, "for _ in range(2):\n    os.kill(os.getpid(), signal.SIGSTOP)\nreturn 5")
    assert finish(process) == (5, "was stopped; it goes on\n" * 2)


COORDINATOR = """
from swarmtrain.coordinator import main
def lead(leave):
    os.kill(os.getpid(), signal.SIGSTOP)
    return 5
main._lead = lead
sys.exit(main.main([]))
"""


def test_a_coordinator_has_an_init_in_a_container_too(tmp_path: Path) -> None:
    program = HEAD.format(pause=0.01, short=5.0, stopped=0.05) + COORDINATOR
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lives")], stderr=subprocess.PIPE, text=True
    )
    assert finish(process) == (5, "was stopped; it goes on\n")


def test_a_child_that_is_killed_while_it_is_stopped_is_started_again(tmp_path: Path) -> None:
    work = "if begin() > 1:\n    return 0\nos.kill(os.getpid(), signal.SIGSTOP)"
    process, lives = start(tmp_path, work, again=True, stopped=60.0)
    wait_for(lambda: lives.exists() and lives.read_text().strip() != "")
    child = int(lives.read_text())
    wait_for(lambda: halted(child))
    os.kill(child, signal.SIGKILL)
    assert finish(process) == (0, "ended with 137; starting it again\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_child_for_good(tmp_path: Path, number: signal.Signals) -> None:
    process, lives = start(tmp_path, "begin()\ntime.sleep(60)", again=True)
    wait_for(lambda: lives.exists() and lives.read_text().strip() != "")
    process.send_signal(number)
    assert finish(process)[0] == 128 + number
    assert len(lives.read_text().split()) == 1


def test_a_signal_between_two_lives_is_heard(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "begin()\nreturn 3", again=True, pause=0.5)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 3
    assert len(lives.read_text().split()) == 1


def test_orphans_do_not_outlive_the_child(tmp_path: Path) -> None:
    work = """
begin()
for each in range(2):
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print(orphan.pid, file=lives.open("a"))
return 5
"""
    process, lives = start(tmp_path, work)
    assert finish(process)[0] == 5
    pids = [int(pid) for pid in lives.read_text().split()]
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)


def test_the_child_hears_when_its_init_is_killed(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "begin()\ntime.sleep(60)")
    wait_for(lambda: lives.exists() and lives.read_text().strip() != "")
    child = int(lives.read_text())
    process.kill()
    finish(process)
    wait_for(lambda: not alive(child))


def test_a_child_that_would_be_started_again_outlives_its_init_and_is_found(tmp_path: Path) -> None:
    process, lives = start(tmp_path, "begin()\ntime.sleep(60)", again=True)
    wait_for(lambda: lives.exists() and lives.read_text().strip() != "")
    child = int(lives.read_text())
    wait_for(lambda: LocalProcess.left_by_init(tmp_path) is not None)  # written down once it has started
    process.kill()
    process.wait()
    found = LocalProcess.left_by_init(tmp_path)
    assert found is not None and found.pid == child and found.lives
    assert kill_trees([found], 5.0) == []
    assert LocalProcess.left_by_init(tmp_path) is None
    finish(process)


def test_a_process_of_before_a_reboot_is_not_taken_for_one_with_its_number_and_its_start() -> None:
    now = LocalProcess.of(os.getpid())
    assert now.lives
    assert not replace(now, boot="another").lives


UNENDING = """
init._DYING_SECONDS = 0.1
init.processes.kill_all = lambda pids, number=9: None
def work():
    lives.write_text(str(subprocess.Popen(["sleep", "60"], stderr=subprocess.DEVNULL).pid))
    return 7
sys.exit(init.supervise(work))
"""


def test_what_nothing_ends_is_given_up_and_named(tmp_path: Path) -> None:
    """As a process that is stuck in a driver, or that a script has started as another user."""
    lives = tmp_path / "lives"
    program = HEAD.format(pause=0.01, short=5.0, stopped=0.05) + UNENDING
    process = subprocess.Popen([sys.executable, "-c", program, str(lives)], stderr=subprocess.PIPE, text=True)
    try:
        code, errors = finish(process)
    finally:
        process.kill()
        os.kill(int(lives.read_text()), signal.SIGKILL)
    assert (code, errors) == (7, f"left behind, as nothing ends them: processes [{lives.read_text()}]\n")
