"""The next run of a job goes on with what the one before has left on the nodes that are there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from run_fakes import Theatre
from sharing_nodes import Node, begin, hasten, until

Act = Callable[[Sequence[Node]], Awaitable[None]]


@pytest.fixture
def run_on(tmp_path: Path, make_stage: Callable[[Path], Theatre], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Have one run after the other begin on nodes with these names, and do something with them."""
    hasten(monkeypatch)
    return Run(tmp_path, make_stage)


class Run:
    """Runs of one job. Each ends as one whose coordinator is killed: nothing is copied for it any more."""

    def __init__(self, directory: Path, make_stage: Callable[[Path], Theatre]) -> None:
        self._directory, self._make_stage = directory, make_stage
        self._count = 0

    def __call__(self, names: str, act: Act, *, nodes: int = 2, replicas: int = 1) -> None:
        self._count += 1
        stage = self._make_stage(self._directory / f"run {self._count}")

        async def scene() -> None:
            run = stage.make(nodes=nodes, share="auto", replicas=replicas)
            there = await begin(stage, run, self._directory / "nodes", names)
            try:
                await act(there)
            finally:
                for node in there:
                    node.files.close()

        asyncio.run(asyncio.wait_for(scene(), 40))


def put(node: Node, path: str, content: str) -> None:
    (node.work / path).parent.mkdir(exist_ok=True)
    (node.work / path).write_text(content)


def test_what_was_written_last_is_newer_than_what_was_noted_of_it_before(run_on: Run) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        writer, other = nodes
        put(writer, "snapshot.pt", "noted")
        await until(lambda: other.kept().get("") == ["snapshot.pt"])
        writer.idle = True  # it is looked at no more
        put(writer, "snapshot.pt", "written last")
        await writer.end(well=True)

    async def look(nodes: Sequence[Node]) -> None:
        assert [(node.work / "snapshot.pt").read_text() for node in nodes] == ["written last"] * 2

    run_on("ab", write)
    run_on("ab", look)


@pytest.mark.parametrize("noted", [False, True])
def test_a_first_file_that_was_torn_by_a_kill_is_set_aside_and_keeps_no_other_from_holding(
    run_on: Run, noted: bool
) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        writer, _ = nodes
        put(writer, "state.json", '{"step": 1}')
        await until(lambda: not noted or all(node.kept().get("") == ["state.json"] for node in nodes))
        writer.idle = True
        (writer.work / "snapshot.pt").write_bytes(b"PK\x03\x04 the beginning")
        await writer.end(well=False)

    async def look(nodes: Sequence[Node]) -> None:
        for node in nodes:
            assert [each.name for each in node.work.iterdir() if each.is_file()] == ["state.json"]
        (kept,) = (nodes[0].work.parent / "aside").glob("*/snapshot.pt")
        assert kept.read_bytes() == b"PK\x03\x04 the beginning"

    run_on("ab", write)
    run_on("ab", look)


@pytest.mark.parametrize("name", ["snapshot.pt", "checkpoint-1/model.pt"])
def test_a_torn_file_is_set_aside_also_where_it_is_all_that_was_ever_written(run_on: Run, name: str) -> None:
    """Else one rank would find a checkpoint, half of one, and the others none."""

    async def write(nodes: Sequence[Node]) -> None:
        writer, _ = nodes
        writer.idle = True
        put(writer, name, "PK\x03\x04 the beginning")
        await writer.end(well=False)

    async def look(nodes: Sequence[Node]) -> None:
        for node in nodes:
            assert not [each for each in node.work.rglob("*") if each.is_file()]
        (kept,) = (nodes[0].work.parent / "aside").glob(f"*/{name}")
        assert kept.read_bytes() == b"PK\x03\x04 the beginning"

    run_on("ab", write)
    run_on("ab", look)


def test_a_directory_is_not_taken_up_of_which_a_part_may_be_on_a_node_that_is_not_there(run_on: Run) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        for rank, node in enumerate(nodes):
            put(node, f"step-1/of-{rank}", f"1 of {rank}")
        await until(lambda: all(len(node.kept().get("step-1", [])) == 2 for node in nodes))
        for rank, node in enumerate(nodes):
            node.idle = True
            put(node, f"step-2/of-{rank}", f"2 of {rank}")
        for node in nodes:
            await node.end(well=True)

    async def look(nodes: Sequence[Node]) -> None:
        for node in nodes:
            assert sorted(each.name for each in (node.work / "step-1").iterdir()) == ["of-0", "of-1"]
            assert not (node.work / "step-2").exists()

    run_on("ab", write)
    run_on("ac", look)


def test_a_directory_is_not_taken_up_of_which_a_part_may_be_on_a_node_that_others_did_not_have_before(
    run_on: Run,
) -> None:
    async def begin_small(nodes: Sequence[Node]) -> None:
        for rank, node in enumerate(nodes):
            put(node, f"step-1/of-{rank}", f"1 of {rank}")
        await until(lambda: all(len(node.kept().get("step-1", [])) == 2 for node in nodes))

    async def grow(nodes: Sequence[Node]) -> None:
        for rank, node in enumerate(nodes):
            node.idle = True
            put(node, f"step-2/of-{rank}", f"2 of {rank}")
        for node in nodes:
            await node.end(well=True)

    async def look(nodes: Sequence[Node]) -> None:
        for node in nodes:
            assert (node.work / "step-1").exists() and not (node.work / "step-2").exists()

    run_on("ab", begin_small)
    run_on("abc", grow, nodes=3)
    run_on("abd", look, nodes=3)


def test_a_node_without_a_part_keeps_copies_of_what_the_others_begin_with(run_on: Run) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        writer, other = nodes
        put(writer, "step-1/model", "1")
        await until(lambda: other.kept().get("step-1") == ["model"])

    async def look(nodes: Sequence[Node]) -> None:
        spare = nodes[2]
        assert not spare.run.current.takes_part(spare.name)
        await until(lambda: spare.kept().get("step-1") == ["model"])

    run_on("ab", write)
    run_on("abc", look, replicas=2)


def test_what_a_node_wrote_that_has_no_part_any_more_is_found_there_when_what_is_newer_is_lost(
    run_on: Run,
) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        writer, other = nodes
        put(writer, "snapshot.pt", "1")
        await until(lambda: other.kept().get("") == ["snapshot.pt"])
        writer.idle = True
        put(writer, "snapshot.pt", "2")
        await writer.end(well=True)

    async def lose(nodes: Sequence[Node]) -> None:
        first, second, spare = nodes
        assert spare.name == "a" and (first.work / "snapshot.pt").read_text() == "2"
        await until(lambda: spare.kept().get("") == ["snapshot.pt"])
        put(first, "snapshot.pt", "3")
        await until(lambda: {node.newest("") for node in nodes} == {3})
        for node in (first, second):
            node.lose()
        await until(lambda: spare.run.sharing.is_ready([spare.name]))
        assert (spare.work / "snapshot.pt").read_text() == "2"

    run_on("ab", write)
    run_on("bca", lose, replicas=0)


def test_the_newest_is_the_same_everywhere_by_whatever_time_a_script_goes(run_on: Run) -> None:
    async def write(nodes: Sequence[Node]) -> None:
        for number in range(8, 12):
            put(nodes[0], f"step-{number}/model", f"{number}")
            put(nodes[0], f"model-{number}.pt", f"{number}")
            await asyncio.sleep(0.02)
        for number in range(8, 12):
            put(nodes[1], f"step-{number}/random_1", f"{number}")
        for node in nodes:
            await node.end(well=True)

    async def look(nodes: Sequence[Node]) -> None:
        steps = [f"step-{number}" for number in range(8, 12)]
        files = [f"model-{number}.pt" for number in range(8, 12)]
        for node in nodes:
            for time_of in (os.path.getctime, os.path.getmtime):
                for pattern, expected in (("step-*", steps), ("*.pt", files)):
                    times = {time_of(each): each.name for each in node.work.glob(pattern)}
                    assert [times[when] for when in sorted(times)] == expected

    run_on("ab", write)
    run_on("ab", look)
    run_on("bc", look)
    run_on("acd", look, nodes=3)
