"""The examples of docs/concepts.md print what the page shows, under swarmtrain and under stock torchrun."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from worker_harness import Spawner, environment, free_port, spawner

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "concepts"
BIN = Path(sys.executable).parent

_BLOCK = re.compile(r"```console\n\$ (?P<command>swarmtrain run .*)\n(?P<output>(?:\[.*\n)+)```")


class Shown(NamedTuple):
    """One example as the page shows it."""

    command: list[str]
    script: Path
    nodes: int
    workers: int  # on each node
    lines: list[str]  # each with its rank in front, in no certain order


def shown() -> list[Shown]:
    """Every example of the page."""
    found = []
    for block in _BLOCK.finditer((ROOT / "docs" / "concepts.md").read_text()):
        command = block["command"].split()
        nodes, workers = (int(part) for part in command[command.index("-j") + 1].split("x"))
        lines = sorted(block["output"].splitlines())
        found.append(Shown(command, ROOT / command[-1], nodes, workers, lines))
    return found


EACH = pytest.mark.parametrize("example", shown(), ids=lambda example: example.script.stem)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    """One warm process for all examples, so that torch is imported once."""
    with spawner("warm", tmp_path_factory.mktemp("concepts")) as running:
        yield running


def test_the_page_shows_every_example() -> None:
    assert sorted(example.script for example in shown()) == sorted(EXAMPLES.glob("*.py"))


@EACH
def test_an_example_prints_what_the_page_shows(agent: Spawner, example: Shown) -> None:
    port, world_size = free_port(), example.nodes * example.workers
    ranks = [
        agent.start(
            example.script,
            wait=False,
            env={
                "RANK": str(rank),
                "LOCAL_RANK": str(rank % example.workers),
                "WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(world_size)
    ]
    printed = []
    for rank, worker in enumerate(ranks):
        assert agent.wait(worker).status == 0, worker.text
        printed += [f"[{rank}] {line}" for line in worker.text.splitlines()]
    assert sorted(printed) == example.lines


def test_an_example_runs_as_the_page_says(tmp_path: Path) -> None:
    example = next(each for each in shown() if each.script.stem == "all_reduce")
    done = subprocess.run(
        [BIN / example.command[0], *example.command[1:]],
        cwd=ROOT,
        env={**environment(), "SWARMTRAIN_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == example.lines


def test_an_example_runs_under_stock_torchrun() -> None:
    example = next(each for each in shown() if each.script.stem == "gather_scatter")
    done = subprocess.run(
        [BIN / "torchrun", "--nproc-per-node", "2", example.script],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bare = [line.partition("] ")[2] for line in example.lines]
    found = re.split(r"\n|(?=rank \d: )", done.stdout)  # where output is not buffered, the ends of lines mix
    assert sorted(line for line in found if line.startswith("rank ")) == sorted(bare)
