"""Half of a checkpoint that has been quiet for long: what was written before tells that more is to come."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import examples
from hand_clock import TurnedClock
from hypothesis import given, settings
from hypothesis import strategies as st
from run_fakes import Theatre
from sharing_nodes import Node, begin, hasten, no_quiet, until

from swarmtrain.agent.sharing import elders, leftovers, tracker, unrest
from swarmtrain.agent.sharing.holdings import Holdings
from swarmtrain.agent.sharing.walk import Rules
from swarmtrain.coordinator.core.sharing.catalog import commit, plan, settle
from swarmtrain.coordinator.core.sharing.decisions import NodeFiles
from swarmtrain.files.siblings import are_siblings, lacks, one_of_each
from swarmtrain.protocol.shared_files import HeldVersion, SetReport, SetVersion, SharedFile

# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("checkpoint-1", "checkpoint-20", True),
        ("out/global_step20", "out/global_step30", True),
        ("epoch=1-step=20", "epoch=2-step=40", True),
        ("checkpoint-20/global_step20", "checkpoint-30/global_step30", True),
        ("step-20/rank-1", "step-30/rank-1", True),
        ("step-20/rank-1", "step-30/rank-0", False),
        ("checkpoint-1", "checkpoint-1", False),
        ("checkpoint-1", "best-2", False),
        ("a/checkpoint-1", "b/checkpoint-2", False),
        ("checkpoint-1", "checkpoint-2/model", False),
        ("last", "best", False),
        ("", "", False),
    ],
)
def test_siblings_differ_in_the_numbers_of_one_name(one: str, other: str, expected: bool) -> None:
    assert are_siblings(one, other) is are_siblings(other, one) is expected


MODEL = ("model.pt", "optimizer.pt")


@pytest.mark.parametrize(
    ("names", "had", "expected", "of_each"),
    [
        pytest.param(["model.pt"], MODEL, True, True, id="half"),
        pytest.param([*MODEL, "more"], MODEL, False, False, id="more than before"),
        pytest.param(["state-20.pt"], ["state-10.pt"], False, False, id="the number of a step"),
        pytest.param(["rng_0"], ["rng_0", "rng_1"], True, False, id="a part of one rank of two"),
        pytest.param(["part-1-of-1"], ["part-1-of-2", "part-2-of-2"], True, False, id="fewer parts"),
        pytest.param(["part-1-of-1"], ["part-1-of-2", "part-2-of-2", "model"], True, True, id="no model"),
    ],
)
def test_numbers_in_names_are_alike_and_how_many_there_are_counts(
    names: list[str], had: Iterable[str], expected: bool, of_each: bool
) -> None:
    files = [SharedFile(name, 1, "x", 0.0) for name in had]
    assert (lacks(names, files), lacks(names, one_of_each(files))) == (expected, of_each)


# ---- one node --------------------------------------------------------------------------------------------------------


class Watched:
    """A node with its coordinator's decisions, whose sets are quiet at once; what a script writes, the tests write."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.work = directory, directory / "work"
        self.work.mkdir(parents=True)
        self._count, self.clock = 0, TurnedClock()
        self.open()
        self.held.record.begin(1, {"a": 0})

    def open(self) -> None:
        """An agent begins, perhaps after another one."""
        self.held = Holdings(self.work, self.directory / "shared", Rules(), self.clock)

    def write(self, *paths: str) -> None:
        for path in paths:
            self._count += 1
            (self.work / path).parent.mkdir(parents=True, exist_ok=True)
            (self.work / path).write_text(f"{self._count} of {path}")
            self._wait_for_a_tick((self.work / path).stat().st_mtime_ns)

    def _wait_for_a_tick(self, written: int) -> None:
        """The clock of some file systems ticks slowly: what is written next is to have been written later."""
        probe = self.directory / "probe"
        while probe.write_text("x") and probe.stat().st_mtime_ns <= written:
            time.sleep(0.001)

    def look(self) -> list[str]:
        """Look until nothing is new; of which sets versions were made."""
        for _ in range(2):
            self.held.look(list)
        made = []
        for path in self.held.sets.paths():
            (told,) = self.held.tracker.report([path], list)
            decided = commit(path, {"a": NodeFiles(0, self.held.record.fence, {path: told})})
            if decided is not None:
                made.append(path)
                self.held.note([decided.version])
        self.held.keep([])
        return made

    def end(self, *, well: bool) -> None:
        self.held.tracker.settle(ended_well=well)
        self.held.keep([])

    def place(self) -> dict[str, list[str]]:
        """What the next generation finds."""
        tracker = self.held.tracker
        sets = {each.path: each for each in tracker.rest()}
        nodes = {"a": NodeFiles(0, self.held.record.fence, sets, tracker.is_writing)}
        for version in plan(nodes, nodes).to_bring.get("a", []):
            self.held.place(version, f"after {self.held.record.fence}")
        return self.found()

    def found(self) -> dict[str, list[str]]:
        found = {}
        for where, _, names in os.walk(self.work):
            if names:
                found[os.path.relpath(where, self.work)] = sorted(names)
        return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One that has two whole checkpoints, and half of the third."""
    no_quiet(monkeypatch)
    node = Watched(tmp_path)
    for number in (1, 2):
        node.write(*(f"checkpoint-{number}/{name}" for name in MODEL))
        assert node.look() == [f"checkpoint-{number}"]
    node.write("checkpoint-3/model.pt")
    return node


WHOLE = {f"checkpoint-{number}": list(MODEL) for number in (1, 2)}


def test_half_of_a_checkpoint_is_no_version_and_its_other_half_makes_it_one(node: Watched) -> None:
    assert node.look() == []
    node.write("checkpoint-3/optimizer.pt")
    assert node.look() == ["checkpoint-3"]


@pytest.mark.parametrize("is_new_agent", [False, True])
@pytest.mark.parametrize("wait", [60.0, -1.0])
def test_after_a_kill_the_one_before_holds_however_long_that_was_ago(
    node: Watched, monkeypatch: pytest.MonkeyPatch, wait: float, is_new_agent: bool
) -> None:
    node.look()
    node.end(well=False)
    monkeypatch.setattr(elders, "WAIT", wait)
    if is_new_agent:
        node.open()
    assert node.place() == WHOLE
    assert (node.directory / "aside/after 1/checkpoint-3/model.pt").exists()


def test_what_has_fewer_files_now_is_taken_when_it_has_been_quiet_for_long(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elders, "WAIT", -1.0)
    assert node.look() == ["checkpoint-3"]
    monkeypatch.setattr(elders, "WAIT", 60.0)
    node.write("checkpoint-4/model.pt")
    assert node.look() == ["checkpoint-4"], "the newest before it has no more"


def test_what_has_fewer_files_now_is_taken_when_its_writer_has_begun_the_next(node: Watched) -> None:
    node.write("checkpoint-4/model.pt")
    assert node.look() == ["checkpoint-3", "checkpoint-4"]
    node.end(well=False)
    assert node.place() == {**WHOLE, "checkpoint-3": ["model.pt"], "checkpoint-4": ["model.pt"]}


def test_what_has_fewer_files_is_taken_when_its_writer_ends_well_also_by_a_later_run(node: Watched) -> None:
    node.end(well=True)
    node.open()
    assert node.place() == {**WHOLE, "checkpoint-3": ["model.pt"]}
    node.held.record.begin(2, {"a": 0})
    assert not node.held.record.ended_well


@pytest.mark.parametrize(("ranks", "expected"), [({"a": 0}, []), ({"a": 0, "b": 1}, ["step-2"])])
def test_as_many_parts_are_waited_for_where_the_same_nodes_write_them(
    node: Watched, ranks: dict[str, int], expected: list[str]
) -> None:
    node.write("step-1/part-1-of-2", "step-1/part-2-of-2")
    node.look()
    node.end(well=False)
    node.held.record.begin(2, ranks)
    node.write("step-2/part-1-of-1")
    assert [path for path in node.look() if path.startswith("step")] == expected


def test_what_was_deleted_while_the_next_one_may_be_half_is_there_for_as_long(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.look()
    shutil.rmtree(node.work / "checkpoint-2")
    assert node.look() == []
    monkeypatch.setattr(elders, "WAIT", -1.0)
    assert node.look() == ["checkpoint-2", "checkpoint-3"]


def test_where_the_one_before_is_gone_what_is_there_is_taken(node: Watched) -> None:
    node.look()
    for number in (1, 2):
        shutil.rmtree(node.work / f"checkpoint-{number}")
    node.end(well=False)
    assert node.place() == {"checkpoint-3": ["model.pt"]}


def test_a_directory_that_another_rank_writes_meanwhile_tells_nothing(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elders, "QUIET", 2.0)
    node.write("rank-0/model.pt", "rank-0/state.pt", "rank-1/state.pt")
    assert {"rank-0", "rank-1"} <= set(node.look())


def test_what_names_a_checkpoint_waits_for_it_for_as_long(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "GRACE", 0.0)
    (node.work / "latest").write_text("checkpoint-3")
    assert node.look() == [], "it would be taken at once else"
    monkeypatch.setattr(elders, "WAIT", -1.0)
    assert node.look() == ["", "checkpoint-3"]


def test_a_log_beside_each_checkpoint_is_not_waited_for(node: Watched) -> None:
    """It is brought when a generation starts, and so it is in the version before."""
    node.held.record.streams += ["epoch-1/train.log", "epoch-2/train.log"]
    node.write("epoch-1/model.pt", "epoch-1/train.log")
    node.look()
    node.end(well=False)
    assert node.place()["epoch-1"] == ["model.pt", "train.log"]
    node.held.record.begin(2, {"a": 0})
    node.write("epoch-2/train.log", "epoch-2/model.pt")
    assert "epoch-2" in node.look()


def test_what_is_written_in_each_until_the_next_one_makes_half_of_that_no_whole_one(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (elders, unrest):
        monkeypatch.setattr(module, "QUIET", 2.0)
    saved = {0: "model.pt", 1: "optimizer.pt", 12: "model.pt", 20: "optimizer.pt"}
    made = dict[str, int]()
    for second in range(26):
        epoch = f"epoch-{1 if second < 12 else 2}"
        for name in ("state", *([saved[second]] if second in saved else [])):
            node.write(f"{epoch}/{name}")
            os.utime(node.work / epoch / name, (node.clock.unix(),) * 2)
        for path in node.look():
            made.setdefault(path, second)
        node.clock.passed += 1.0
    assert 0 < made["epoch-1"] < 12 and made["epoch-2"] > 20


def test_what_a_directory_got_long_after_its_first_file_is_not_waited_for(node: Watched) -> None:
    node.write("epoch-1/weights-of-the-model.pt", "epoch-1/score")
    began = time.time() - elders.TOGETHER - 60
    os.utime(node.work / "epoch-1/weights-of-the-model.pt", (began, began))
    node.look()
    node.write("epoch-2/weights-of-the-model.pt")
    assert "epoch-2" in node.look()


def test_what_is_copied_into_each_with_its_old_times_hides_nothing(node: Watched) -> None:
    for epoch in (1, 2):
        node.write(f"epoch-{epoch}/vocabulary", f"epoch-{epoch}/model.pt")
        os.utime(node.work / f"epoch-{epoch}/vocabulary", (1e9, 1e9))
        if epoch == 1:
            node.write("epoch-1/optimizer.pt")
            assert "epoch-1" in node.look()
    assert "epoch-2" not in node.look()
    node.write("epoch-2/optimizer.pt")
    assert "epoch-2" in node.look()


def test_of_an_experiment_after_another_what_is_written_again_is_taken(node: Watched) -> None:
    """As of a cross-validation: the first has all that it ever wrote, and is no checkpoint of the second."""
    node.write("fold-1/model.pt", "fold-1/history.json")
    node.look()
    node.write("fold-2/model.pt")
    assert "fold-2" not in node.look()
    node.write("fold-2/model.pt")
    assert "fold-2" in node.look()


def test_a_directory_to_which_files_are_added_all_the_time_is_not_waited_for_long(node: Watched) -> None:
    for epoch in range(5):
        node.write(f"run-1/epoch={epoch}.ckpt")
    node.look()
    taken = list[bool]()
    for epoch in range(4):
        node.write(f"run-2/epoch={epoch}.ckpt")
        taken.append("run-2" in node.look())
        node.clock.passed += 40.0
    assert taken == [False, False, True, True]


def test_every_start_may_have_a_directory_in_which_checkpoints_are_kept(node: Watched) -> None:
    """As Lightning's has."""
    for epoch in range(3):
        node.write(f"version_0/checkpoints/epoch={epoch}.ckpt")
    node.write("version_0/checkpoints/last.ckpt")
    node.look()
    node.write("version_1/checkpoints/epoch=3.ckpt")
    assert "version_1/checkpoints" not in node.look()
    node.write("version_1/checkpoints/last.ckpt")
    assert "version_1/checkpoints" in node.look()


def test_a_clock_that_jumps_back_holds_nothing_for_as_long(node: Watched) -> None:
    node.clock.astray = -3600.0
    assert node.look() == []
    node.clock.passed = 62.0
    assert node.look() == ["checkpoint-3"]


def test_the_same_save_of_another_rank_is_not_the_next_one(node: Watched) -> None:
    node.write(*(f"step-1/rank-{rank}/{name}" for rank in (0, 1) for name in MODEL))
    node.look()
    node.write("step-2/rank-0/model.pt", "step-2/rank-1/model.pt")
    assert node.look() == []


# ---- written over in its place ---------------------------------------------------------------------------------------


def over(node: Watched, *names: str) -> list[str]:
    node.write(*(f"last/{name}" for name in names))
    return node.look()


def test_what_is_written_over_is_a_version_when_all_that_was_written_together_is_anew(node: Watched) -> None:
    assert over(node, "config.json", *MODEL) == ["last"]
    assert over(node, "model.pt") == []
    assert over(node, "optimizer.pt") == ["last"]


def test_of_what_is_half_written_over_the_version_before_holds_where_somebody_has_it(node: Watched) -> None:
    over(node, *MODEL)
    before = {name: (node.work / "last" / name).read_text() for name in MODEL}
    version = node.held.record.sets["last"].newest
    assert version is not None
    for file in version.files:
        node.held.store.copy(node.work / "last" / file.name, file)
    over(node, "model.pt")
    node.end(well=False)
    node.place()
    assert {name: (node.work / "last" / name).read_text() for name in MODEL} == before


def test_what_is_half_written_over_is_taken_where_nobody_has_the_version_before(node: Watched) -> None:
    over(node, *MODEL)
    over(node, "model.pt")
    node.end(well=False)
    assert node.place()["last"] == list(MODEL)


def test_of_two_files_one_that_is_written_over_and_over_is_taken_alone(node: Watched) -> None:
    """As the last weights are, beside the best of all."""
    over(node, "last.pt", "best.pt")
    assert [over(node, "last.pt") for _ in range(3)] == [[], ["last"], ["last"]]


def test_a_file_that_is_written_all_the_time_makes_half_of_a_checkpoint_no_whole_one(node: Watched) -> None:
    over(node, *MODEL, "state")
    assert over(node, "model.pt", "state") == []
    assert [over(node, "state") for _ in range(4)] == [[]] * 4
    assert over(node, "optimizer.pt") == ["last"]
    for _ in range(4):
        node.write("checkpoint-3/state")
        assert node.look() == []
    node.write("checkpoint-3/optimizer.pt")
    assert node.look() == ["checkpoint-3"]


def test_the_last_is_taken_when_all_of_it_was_written_again_though_not_at_once(node: Watched) -> None:
    over(node, "last.pt", "state", "best.pt")
    assert [over(node, *names) for names in (["last.pt", "state"], ["last.pt"])] == [[], []]
    assert over(node, "state") == ["last"]


def test_the_last_is_not_held_for_long_when_the_best_is_not_written(node: Watched) -> None:
    over(node, "last.pt", "best.pt")
    assert over(node, "last.pt") == []
    node.clock.passed = elders.SOON + 1
    assert node.look() == ["last"]


def test_the_last_is_not_held_for_what_is_kept_of_every_epoch(node: Watched) -> None:
    """As Lightning has them, in one directory."""
    node.write("checkpoint-3/optimizer.pt")
    node.look()
    for epoch in range(1, 4):
        assert over(node, f"epoch={epoch}.ckpt") == ["last"]
        assert over(node, "last.ckpt") == ["last"]
        (node.work / f"last/epoch={epoch}.ckpt").unlink()


def test_parts_that_are_written_over_belong_together(node: Watched) -> None:
    over(node, "part-1-of-2", "part-2-of-2")
    assert over(node, "part-1-of-2") == []
    assert over(node, "part-2-of-2") == ["last"]


def test_what_is_written_again_as_it_was_is_written(node: Watched) -> None:
    over(node, *MODEL, "config.json")
    config = (node.work / "last/config.json").read_text()
    node.write(*(f"last/{name}" for name in MODEL))
    (node.work / "last/config.json").write_text(config)
    assert node.look() == ["last"]


def test_what_a_clock_that_was_ahead_has_stamped_is_not_waited_for(node: Watched) -> None:
    node.write("last/config.json")
    ahead = time.time() + 3600
    os.utime(node.work / "last/config.json", (ahead, ahead))
    assert over(node, *MODEL) == ["last"]
    assert over(node, *MODEL) == ["last"]


def test_what_was_seen_before_a_kill_tells_nothing_after_it(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half was written over again, and before that became a version, the version before was put in place."""
    over(node, *MODEL)
    newest = node.held.record.sets["last"].newest
    assert newest is not None
    for file in newest.files:
        node.held.store.copy(node.work / "last" / file.name, file)
    over(node, "model.pt")
    node.write("last/model.pt")
    for _ in range(3):
        node.held.look(list)
    node.write(*(f"last/{name}" for name in MODEL))
    monkeypatch.setattr(leftovers, "QUIET", 2.0)
    node.end(well=False)
    node.place()
    node.held.record.begin(2, {"a": 0})
    assert over(node, "model.pt") == []


def test_of_the_working_directory_itself_every_file_is_taken_alone(node: Watched) -> None:
    node.write("model.pt", "plot.png")
    assert node.look() == [""]
    node.write("model.pt")
    assert node.look() == [""]


# ---- several nodes ---------------------------------------------------------------------------------------------------


def version(path: str, *names: str, number: int = 1) -> SetVersion:
    return SetVersion(
        path, 1, number, [SharedFile(name, 1, f"{path} {name}", 0.0, fence=1) for name in names]
    )


def writes(path: str, *names: str, elder: SetVersion | None) -> SetReport:
    files = [SharedFile(name, 1, f"{path} {name}", 0.0) for name in names]
    return SetReport(path, [], files, [], [], False, elder=elder)


PARTS = version("step-1", "part-0", "part-1")


def test_parts_of_several_nodes_are_a_version_when_there_are_as_many_as_before() -> None:
    first = NodeFiles(0, 1, {"step-2": writes("step-2", "part-0", elder=PARTS)})
    second = NodeFiles(1, 1, {"step-2": writes("step-2", "part-1", elder=PARTS)})
    assert commit("step-2", {"a": first, "b": NodeFiles(1, 1, {})}) is None
    found = commit("step-2", {"a": first, "b": second})
    assert found is not None and len(found.version.files) == 2
    left = settle("step-2", {"a": first})
    assert left is not None and (left.unfinished, left.version.files) == (("a",), [])


@pytest.mark.parametrize("is_there", [True, False])
def test_half_gives_way_only_to_a_sibling_that_is_there(is_there: bool) -> None:
    known = SetReport("step-1", [HeldVersion(PARTS, ["store" if is_there else ""] * 2)], [], [], [], False)
    half = writes("step-2", "part-0", elder=PARTS)
    nodes = {"a": NodeFiles(0, 1, {"step-1": known, "step-2": half})}
    found = plan(nodes, nodes).decisions
    assert len(found["step-1"].version.files) == (2 if is_there else 0)
    assert len(found["step-2"].version.files) == (0 if is_there else 1)


def test_what_is_half_written_over_does_not_give_way_to_a_sibling() -> None:
    """Where its version before has gone, what is there is taken, though another experiment's lies beside it."""
    before = version("run-2", *MODEL)
    before = replace(before, files=[file._replace(rank=0) for file in before.files])
    other = HeldVersion(version("run-1", *MODEL), ["work", "work"])
    half = writes("run-2", "model.pt", elder=version("run-2"))
    half.changed[0] = half.changed[0]._replace(sha256="new")
    half = replace(half, known=[HeldVersion(before, ["", "work"])])
    sets = {"run-1": SetReport("run-1", [other], [], [], [], False), "run-2": half}
    nodes = {"a": NodeFiles(0, 1, sets)}
    found = plan(nodes, nodes).decisions["run-2"].version.files
    assert [file.name for file in found] == list(MODEL)


def test_a_part_that_a_rank_writes_long_after_the_others_is_waited_for(
    stage: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)

    async def play(act: Callable[[Node, Node], Awaitable[None]]) -> None:
        first, second = await begin(stage, stage.make(share="auto", replicas=1), tmp_path, "ab")
        try:
            await act(first, second)
        finally:
            for node in (first, second):
                node.files.close()

    def save(node: Node, number: int, rank: int) -> None:
        (node.work / f"step-{number}").mkdir(exist_ok=True)
        (node.work / f"step-{number}" / f"optim_{rank}").write_text(f"{number} of {rank}")

    async def act(first: Node, second: Node) -> None:
        parts = ["optim_0", "optim_1"]
        for rank, node in enumerate((first, second)):
            save(node, 1, rank)
        await until(lambda: all(sorted(each.kept().get("step-1", [])) == parts for each in (first, second)))
        await asyncio.sleep(0.4)
        save(first, 2, 0)
        await asyncio.sleep(0.8)
        assert first.newest("step-2") == second.newest("step-2") == 0
        save(second, 2, 1)
        await until(lambda: all(sorted(each.kept().get("step-2", [])) == parts for each in (first, second)))
        await asyncio.sleep(0.4)
        save(first, 3, 0)
        await asyncio.sleep(0.8)
        for node in (first, second):
            await node.end(well=False)
        await until(lambda: first.run.sharing.is_ready(["a", "b"]))
        for node in (first, second):
            found = {each.name: sorted(file.name for file in each.iterdir()) for each in node.work.iterdir()}
            assert found == {"step-1": parts, "step-2": parts}

    asyncio.run(asyncio.wait_for(play(act), 40))


# ---- any script ------------------------------------------------------------------------------------------------------

STEPS = st.lists(st.sampled_from(["write", "write", "write", "look", "kill"]), min_size=1, max_size=20)


@settings(max_examples=examples(40))
@given(STEPS, st.permutations(["model.bin", "optimizer.bin", "state-{}.bin"]), st.integers(1, 3))
def test_whenever_a_script_is_killed_it_finds_whole_checkpoints_and_the_newest_version(
    steps: list[str], names: list[str], keep: int
) -> None:
    """It writes them file by file, with a pause after any of them, and removes all but the last ones."""
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as directory:
        no_quiet(patched)
        node = Watched(Path(directory) / "node")
        number, left, newest = 1, list[str](), 1
        node.write(*(f"checkpoint-1/{name.format(1)}" for name in names))
        node.look()
        for step in [*steps, "kill"]:
            if step == "look":
                made = [int(path.partition("-")[2]) for path in node.look() if (node.work / path).exists()]
                newest = max([newest, *made])
            elif step == "write":
                if not left:
                    number, left = number + 1, list(names)
                node.write(f"checkpoint-{number}/{left.pop(0).format(number)}")
                if not left:
                    for old in range(1, number - keep + 1):
                        shutil.rmtree(node.work / f"checkpoint-{old}", ignore_errors=True)
            else:
                node.end(well=False)
                found = {int(path.partition("-")[2]): files for path, files in node.place().items()}
                assert all(len(files) == len(names) for files in found.values()), found
                assert max(found) >= newest, f"{found} are older than {newest}"
                number, left, newest = max(found), [], max(found)
                node.held.record.begin(node.held.record.fence + 1, {"a": 0})
