"""Stacks of living workers, asked for as an agent does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import Spawner, Worker, spawner, wait_for

from swarmtrain.agent.worker_group.flight import flights
from swarmtrain.agent.worker_group.stacks import children, stacks
from swarmtrain.protocol.evidence.seen import FlightReport
from swarmtrain.wire.machine.processes import state


@pytest.fixture(scope="module", params=["warm", "cold"])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


def begin(agent: Spawner, directory: Path, program: str) -> tuple[Worker, Path]:
    """A worker that has said that it is where it shall be."""
    script, file = directory / "program.py", directory / "stack"
    script.write_text(program)
    worker = agent.start(script, env={"SWARMTRAIN_STACK": str(file)}, cwd=str(directory))
    agent.read_until(worker, "there\n")
    time.sleep(0.05)
    return worker, file


def ask(worker: Worker, file: Path, patience: float = 5.0) -> str:
    return asyncio.run(stacks({3: worker.pid}, {3: file}, patience))[3]


def end(agent: Spawner, worker: Worker) -> None:
    agent.signal(worker, signal.SIGKILL)
    agent.wait(worker)


SLEEPS = """
import time
def wait_long():
    print("there")
    time.sleep(1000)
wait_long()
"""
BUSY = """
def turn():
    print("there")
    while True:
        pass
turn()
"""
IN_C = """
def hold():
    print("there")
    sum(range(10**15))  # one C call, which keeps the interpreter's lock
hold()
"""


@pytest.mark.parametrize(
    ("program", "frame"), [(SLEEPS, "in wait_long"), (BUSY, "in turn"), (IN_C, "in hold")]
)
def test_worker_tells_where_it_is(agent: Spawner, tmp_path: Path, program: str, frame: str) -> None:
    worker, file = begin(agent, tmp_path, program)
    first, second = ask(worker, file), ask(worker, file)
    for dump in (first, second):
        assert dump.count("(most recent call first)") == 1
        assert 'program.py", line ' in dump and frame in dump
    assert worker.exited is None
    end(agent, worker)


def test_stopped_worker_cannot_answer_and_is_not_waited_for(agent: Spawner, tmp_path: Path) -> None:
    worker, file = begin(agent, tmp_path, SLEEPS)
    os.kill(worker.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert ask(worker, file) == ""
    assert time.monotonic() - began < 1
    os.kill(worker.pid, signal.SIGCONT)
    assert "in wait_long" in ask(worker, file)
    end(agent, worker)


CHILDREN = """
import multiprocessing, subprocess, threading, time, faulthandler, sys
def in_child():
    time.sleep(1000)
child = multiprocessing.get_context("fork").Process(target=in_child, daemon=True)
child.start()
faulthandler.enable()
faulthandler.register(10, open("own", "w"))
program = subprocess.Popen(["sleep", "1000"])
threading.Thread(target=in_child, daemon=True).start()
print(child.pid, program.pid, "there")
def in_main():
    time.sleep(1000)
in_main()
"""


def test_children_are_unharmed_and_threads_are_told(agent: Spawner, tmp_path: Path) -> None:
    worker, file = begin(agent, tmp_path, CHILDREN)
    child, program = map(int, worker.text.split()[:2])
    dump = ask(worker, file)
    assert dump.count("(most recent call first)") == 2
    assert dump.rindex("in in_main") > dump.rindex("in in_child")
    assert "in in_child" in asyncio.run(stacks({0: child}, {0: file}))[0]
    assert asyncio.run(stacks({0: program}, {0: file})) == {0: ""}
    os.kill(worker.pid, signal.SIGUSR1)
    wait_for(lambda: "in in_main" in (tmp_path / "own").read_text(), "the dump that the script asked for")
    for pid in (child, program):
        os.kill(pid, 0)
    end(agent, worker)


ALONE = """
import os, time
import torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + os.path.abspath("store"), rank=0, world_size=1)
def reduces():
    dist.all_reduce(torch.ones(2, 3))
for _ in range(60):
    reduces()
def hold():
    print("there")
    BODY
hold()
"""


def flight(worker: Worker, file: Path) -> FlightReport:
    return asyncio.run(flights({0: worker.pid}, {0: file}, 1.0))[0]


@pytest.mark.parametrize(
    ("first", "place"),
    [("", ""), ("import torch._inductor\n", "program.py:7 in reduces")],
    ids=["plain", "lines"],
)
def test_a_worker_tells_the_last_collectives_as_often_as_it_is_asked(
    agent: Spawner, tmp_path: Path, first: str, place: str
) -> None:
    """With their lines only where torch has what it needs for them: it would import 800 modules into the script."""
    worker, file = begin(agent, tmp_path, first + ALONE.replace("BODY", "time.sleep(1000)"))
    for _ in range(2):
        told = flight(worker, file)
        assert (told.reason, told.groups) == ("", {"0": [0]})
        assert [record.seq for record in told.records] == list(range(11, 61))
        newest = told.records[-1]
        assert (newest.op, newest.sizes, newest.dtypes) == ("all_reduce", [[2, 3]], ["Float"])
        assert newest.place == place
    end(agent, worker)


def test_one_that_keeps_the_interpreters_lock_says_so_by_its_silence(agent: Spawner, tmp_path: Path) -> None:
    worker, file = begin(agent, tmp_path, ALONE.replace("BODY", "sum(range(10**15))"))
    assert flight(worker, file).reason == "it does not answer: something in it keeps Python's lock"
    assert "in hold" in ask(worker, file)
    end(agent, worker)


def test_a_script_without_a_process_group_has_no_thread_and_no_records(
    agent: Spawner, tmp_path: Path
) -> None:
    worker, file = begin(agent, tmp_path, "import torch, torch.distributed\n" + SLEEPS)
    assert flight(worker, file).reason == "it has made no process group"
    assert ask(worker, file).count("(most recent call first)") == 1
    os.kill(worker.pid, signal.SIGSTOP)
    wait_for(lambda: state(worker.pid) == "T", "it is stopped")
    assert flight(worker, file).reason == "its process does not run, or not Python"
    end(agent, worker)


def test_what_a_worker_has_forked_is_asked_one_after_the_other(agent: Spawner, tmp_path: Path) -> None:
    worker, file = begin(agent, tmp_path, CHILDREN)
    child = int(worker.text.split()[0])
    told, unseen = asyncio.run(children(worker.pid, file))
    assert told.keys() == {child} and "in in_child" in told[child] and "in in_main" not in told[child]
    assert unseen == 1  # sleep(1)
    end(agent, worker)


def test_whoever_cannot_answer_gets_no_signal(agent: Spawner, tmp_path: Path) -> None:
    command = agent.start("sleep", "1000", kind="command")
    gone = agent.run("true", kind="command")
    asked = {0: command.pid, 1: gone.pid, 2: 2**22}
    assert asyncio.run(stacks(asked, dict.fromkeys(asked, tmp_path / "none"))) == {0: "", 1: "", 2: ""}
    assert asyncio.run(stacks({0: command.pid}, {})) == {0: ""}
    assert command.exited is None
    end(agent, command)
