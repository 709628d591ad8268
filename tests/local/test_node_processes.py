"""Every helper process of a node, killed one by one: what is lost with it, and who puts another in its place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.wire.machine.processes import began, descendants

SLEEPER = """
import os, time
while not os.path.exists(os.environ["FINISH"]):
    time.sleep(0.05)
"""

pytestmark = pytest.mark.usefixtures("home")


def start(directory: Path) -> RunHandle:
    (directory / "train.py").write_text(SLEEPER)
    env = {"FINISH": str(directory / "finish")}
    return Client(on="local").run(Job(script="train.py", nodes=2, start="cold", env=env))


def trains(handle: RunHandle, generation: int) -> None:
    """Wait until a generation runs."""

    def holds() -> bool:
        status = handle.status()
        states = [worker.state for worker in status.workers]
        return status.generation == generation and states == ["running"] * 2

    until(holds, 60, f"generation {generation}")


def processes(handle: RunHandle, node: str) -> dict[str, int]:
    """The helper processes of a node by what they are, from the worker upwards."""
    worker = next(worker.pid for worker in handle.status().workers if worker.node == node)
    found = {}
    for name in ("spawner", "guard", "agent", "init"):
        worker = found[name] = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"spawner" in Path(f"/proc/{found['guard']}/cmdline").read_bytes()
    assert b"agent" in Path(f"/proc/{found['init']}/cmdline").read_bytes()
    return found


def test_whatever_helper_of_a_node_is_killed_the_run_goes_on(tmp_path: Path) -> None:
    handle = start(tmp_path)
    trains(handle, 1)
    for generation, (node, victim) in enumerate(
        [("node0", "spawner"), ("node1", "guard"), ("node0", "agent")], start=2
    ):
        os.kill(processes(handle, node)[victim], signal.SIGKILL)
        trains(handle, generation)
    (tmp_path / "finish").touch()
    result = handle.wait(timeout=60)
    assert (result.state, handle.status().generation) == ("succeeded", 4)
    texts = [event.text for event in handle.events() if event.kind in ("failure", "spawner")]
    assert any(
        "the process that starts the workers was killed by SIGKILL; it is started again" in t for t in texts
    )
    assert any(
        "rank 0 on node0: killed by SIGKILL with the process that starts the workers" in t for t in texts
    )


def test_an_agent_and_a_coordinator_that_were_stopped_are_in_nobodys_way_for_long(tmp_path: Path) -> None:
    handle = start(tmp_path)
    trains(handle, 1)
    roots = handle.launcher.roots(handle.run)  # type: ignore[attr-defined]
    for node in ("node1", ""):
        os.kill(descendants(roots[node])[0], signal.SIGSTOP)
    (tmp_path / "finish").touch()
    assert (handle.wait(timeout=60).state, handle.status().restarts) == ("succeeded", 0)


def test_an_init_that_is_killed_takes_nothing_healthy_along(tmp_path: Path) -> None:
    handle = start(tmp_path)
    trains(handle, 1)
    inits = handle.launcher.roots(handle.run)  # type: ignore[attr-defined]
    agent, coordinator = (descendants(inits[node])[0] for node in ("node0", ""))
    for node in ("node0", ""):
        os.kill(inits[node], signal.SIGKILL)
    until(lambda: not began(inits["node0"]) and not began(inits[""]), 5)
    roots = handle.launcher.roots(handle.run)  # type: ignore[attr-defined]
    assert (roots["node0"], roots[""]) == (agent, coordinator)
    assert [run.live for run in handle.launcher.runs()] == [True]
    trains(handle, 1)
    (tmp_path / "finish").touch()
    result = handle.wait(timeout=60)
    assert (result.state, handle.status().restarts) == ("succeeded", 0)


def test_what_outlived_its_init_is_ended_with_the_run(tmp_path: Path) -> None:
    handle = start(tmp_path)
    trains(handle, 1)
    inits = handle.launcher.roots(handle.run)  # type: ignore[attr-defined]
    for init in inits.values():
        os.kill(init, signal.SIGKILL)
    until(lambda: not any(began(init) for init in inits.values()), 5)
    handle.kill()  # the fixture looks for what is left
    assert handle.launcher.roots(handle.run) == {}  # type: ignore[attr-defined]
