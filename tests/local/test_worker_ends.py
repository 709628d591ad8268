"""However a worker, its spawner or the agent ends, nothing is left, and the agent hears how."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker_harness import SCRIPTS, Spawner, Worker, alive, make_bundle, spawner, wait_for

from swarmtrain.agent.worker_group.workers import read_error
from swarmtrain.wire.pulse import Pulse


@pytest.fixture(scope="module", params=["warm", "cold"])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


@pytest.fixture(params=["warm", "cold"])
def doomed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spawner]:
    """A spawner whose end is the test's matter."""
    running = Spawner(request.param, tmp_path)
    try:
        yield running
    finally:
        running.socket.close()
        running.process.kill()
        running.process.wait()


def family_of(agent: Spawner, worker: Worker) -> set[int]:
    line = next(line for line in agent.read_until(worker, "family").splitlines() if "family" in line)
    pids = {int(pid) for pid in line.split()[1:]}
    assert len(pids) >= 8
    assert all(alive(pid) for pid in pids)
    return pids


def living(pids: set[int]) -> list[str]:
    """Those that can still run, described for the failure's message."""
    return [
        f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r} {Path(f'/proc/{pid}/stat').read_text()}"
        for pid in sorted(pids)
        if alive(pid)
    ]


def test_killed_worker_leaves_nothing_and_touches_no_other(agent: Spawner) -> None:
    workers = [agent.start(SCRIPTS / "family.py") for _ in range(2)]
    families = [family_of(agent, worker) for worker in workers]
    os.kill(workers[0].pid, signal.SIGKILL)
    assert agent.wait(workers[0]).status == -signal.SIGKILL
    assert living(families[0]) == []  # at once: that is what `exited` says
    assert len(living(families[1])) == len(families[1])
    agent.signal(workers[1], signal.SIGTERM)
    assert agent.wait(workers[1]).status == -signal.SIGTERM
    assert living(families[1]) == []


def test_worker_that_ends_well_leaves_nothing(agent: Spawner) -> None:
    worker = agent.run(SCRIPTS / "family.py", "exit")
    assert worker.status == 0
    pids = {int(pid) for pid in worker.text.split()[1:]}
    assert pids
    assert living(pids) == []


def kill_the_guard(agent: Spawner) -> None:
    os.kill(agent.process.pid, signal.SIGKILL)


def kill_the_spawner(agent: Spawner) -> None:
    spawner_pid = int(Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text())
    os.kill(spawner_pid, signal.SIGKILL)


def leave(agent: Spawner) -> None:
    agent.socket.close()


def terminate(agent: Spawner) -> None:
    agent.process.terminate()


@pytest.mark.parametrize("end", [kill_the_guard, kill_the_spawner, leave, terminate])
def test_end_of_any_part_of_the_spawner_ends_all_workers(
    doomed: Spawner, end: Callable[[Spawner], None]
) -> None:
    workers = [doomed.start(SCRIPTS / "family.py") for _ in range(2)]
    pids = set.union(*(family_of(doomed, worker) | {worker.pid} for worker in workers))
    assert pids <= doomed.family()
    began = time.monotonic()
    end(doomed)
    wait_for(lambda: not doomed.family(), "the end of every process")
    assert time.monotonic() - began < 20
    doomed.process.wait(20)


def test_spawner_that_is_left_while_it_imports_ends(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(1)\n__version__ = '0'\n")
    running = Spawner.__new__(Spawner)
    with pytest.raises(TimeoutError):
        Spawner.__init__(running, "warm", tmp_path, patience=0.2, PYTHONPATH=str(tmp_path))
    running.socket.close()
    running.process.wait(60)
    assert not running.family()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1])
def test_signal_reaches_the_worker_at_any_moment(agent: Spawner, tmp_path: Path, number: int) -> None:
    script = tmp_path / "program.py"
    torch = "import torch\n" if agent.mode == "warm" else ""  # or it would start anew, cold, as it prints
    script.write_text(f"import time\n{torch}print('ready')\ntime.sleep(600)\n")
    late = agent.start(script)
    agent.read_until(late, "ready")
    agent.signal(late, number)
    assert agent.wait(late).status == -number
    if agent.mode == "cold" and number == signal.SIGINT:
        return  # it may hit the interpreter as it starts, which then exits with 1, as plain Python does
    early = [agent.start(script, wait=False) for _ in range(5)]
    for worker in early:  # they are read right after the spawn requests: the workers have hardly begun
        agent.signal(worker, number)
    for worker in early:
        assert agent.wait(worker).status == -number


def test_worker_handles_its_own_signals(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(12))\n"
        "print('ready')\ntime.sleep(600)\n"
    )
    worker = agent.start(script)
    agent.read_until(worker, "ready")
    agent.signal(worker, signal.SIGTERM)
    assert agent.wait(worker).status == 12


def test_worker_that_is_stopped_saves_with_what_it_has_started(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import signal, subprocess, sys\n"
        "def save(*_):\n"
        "    helper.stdin.write('state\\n')\n"
        "    helper.stdin.flush()\n"
        "    print('saved', helper.stdout.readline(), end='')\n"
        "    sys.exit(12)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "helper = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        "print('ready')\n"
        "while True:\n    signal.pause()\n"
    )
    worker = agent.start(script)
    agent.read_until(worker, "ready")
    agent.stop(worker, 30.0)
    assert agent.wait(worker).status == 12
    assert worker.text == "ready\nsaved state\n"


SAVES_LATE = (
    "import signal, sys, time\n"
    "def save(*_):\n    time.sleep(0.3)\n    print('saved')\n    sys.exit()\n"
    "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\nwhile True:\n    signal.pause()\n"
)


@pytest.mark.parametrize(
    ("shell", "grace", "status"),
    [
        ('"$@" & wait', 30.0, -signal.SIGTERM),  # the shell goes at once
        ("trap 'exit 5' TERM; \"$@\"; exit 6", 3.0, 5),  # the shell waits for its child before it hears
    ],
)
def test_what_a_stopped_worker_has_started_may_save_too(
    agent: Spawner, tmp_path: Path, shell: str, grace: float, status: int
) -> None:
    script = tmp_path / "program.py"
    script.write_text(SAVES_LATE)
    worker = agent.start("sh", "-c", shell, "sh", sys.executable, script, kind="command")
    agent.read_until(worker, "ready")
    agent.stop(worker, grace)
    assert agent.wait(worker).status == status
    assert worker.text == "ready\nsaved\n"


def test_what_does_not_end_is_killed_when_the_grace_is_over(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()\n"
    )
    shell = '"$@" & wait'
    stopped = [agent.start("sh", "-c", shell, "sh", sys.executable, script, kind="command") for _ in range(2)]
    for worker, grace in zip(stopped, (0.5, 300.0), strict=True):
        agent.read_until(worker, "ready")
        agent.stop(worker, grace)
    assert agent.wait(stopped[0]).status == -signal.SIGTERM
    assert stopped[1].exited is None
    agent.signal(stopped[1], signal.SIGKILL)
    assert agent.wait(stopped[1]).status == -signal.SIGTERM


def test_signal_for_a_worker_that_is_not_there_is_ignored(agent: Spawner, tmp_path: Path) -> None:
    agent.send(signal={"key": "g9-r9", "signal": 9})
    script = tmp_path / "program.py"
    script.write_text("print('here')\n")
    assert agent.run(script).text == "here\n"


def test_interrupt_from_a_terminal_is_the_agents_matter(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import time\nprint('ready')\ntime.sleep(600)\n")
    worker = agent.start(script)
    agent.read_until(worker, "ready")
    os.killpg(agent.process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert alive(worker.pid)
    os.kill(worker.pid, signal.SIGSEGV)
    assert agent.wait(worker).status == -signal.SIGSEGV


def test_orphans_are_reaped_while_their_worker_lives(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(0.05)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('forked')\ntime.sleep(600)\n"
    )
    worker = agent.start(script)
    agent.read_until(worker, "forked")
    wait_for(lambda: len(agent.family()) == 3, "guard, spawner and worker alone")
    agent.signal(worker, signal.SIGKILL)
    agent.wait(worker)


def test_bundle_spawns_too(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("print('from a zip')\n")
    with spawner("cold", tmp_path, make_bundle(tmp_path)) as agent:
        assert agent.run(script).text == "from a zip\n"


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("print('done')", 1),
        ("import sys; sys.exit()", 1),
        ("import sys; sys.exit(256)", 1),
        ("import sys; sys.exit(3)", 0),
        ("import sys; sys.exit('no data')", 0),
        ("raise ValueError", 0),
        ("import os; os._exit(0)", 0),
        ("import os\nif os.fork() == 0:\n    raise SystemExit\nos.wait()\nos._exit(0)", 0),
    ],
)
def test_a_worker_says_that_its_script_has_left_its_last_line(
    agent: Spawner, tmp_path: Path, text: str, ended: int
) -> None:
    (tmp_path / "program.py").write_text(text)
    pulse = Pulse.create(tmp_path / "pulse")
    env = {"SWARMTRAIN_PULSE": str(tmp_path / "pulse"), "TORCHELASTIC_ERROR_FILE": str(tmp_path / "error")}
    worker = agent.start(tmp_path / "program.py", env=env)
    agent.wait(worker)
    assert pulse.ended == ended
    said = read_error(tmp_path / "error")
    assert (said and said.summary) == {"no data": "no data", "Value": "ValueError: "}.get(
        next((words for words in ("no data", "Value") if words in text), "")
    )
