"""Scripts that save as if there were one machine, on several: what one rank has written, all of them go on from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from healed import events, story
from healed_local import agent_of, lose, worker_of
from waiting import check_nothing_left, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

SCRIPT = Path(__file__).parent / "scripts" / "saver.py"

pytestmark = pytest.mark.usefixtures("home")


class Scene:
    """A run of the script, and what is to be seen of it on the disk."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory, self.home = directory, home
        self.stop = directory / "stop"

    def start(self, how: str, pause: float = 0.3, *, resume: bool = False, **keys: Any) -> RunHandle:
        (self.directory / "saver.py").write_text(SCRIPT.read_text())
        self.stop.unlink(missing_ok=True)
        wanted: dict[str, Any] = {"nodes": 2, "workers_per_node": 1, "start": "cold", "share": "auto"} | keys
        job = Job(
            name="saver",
            script="saver.py",
            files=("saver.py",),
            args=(how, str(pause), str(self.stop)),
            **wanted,
        )
        self.handle = Client(on="local").run(job, resume=resume)
        return self.handle

    def data(self, node: str) -> Path:
        (found,) = (self.home / "data").glob("*/" + node)
        return found

    def output(self, generation: int, rank: int) -> list[str]:
        found = (self.home / "runs" / self.handle.id).glob(f"*/output/g{generation}-r{rank}.out")
        return [line for path in found for line in path.read_text().splitlines()]

    def begun(self, generation: int, rank: int = 0) -> dict[str, Any]:
        """What a rank has gone on from."""
        lines: list[str] = []

        def has() -> bool:
            lines[:] = [line for line in self.output(generation, rank) if line.startswith("from ")]
            return bool(lines)

        until(has, what=f"generation {generation}")
        begun: dict[str, Any] = json.loads(lines[0].removeprefix("from "))
        return begun

    def reach(self, epoch: int, generation: int = 1, rank: int = 0) -> None:
        until(lambda: f"epoch {epoch}" in self.output(generation, rank), what=f"epoch {epoch}")

    def whole(self, node: str, path: str = "") -> list[str]:
        """The names of the files of the newest version that a node could put in place."""
        try:
            known = json.loads((self.data(node) / "shared" / "record.json").read_text())["sets"][path]
        except (OSError, KeyError, ValueError):
            return []
        return [file[0] for file in known["whole"]["files"]] if known["whole"] is not None else []

    def newest(self, node: str) -> int:
        """The number of the newest version of the working directory that a node knows."""
        try:
            known = json.loads((self.data(node) / "shared" / "record.json").read_text())["sets"][""]
        except (OSError, KeyError, ValueError):
            return 0
        return int(known["newest"]["number"]) if known["newest"] is not None else 0

    def finish(self) -> None:
        self.stop.touch()
        assert self.handle.wait(timeout=60).state == "succeeded", story(self.handle)
        check_nothing_left(self.directory, self.home)


@pytest.fixture
def scene(tmp_path: Path, home: Path) -> Scene:
    return Scene(tmp_path, home)


def test_what_rank_0_alone_has_saved_all_ranks_go_on_from(scene: Scene) -> None:
    handle = scene.start("once")
    scene.reach(4)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    begun = [scene.begun(2, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] and begun[0]["epoch"] >= 3, begun
    told = [str(event["text"]) for event in events(handle, "brought")]
    assert len(told) == 1 and told[0].startswith("brought 1 file (0 kB) from node0 to node1 in "), told
    scene.finish()


@pytest.mark.long  # as tests/swarm/test_sharing.py, on machines
def test_when_the_node_of_rank_0_is_lost_with_its_disk_another_goes_on_from_its_newest_copy(
    scene: Scene,
) -> None:
    handle = scene.start("once", nodes="1..2")
    until(lambda: handle.status().workers, what="its workers")
    writer = handle.status().workers[0].node
    until(lambda: scene.whole("node1" if writer == "node0" else "node0"), what="a copy")
    reached = max(int(line.split()[1]) for line in scene.output(1, 0) if line.startswith("epoch"))
    scene.reach(reached + 20)  # six seconds: a copy is a few seconds old, on a machine with more to do, too
    lose(scene.home, handle, writer)
    assert scene.begun(2)["epoch"] >= reached + 1, scene.begun(2)
    scene.finish()


@pytest.mark.parametrize(
    ("how", "first"),
    [
        pytest.param("rotate", "checkpoint-1", marks=pytest.mark.long),
        ("pointer", "step-1"),
        pytest.param("link", "step-1", marks=pytest.mark.long),
    ],
)
def test_a_copy_outlives_what_a_script_deletes_for_a_checkpoint_of_which_there_is_no_copy_yet(
    scene: Scene, how: str, first: str
) -> None:
    handle = scene.start(how, pause=3.0, nodes="1..2", share_rate=0.01)
    until(lambda: handle.status().workers, what="its workers")
    writer = handle.status().workers[0].node
    other = "node1" if writer == "node0" else "node0"
    until(lambda: len(scene.whole(other, first)) == 3, seconds=90, what="a copy of the first")
    until(lambda: how == "rotate" or "latest" in scene.whole(other), seconds=90, what="a copy of its name")
    (scene.directory / "go").touch()
    scene.reach(4)
    lose(scene.home, handle, writer)
    assert scene.begun(2)["epoch"] >= 1
    scene.finish()


def test_an_agent_that_comes_back_brings_what_only_it_has(scene: Scene) -> None:
    handle = scene.start("once", replicas=0)
    scene.reach(4)
    os.kill(agent_of(handle, "node0"), signal.SIGKILL)
    begun = [scene.begun(2, rank) for rank in (0, 1)]
    assert begun[0] == begun[1], begun
    scene.finish()


def test_of_what_all_ranks_write_to_one_path_the_lowest_ranks_holds_and_nothing_is_lost(scene: Scene) -> None:
    handle = scene.start("all")
    scene.reach(4)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    begun = [scene.begun(2, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] and begun[0]["rank"] == 0, begun
    (kept,) = scene.data("node1").glob("aside/*/snapshot.pt")
    assert kept.stat().st_size > 0
    told = [str(event["text"]) for event in events(handle, "shared")]
    assert (
        len([text for text in told if text.startswith("snapshot.pt has other contents on node1: ")]) == 1
    ), told
    assert any(text.startswith("node1: set aside in aside/") for text in told), told
    scene.finish()
    scene.handle.remove()
    assert not list(scene.home.glob(f"*/{handle.id}*")), "what was shared goes with the run"


def test_what_is_named_per_node_stays_where_it_is(scene: Scene) -> None:
    handle = scene.start("all", per_node=("*.pt",))
    scene.reach(4)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    assert [scene.begun(2, rank)["rank"] for rank in (0, 1)] == [0, 1]
    assert not events(handle, "brought") and not events(handle, "shared")
    scene.finish()


@pytest.mark.parametrize("rests", [pytest.param(0.0, marks=pytest.mark.long), 4.0])
def test_half_a_checkpoint_is_never_in_place(scene: Scene, rests: float) -> None:
    """Nor where its writer computes for longer than what is finished is quiet."""
    handle = scene.start("half")
    until(lambda: len(scene.whole("node1", "checkpoint-2")) == 2, what="a copy of the second")
    (scene.directory / "go").touch()
    until(
        lambda: (scene.data("node0") / "work" / "checkpoint-3" / "model.pt").exists(),
        what="half of the third",
    )
    time.sleep(rests)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    begun = [scene.begun(2, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] == {"epoch": 2, "rank": 0}, begun
    (aside,) = scene.data("node0").glob("aside/*/checkpoint-3/model.pt")
    told = [str(event["text"]) for event in events(handle, "shared")]
    assert any(text.startswith("checkpoint-3 was being written on node0 when its writers ") for text in told)
    assert not (scene.data("node1") / "work" / "checkpoint-3").exists(), aside
    scene.finish()


def test_a_script_whose_steps_nobody_counts_is_not_given_up_while_its_checkpoints_go_on(scene: Scene) -> None:
    handle, before = scene.start("once"), -1
    for generation in range(1, 4):
        epoch = scene.begun(generation)["epoch"]
        assert epoch > before
        before = epoch
        version = scene.newest("node1")
        until(lambda version=version: scene.newest("node1") > version, what="a version")  # type: ignore[misc]
        os.kill(worker_of(handle, 1), signal.SIGKILL)
    assert scene.begun(4)["epoch"] > before
    scene.finish()


@pytest.mark.long
def test_a_part_of_a_checkpoint_is_none_when_the_other_has_gone_with_its_node(scene: Scene) -> None:
    handle = scene.start("parts", pause=4.0, nodes="1..2")
    until(lambda: handle.status().workers, what="its workers")
    first, second = (worker.node for worker in handle.status().workers)
    until(lambda: len(scene.whole(second, "checkpoint-1")) == 2, what="a copy of the first")
    scene.reach(2, rank=1)
    lose(scene.home, handle, first)
    assert scene.begun(2) == {"epoch": 1, "rank": None}
    (aside,) = scene.data(second).glob("aside/*/checkpoint-2/part-1.pt")
    assert aside.stat().st_size > 0
    scene.finish()


def test_a_run_goes_on_with_the_files_of_the_one_before_it_wherever_they_were_written(scene: Scene) -> None:
    scene.start("once")
    scene.reach(4)
    scene.finish()
    scene.start("once", resume=True)
    begun = [scene.begun(1, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] and begun[0]["epoch"] >= 4, begun
    scene.finish()


@pytest.mark.parametrize("how", ["once", "folders"])
def test_it_goes_on_from_the_very_last_where_other_nodes_take_part_than_before(
    scene: Scene, how: str
) -> None:
    scene.start(how, nodes=("a", "b"))
    scene.reach(2)
    scene.finish()
    reached = max(int(line.split()[1]) for line in scene.output(1, 0) if line.startswith("epoch"))
    scene.start(how, nodes=("b", "c"), resume=True)
    begun = [scene.begun(1, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] and begun[0]["epoch"] == reached, begun
    scene.finish()


def test_what_is_written_after_later_runs_were_removed_is_newer_than_what_they_wrote(scene: Scene) -> None:
    """Their numbers are used again, and node c knows nothing of them."""
    scene.start("once", nodes=("a", "b"))
    scene.reach(2)
    scene.finish()
    removed = []
    for _ in range(2):
        removed.append(scene.start("once", nodes=("a", "b"), resume=True))
        scene.begun(1)
        scene.finish()
    for handle in reversed(removed):
        handle.remove()
    handle = scene.start("once", nodes=("c", "b"), resume=True)
    before = scene.begun(1)["epoch"]
    version = scene.newest("c")
    until(lambda: scene.newest("c") > version + 1, what="new versions")
    scene.reach(before + 8)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    begun = [scene.begun(2, rank) for rank in (0, 1)]
    assert begun[0] == begun[1] and begun[0]["epoch"] >= before + 1, (before, begun)
    scene.finish()


def test_after_the_end_what_a_lost_node_has_written_is_fetched_from_the_copy_of_another(scene: Scene) -> None:
    handle = scene.start("once")
    until(lambda: scene.whole("node1"), what="a copy")
    scene.finish()
    (newest,) = handle.files.listing("snapshot.pt").versions[:1]
    assert newest.nodes == ("node0",)
    shutil.rmtree(scene.data("node0"))
    fetched = handle.fetch("snapshot.pt", scene.directory / "here.pt")
    assert fetched.node == "node1" and list(fetched.silent) == ["node0"]
    state = json.loads(zipfile.ZipFile(fetched.path).read("state"))
    assert state["rank"] == 0 and state["epoch"] >= 1
