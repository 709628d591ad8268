"""Process trees: the pure parts, and marks on real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from swarmtrain.agent.worker_group import usage
from swarmtrain.wire.machine.processes import began, descendants, kill_all, state
from swarmtrain.worker import processes
from swarmtrain.worker.processes import Process


@pytest.mark.parametrize("name", ["python", "a b", "(odd) name)", "1 (x) R 2 3"])
def test_stat_is_read_whatever_the_programs_name(name: str) -> None:
    assert processes.parse_stat(f"17 ({name}) S 4 17 12 0 -1 4194560 1") == Process(17, 4, 17, 12, "S")


def tree(*edges: tuple[int, int]) -> dict[int, Process]:
    return {pid: Process(pid, parent, pid, pid, "S") for pid, parent in edges}


def test_descendants_are_found_at_any_depth_and_in_any_order() -> None:
    table = tree((9, 5), (5, 2), (2, 1), (3, 1), (7, 3))
    assert processes.descendants(table, [2]) == {5, 9}
    assert processes.descendants(table, [1]) == {2, 3, 5, 7, 9}
    assert processes.descendants(table, [9]) == set()
    assert processes.descendants(table, [3, 5]) == {7, 9}


def test_zombies_are_not_alive() -> None:
    table = {1: Process(1, 0, 1, 1, "S"), 2: Process(2, 1, 2, 2, "Z"), 3: Process(3, 1, 3, 3, "X")}
    assert processes.alive(table, [1, 2, 3, 4]) == {1}


def test_table_holds_this_process() -> None:
    own = processes.table()[os.getpid()]
    assert (own.parent, own.group, own.session) == (os.getppid(), os.getpgrp(), os.getsid(0))


MARKED = """
import os, sys
from swarmtrain.worker import processes
files = set(os.listdir("/proc/self/fd"))
processes.mark("g1-r0")
assert set(os.listdir("/proc/self/fd")) == files
print(processes.mark_of(os.getpid()), flush=True)
if os.fork() == 0:
    print(processes.mark_of(os.getpid()), flush=True)
    os.execve(sys.executable, [sys.executable, "-c", sys.argv[1]], {**os.environ, "SWARMTRAIN_WORKER": "g1-r0"})
os.wait()
"""
EXECUTED = "import os; from swarmtrain.worker import processes; print(processes.mark_of(os.getpid()))"


def test_mark_survives_forks_and_executions() -> None:
    found = subprocess.run(
        [sys.executable, "-c", MARKED, EXECUTED], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["g1-r0"] * 3


def test_unmarked_and_missing_processes_have_no_mark() -> None:
    assert processes.mark_of(os.getpid()) is None
    assert processes.mark_of(2**22 + 1) is None


NAMED = r"""
import ctypes
ctypes.CDLL(None).prctl(15, b"\xff) S\xfe", 0, 0, 0)  # PR_SET_NAME
print(flush=True)
input()
"""


def test_a_process_of_any_name_on_this_machine_is_in_nobodys_way() -> None:
    """As any user of the machine may start one."""
    command = [sys.executable, "-c", NAMED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert process.pid in descendants(os.getpid())
        assert began(process.pid) and state(process.pid) in "RS"
        assert usage.tree(os.getpid())[process.pid].threads
        process.kill()


def test_signals_to_nobody_are_no_error() -> None:
    kill_all([2**22 + 1], 15)
    processes.send_group(2**22 + 1, 15)
