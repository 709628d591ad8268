"""Runs that go wrong: the root cause comes first, everything stops at once, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from healed_local import ONE_NODE, agent_of
from waiting import processes_of, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.launchers.local.processes import LocalProcess, ProcessTable
from swarmtrain.protocol.status import Status
from swarmtrain.wire.machine.processes import descendants

PLANTED = """
import os, signal, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, how = dist.get_rank(), sys.argv[1]
for step in range(600):
    dist.all_reduce(torch.ones(10))
    if step == 3:
        open(f"reached-{rank}", "w").close()
        if rank == 1:
            if how == "raise": raise ValueError("planted in rank 1")
            if how == "exit": sys.exit(3)
            if how == "words": sys.exit("no data in /data/train")
            if how == "segfault": os.kill(os.getpid(), signal.SIGSEGV)
            if how == "hang": time.sleep(600)
    time.sleep(0.05)
"""

RECORDED = """
import os
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    if os.environ["RANK"] == "0":
        raise KeyError("recorded")
    import time
    time.sleep(600)

main()
"""

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "601"])
    os._exit(0)
open("ready", "w").close()
time.sleep(600)
"""

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


pytestmark = pytest.mark.usefixtures("home")


def start(directory: Path, text: str, *args: str, **job: object) -> RunHandle:
    (directory / "train.py").write_text(text)
    settings: dict[str, object] = {"nodes": 2, "restart": "never", "env": {"OMP_NUM_THREADS": "1"}} | job
    return Client(on="local").run(Job(script="train.py", args=args, **settings))  # type: ignore[arg-type]


def reach(handle: RunHandle, state: str, seconds: float = 90) -> Status:
    limit = time.monotonic() + seconds
    while True:
        status = handle.status()
        if status.state == state and all(worker.pid for worker in status.workers):
            return status
        assert status.state in ("starting", state), status.reason
        assert time.monotonic() < limit, f"still {status.state}"
        time.sleep(0.05)


def workers(status: Status) -> list[int]:
    return [worker.pid for worker in status.workers if worker.pid is not None]


@pytest.mark.parametrize(
    ("how", "reason", "start_as"),
    [
        ("raise", "ValueError: planted in rank 1", "warm"),
        ("raise", "ValueError: planted in rank 1", "cold"),
        ("exit", "exited with code 3", "warm"),
        ("words", "no data in /data/train", "warm"),
        ("segfault", "killed by SIGSEGV", "warm"),
    ],
)
def test_a_failing_rank_stops_the_run_with_its_cause_first(
    tmp_path: Path, how: str, reason: str, start_as: str
) -> None:
    nodes = 2 if how == "raise" else 1  # each of which imports torch
    handle = start(tmp_path, PLANTED, how, start=start_as, nodes=nodes, workers_per_node=2 // nodes)
    result = handle.wait(timeout=120)
    assert (result.state, result.reason) == ("failed", f"rank 1 on node{nodes - 1}: {reason}")
    cause = handle.status().cause
    assert cause is not None
    assert cause.rank == 1
    if how == "raise":
        assert cause.traceback.startswith("Traceback (most recent call last):")
        assert "swarmtrain/" not in cause.traceback
        assert 'raise ValueError("planted in rank 1")' in cause.traceback


def test_record_of_torch_is_honoured(tmp_path: Path) -> None:
    handle = start(tmp_path, RECORDED, **ONE_NODE)
    result = handle.wait(timeout=120)
    assert result.reason == "rank 0 on node0: KeyError: 'recorded'"
    assert (cause := handle.status().cause) is not None and "in main" in cause.traceback


def test_a_script_that_cannot_be_imported_shows_its_own_traceback(tmp_path: Path) -> None:
    handle = start(tmp_path, "import not_there_at_all\n", **ONE_NODE)
    result = handle.wait(timeout=120)
    assert "ModuleNotFoundError: No module named 'not_there_at_all'" in result.reason
    assert (cause := handle.status().cause) is not None and "train.py" in cause.traceback


def test_a_killed_worker_ends_the_run_within_seconds(tmp_path: Path) -> None:
    handle = start(tmp_path, PLANTED, "hang", **ONE_NODE)
    pids = workers(reach(handle, "running"))
    began = time.monotonic()
    os.kill(pids[1], signal.SIGKILL)
    assert handle.wait(timeout=60).reason == "rank 1 on node0: killed by SIGKILL"
    assert time.monotonic() - began < 15
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("victim", ["agent", "guard", "spawner"])
def test_no_orphan_is_left_whatever_is_killed(tmp_path: Path, victim: str, home: Path) -> None:
    handle = start(tmp_path, PARENT, nodes=2, start="cold")
    status = reach(handle, "running")
    while len(list(home.glob("data/*/node*/work/ready"))) < 2:
        time.sleep(0.05)
    spawner = _parent(workers(status)[0])
    guard = _parent(spawner)
    assert b"spawner" in _command(guard)
    os.kill({"spawner": spawner, "guard": guard, "agent": _parent(guard)}[victim], signal.SIGKILL)
    result = handle.wait(timeout=60)
    assert result.state == "failed"
    assert "node0" in result.reason


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_stop_ends_everything_and_says_who_stopped_it(tmp_path: Path) -> None:
    handle = start(tmp_path, SLEEPER, start="cold")
    pids = workers(reach(handle, "running"))
    handle.stop()
    result = handle.wait(timeout=30)
    assert (result.state, result.reason) == ("stopped", "stopped by a person")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_stop_waits_for_a_coordinator_that_is_about_to_be_back(tmp_path: Path) -> None:
    """Killed at once, the run would lose what was in memory and on its way."""
    handle = start(tmp_path, SLEEPER, start="cold")
    reach(handle, "running")
    init, coordinator = LocalLauncher().roots(handle.run)[""], agent_of(handle, "")
    os.kill(init, signal.SIGSTOP)  # a machine that is too busy to start it again at once
    os.kill(coordinator, signal.SIGKILL)
    late = threading.Timer(6.0, os.kill, (init, signal.SIGCONT))
    late.start()
    handle.stop()
    assert handle.wait(timeout=30).reason == "stopped by a person"
    late.join()


def test_a_worker_that_ignores_term_is_killed_after_its_grace(tmp_path: Path) -> None:
    text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    handle = start(tmp_path, text, start="cold", stop_grace=1)
    reach(handle, "running")
    time.sleep(0.5)
    began = time.monotonic()
    handle.stop()
    assert handle.wait(timeout=30).state == "stopped"
    assert 0.5 < time.monotonic() - began < 10


def test_kill_ends_even_what_ignores_term_at_once(tmp_path: Path) -> None:
    text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    handle = start(tmp_path, text, start="cold", stop_grace=60)
    pids = workers(reach(handle, "running"))
    began = time.monotonic()
    handle.kill()
    assert time.monotonic() - began < 10
    assert all(_is_over(pid) for pid in pids)


def test_a_killed_coordinator_leaves_a_readable_archive_and_no_silence(tmp_path: Path, home: Path) -> None:
    handle = start(tmp_path, SLEEPER, start="cold")
    reach(handle, "running")
    place = home / "runs" / handle.id / "coordinator"
    init = ProcessTable(place / "processes.json", lambda node: place).read()[""].pid
    for pid in (init, *descendants(init)):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    status = handle.status()
    assert status.state == "failed"
    assert "coordinator was killed" in status.reason
    assert [event.kind for event in handle.events()][:1] == ["submitted"]
    handle.kill()


def test_what_a_run_leaves_stays_readable_until_it_is_removed(tmp_path: Path, home: Path) -> None:
    handle = start(tmp_path, "print('hello'); open('made.txt', 'w').write('content')", start="cold")
    assert handle.wait(timeout=60).state == "succeeded"
    until(lambda: not any("coordinator" in line for line in processes_of(tmp_path)), 15)
    assert [text for batch in handle.logs() for *_, text in batch] == ["hello", "hello"]
    assert handle.status().state == "succeeded"
    assert [event.kind for event in handle.events()][-1] == "ended"
    fetched = handle.fetch("made.txt", to=tmp_path / "fetched.txt")
    assert fetched.path.read_text() == "content"
    handle.remove()
    assert list(home.glob("runs/*")) == []
    assert list(home.glob("data/*")) == []


@pytest.mark.parametrize("start_as", ["warm", pytest.param("cold", marks=pytest.mark.long)])
def test_a_worker_that_holds_its_group_to_the_end_does_what_it_promised(
    tmp_path: Path, home: Path, start_as: str
) -> None:
    text = """
import atexit, sys, threading, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 4))
model(torch.ones(2, 4)).sum().backward()
unclosed = open("unclosed", "w")
unclosed.write("written")
atexit.register(print, "last words")
threading.Thread(target=lambda: (time.sleep(0.3), print("thread done"))).start()
sys.exit(0)
"""
    handle = start(tmp_path, text, start=start_as)
    assert handle.wait(timeout=120).state == "succeeded"
    lines = [text for batch in handle.logs() for *_, text in batch]
    assert sorted(lines) == ["last words", "last words", "thread done", "thread done"]
    assert [path.read_text() for path in home.glob("data/*/*/work/unclosed")] == ["written", "written"]


def test_variables_arrive_unchanged(tmp_path: Path) -> None:
    tricky = {"MONEY": "$HOME $$ ${X}", "BRACES": "{{.Node.Hostname}} {{", "LINES": "one\ntwo\n", "EMPTY": ""}
    text = "import json, os; print(json.dumps({k: os.environ[k] for k in ('MONEY', 'BRACES', 'LINES', 'EMPTY')}))"
    handle = start(tmp_path, text, start="cold", nodes=1, env=tricky)
    assert handle.wait(timeout=60).state == "succeeded"
    (line,) = [text for batch in handle.logs() for *_, text in batch]
    assert json.loads(line) == tricky


def test_a_run_resumes_in_the_directories_of_the_one_before(tmp_path: Path) -> None:
    text = """
from pathlib import Path
path = Path("count")
number = int(path.read_text()) if path.exists() else 0
print(number)
path.write_text(str(number + 1))
"""
    counts = []
    for resume in (False, True, True, False):
        (tmp_path / "train.py").write_text(text)
        job = Job(script="train.py", nodes=1, start="cold")
        handle = Client(on="local").run(job, resume=resume)
        assert handle.wait(timeout=60).state == "succeeded"
        counts += [text for batch in handle.logs() for *_, text in batch]
    assert counts == ["0", "1", "2", "0"]


def test_a_submission_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(SLEEPER)
    started: list[LocalProcess] = []
    start = LocalProcess.start

    def interrupted(*how: Any) -> LocalProcess:
        if len(started) == 2:  # the coordinator and one of three agents are there
            raise KeyboardInterrupt
        started.append(start(*how))
        return started[-1]

    monkeypatch.setattr(LocalProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Client("local").run(Job(script="train.py", nodes=3))
    assert len(started) == 2 and not any(process.lives for process in started)
