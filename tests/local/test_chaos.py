"""Faults on purpose in real runs on this machine: they hit what they should, they end, and they hit nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.chaos.execution import Chaos, Report
from swarmtrain.control.chaos.faults import Fault, FaultPlan, random_plan
from swarmtrain.control.chaos.sites import place_of
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.payload import bundle
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import NoteRequest
from swarmtrain.wire.machine.processes import descendants

# Steps are written into a file of each rank, so that a test sees whether it goes on.
STEPS = """
import time
for step in range(1200):
    open("step", "w").write(str(step))
    time.sleep(0.05)
"""
TRAINING = """
import time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
for step in range(1200):
    dist.all_reduce(torch.ones(4))
    open("step", "w").write(str(step))
    time.sleep(0.05)
"""

Start = Callable[..., RunHandle]


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Start:
    """Starts runs of two nodes, and waits until their workers run."""

    def started(name: str = "chaos", text: str = STEPS, **settings: Any) -> RunHandle:
        (tmp_path / "train.py").write_text(text)
        defaults: dict[str, Any] = {
            "nodes": 2,
            "restart": "never",
            "env": {"OMP_NUM_THREADS": "1"},
            "stop_grace": 1,
        }
        handle = Client(on="local").run(
            Job(name=name, script="train.py", workers_per_node=1, **defaults | settings)
        )
        until(lambda: "started" in [event.kind for event in handle.events()])
        until(lambda: all(step(handle, node) > 2 for node in ("node0", "node1")))
        return handle

    return started


def step(handle: RunHandle, node: str) -> int:
    """How far the training on a node is; -1 before its first step."""
    work = getattr(handle.status().directories.get(node), "work", "")
    try:
        return int(Path(work, "step").read_text() or 0)
    except (OSError, ValueError):
        return -1


def inflict(handle: RunHandle, *faults: Fault, **plan: Any) -> Report:
    return Chaos(handle, place_of(handle), FaultPlan(faults, **plan)).run()


def lives(pid: int) -> bool:
    return state(pid) not in ("", "Z")


def state(pid: int) -> str:
    """``T`` for a process that is stopped, ``Z`` for a zombie; empty for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def pids(handle: RunHandle) -> dict[int, int]:
    return {worker.rank: worker.pid or 0 for worker in handle.status().workers}


def chaos_events(handle: RunHandle) -> list[str]:
    return [event.text for event in handle.events() if event.kind == "chaos"]


def test_a_killed_worker_is_the_cause_that_the_run_names_and_another_run_goes_on(start: Start) -> None:
    other, handle = start("other"), start(text=TRAINING)
    untouched = pids(other)
    assert inflict(handle, Fault("kill-worker", "1")).ok
    result = handle.wait(timeout=60)
    assert (result.state, result.reason) == ("failed", "rank 1 on node1: killed by SIGKILL")
    kinds = [event.kind for event in handle.events()]
    assert kinds.index("chaos") < kinds.index("failure")
    assert chaos_events(handle) == ["chaos: rank 1 gets SIGKILL"]
    assert pids(other) == untouched
    before = step(other, "node0")
    until(lambda: step(other, "node0") > before)
    assert chaos_events(other) == []


def test_a_stopped_worker_goes_on_and_so_does_the_training(start: Start) -> None:
    handle = start(text=TRAINING)
    pid = pids(handle)[1]
    seen = []
    worker = threading.Timer(1.0, lambda: seen.append(state(pid)))
    worker.start()
    report = inflict(handle, Fault("stop-worker", "1", seconds=2.0))
    assert report.ok
    assert [each.text for each in report.happenings] == ["rank 1 gets SIGSTOP for 2s", "rank 1 goes on"]
    assert seen == ["T"]
    before = step(handle, "node1")
    until(lambda: step(handle, "node1") > before)
    assert handle.status().state == "running"


def test_a_worker_goes_on_also_when_the_command_is_killed(start: Start) -> None:
    handle = start()
    pid = pids(handle)[0]
    process = subprocess.Popen(command("chaos", "chaos", "stop-worker", "--rank", "0", "--for", "60s"))
    until(lambda: state(pid) == "T")
    process.kill()
    process.wait()
    until(lambda: state(pid) != "T", seconds=10)


@pytest.mark.long
def test_a_frozen_node_is_frozen_to_the_last_process_and_goes_on(start: Start) -> None:
    handle = start(text=TRAINING)
    init = LocalLauncher().roots(handle.run)["node1"]
    tree = [init, *descendants(init)]
    seen: list[str] = []
    threading.Timer(1.0, lambda: seen.extend(state(pid) for pid in tree)).start()
    assert inflict(handle, Fault("freeze", "node1", seconds=2.0)).ok
    assert set(seen) == {"T"}
    assert len(tree) > 3
    before = step(handle, "node1")
    until(lambda: step(handle, "node1") > before)


def test_a_container_is_killed_with_all_that_is_in_it(start: Start) -> None:
    handle = start()
    init = LocalLauncher().roots(handle.run)["node1"]
    tree = descendants(init)
    assert inflict(handle, Fault("kill-container", "node1")).ok
    assert not any(map(lives, tree))


def test_power_goes_and_comes_back_as_it_was(start: Start) -> None:
    handle = start()
    before = LocalLauncher().roots(handle.run)["node1"]
    environment = Path(f"/proc/{before}/environ").read_bytes()
    undo = place_of(handle).inflict(Fault("power-off", "node1"), "node1", handle.status())
    assert undo is not None
    assert "node1" not in LocalLauncher().roots(handle.run)
    if handle.is_live():
        undo()
        after = LocalLauncher().roots(handle.run)["node1"]
        assert after != before
        until(lambda: Path(f"/proc/{after}/environ").read_bytes() == environment, seconds=10)
        place_of(handle).inflict(Fault("power-on", "node1"), "node1", handle.status())
        assert LocalLauncher().roots(handle.run)["node1"] == after
    handle.kill()


def test_exactly_the_newest_snapshot_of_one_node_is_damaged(start: Start) -> None:
    handle = start()
    files = {}
    for node, places in handle.status().directories.items():
        directory = Path(places.snapshots)
        directory.mkdir(exist_ok=True)
        for age, name in enumerate(("g0001-s000000009.pt", "g0001-s000000006.pt", "g0001-s000000009.json")):
            path = directory / name
            path.write_bytes(bytes(range(256)) * 40)
            os.utime(path, (1000 - age, 1000 - age))
            files[node, name] = path
    before = {key: path.read_bytes() for key, path in files.items()}
    assert inflict(handle, Fault("corrupt-snapshot", "node1")).ok
    damaged = [key for key, path in files.items() if path.read_bytes() != before[key]]
    assert damaged == [("node1", "g0001-s000000009.pt")]
    path = files[damaged[0]]
    changed = [
        i for i, (a, b) in enumerate(zip(path.read_bytes(), before[damaged[0]], strict=True)) if a != b
    ]
    assert len(changed) == 64
    assert changed[0] == (256 * 40 - 64) // 2
    assert path.stat().st_mtime == 1000


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 8 MiB where the snapshots of a node lie, in a mount namespace of its own."""

    namespace: int  # the process that holds it
    node: Path  # as it is called in there

    @property
    def snapshots(self) -> Path:
        """As it is called out here."""
        return Path(f"/proc/{self.namespace}/root{self.node}/snapshots")

    @property
    def way_in(self) -> Sequence[str]:
        """The start of a command line that runs there, in the node's working directory."""
        enter = ("nsenter", "--preserve-credentials", "--user", "--mount", "--target", str(self.namespace))
        return (*enter, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(self.node / "work"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, which anybody can have who may have a user namespace."""
    node = tmp_path / "node"
    (node / "snapshots").mkdir(parents=True)
    (node / "work").mkdir()
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1" && echo mounted && exec cat'
    line = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
        str(node / "snapshots"),
    ]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        said = holder.stdout.readline()
        assert said == "mounted\n", "this test needs user namespaces: sysctl user.max_user_namespaces"
        yield SmallDisk(holder.pid, node)
        holder.stdin.close()


def sabotage(place: Path, *words: str, way_in: Sequence[str] = ()) -> subprocess.Popen[str]:
    """As the agent starts it, with the node's working directory."""
    argv = [*way_in, sys.executable, "-I", str(bundle.on_disk()), "sabotage", *words]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, cwd=place.parent / "work", text=True, **pipes)


@pytest.mark.parametrize("end", ["time", "input", "kill"])
def test_a_disk_is_full_but_for_what_is_left_until_its_ballast_goes(small_disk: SmallDisk, end: str) -> None:
    place = small_disk.snapshots
    free = shutil.disk_usage(place).free
    seconds = "1" if end == "time" else "60"
    helper = sabotage(place, "fill", str(1 << 20), str(1 << 30), seconds, way_in=small_disk.way_in)
    assert helper.stdout is not None
    assert helper.stdin is not None
    assert "bytes of ballast" in helper.stdout.readline()
    assert shutil.disk_usage(place).free == 1 << 20
    with pytest.raises(OSError, match="No space left"):
        (place / "snapshot.pt").write_bytes(bytes(2 << 20))
    (place / "snapshot.pt").unlink()
    assert list(place.iterdir()) == []
    if end == "kill":
        os.kill(helper.pid, signal.SIGKILL)
    elif end == "input":
        helper.stdin.close()
    until(lambda: shutil.disk_usage(place).free == free, seconds=10)
    helper.wait(10)
    for stream in (helper.stdin, helper.stdout, helper.stderr):
        stream.close()  # type: ignore[union-attr]


def test_more_ballast_than_the_limit_is_refused(start: Start) -> None:
    handle = start()
    report = inflict(handle, Fault("fill-disk", "node0", seconds=1.0, limit=1 << 20))
    assert not report.ok
    assert "of ballast, more than 1048576" in report.failed[0].text


@pytest.mark.parametrize("victim", ["parent", "stranger"])
def test_a_helper_signals_nothing_but_what_is_below_its_agent(tmp_path: Path, victim: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "snapshots").mkdir()
    pid = os.getpid() if victim == "parent" else 1
    helper = sabotage(tmp_path / "snapshots", "kill", str(pid))
    _, complaint = helper.communicate(timeout=30)
    assert helper.returncode == 1
    assert f"process {pid} is none of this node's workers" in complaint


def test_notes_are_of_one_kind_and_only_while_the_run_is_live(start: Start) -> None:
    handle = start()

    def note(kind: str) -> None:
        with handle.launcher.connect(handle.run) as link:
            (reply,) = ask(link, NoteRequest(kind, "x" * 2000))
            assert reply.event is not None and reply.event["text"] == "x" * 1000

    note("chaos")
    with pytest.raises(RequestError, match="no event of kind 'ended'"):
        note("ended")
    handle.stop()
    with pytest.raises(ClusterError, match="has ended"):
        note("chaos")


def test_the_command_prints_each_fault_and_says_whether_all_could_be_done(
    start: Start, tmp_path: Path
) -> None:
    start()
    plan = tmp_path / "chaos.yaml"
    plan.write_text(
        "faults:\n  - {at: 1s, do: stop-worker, rank: 0, for: 0.5s}\n  - {do: corrupt-snapshot, node: node0}\n"
    )
    done = swarmtrain("chaos", "chaos", "--plan", str(plan), "--json")
    assert done.returncode == 3
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["what"], each["kind"]) for each in told] == [
        ("failed", "corrupt-snapshot"),
        ("fault", "stop-worker"),
        ("undone", "stop-worker"),
    ]
    refused = swarmtrain("chaos", "chaos", "unplug", "--node", "node0")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "swarmtrain lab up" in refused.stderr
    shown = swarmtrain("chaos", "chaos", "--random", "--seed", "7", "--for", "1m", "--dry-run")
    assert shown.returncode == 0
    plan.write_text(shown.stdout)
    again = swarmtrain("chaos", "chaos", "--plan", str(plan), "--dry-run")
    assert again.stdout == shown.stdout


@pytest.mark.long
def test_a_random_plan_of_what_passes_leaves_the_training_going(start: Start) -> None:
    handle = start(text=TRAINING)
    plan = random_plan(seed=7, every=0.5, length=3, kinds=["stop-worker", "freeze"])
    short = tuple(dataclasses.replace(fault, seconds=0.4) for fault in plan.faults)
    report = inflict(handle, *short, seed=plan.seed)
    assert report.ok, report.failed
    assert len([each for each in report.happenings if each.what == "undone"]) == 6
    before = step(handle, "node0")
    until(lambda: step(handle, "node0") > before)
    assert handle.status().state == "running"


def test_ctrl_c_undoes_what_lasts(start: Start) -> None:
    handle = start()
    pid = pids(handle)[1]
    argv = command("chaos", "chaos", "freeze", "--node", "node1", "--for", "60s")
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    until(lambda: state(pid) == "T")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "everything that could be undone has been" in said
    assert state(pid) != "T"


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from swarmtrain.ui.cli import main; main()", *words]


def swarmtrain(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=60, check=False)
