"""What a run leaves when it is over: nothing that burns, nothing that grows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from waiting import burnt, processes_of, until

from swarmtrain import Client, Job
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.launchers.local.processes import LocalProcess, ProcessTable

REST = 3.0  # seconds
TICKS = 3  # hundredths of a second that a process may take in them; one that spins takes a hundred


def test_a_run_is_over_for_all_but_a_client_that_was_stopped_and_that_costs_nothing(
    home: Path, tmp_path: Path
) -> None:
    until_told = ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', str(tmp_path / "told")]
    handle = Client("local").run(Job(command=until_told, name="rest", nodes=2))
    watching = [str(Path(sys.executable).with_name("swarmtrain")), "attach", "--on", "local", "rest"]
    with subprocess.Popen(watching, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
        assert client.stderr is not None and client.stderr.readline()
        time.sleep(1.0)  # by now it has asked for what comes
        client.send_signal(signal.SIGSTOP)
        (tmp_path / "told").touch()
        try:
            assert handle.wait(timeout=60).state == "succeeded"
            until(lambda: all(" coordinator" in each for each in left(tmp_path, client.pid)), 30)
            pids = [int(each.split()[0]) for each in left(tmp_path, client.pid)]
            assert pids, "the coordinator waits for its client"
            time.sleep(1.0)
            before, sizes = {pid: burnt(pid) for pid in pids}, files(home)
            time.sleep(REST)
            after = {pid: burnt(pid) - before[pid] for pid in pids}
            assert max(after.values()) <= TICKS, after
            assert files(home) == sizes
        finally:
            client.kill()
    until(lambda: not processes_of(tmp_path), 15, "the coordinator goes with its client")
    assert handle.status().state == "succeeded"
    assert not Client("local").get("rest").run.live and Client("local").get("rest").run.rests


def left(directory: Path, client: int) -> list[str]:
    return [each for each in processes_of(directory) if int(each.split()[0]) != client]


def files(home: Path) -> dict[str, int]:
    """Every file of the runs, and its size."""
    return {str(path): path.stat().st_size for path in home.rglob("*") if path.is_file()}


def test_a_run_that_is_over_answers_however_long_its_coordinator_takes_to_leave(
    home: Path, tmp_path: Path
) -> None:
    """Nothing listens any more, and on a busy machine the process is there for seconds."""
    handle = Client("local").run(Job(command=["true"], name="late"))
    assert handle.wait(timeout=60).state == "succeeded"
    until(lambda: not LocalLauncher().roots(handle.run), 30)
    leaving = LocalProcess.start(["sleep", "3"], os.environ, tmp_path)
    ProcessTable(home / "runs" / handle.id / "coordinator" / "processes.json", lambda node: tmp_path).note(
        "", leaving
    )
    assert handle.status().state == "succeeded"
    assert not leaving.lives
