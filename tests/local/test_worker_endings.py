"""A program that has trained ends as under plain Python: with all that it leaves to the end, and every time."""

from __future__ import annotations

import gzip
import itertools
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import SCRIPTS, Spawner, free_port, plain_python, rank_env, spawner

numbers = itertools.count(1000)


@pytest.fixture(scope="module", params=["warm", pytest.param("cold", marks=pytest.mark.long)])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


def left(directory: Path) -> dict[str, object]:
    """What the files in a directory hold, unpacked; an archive that is torn cannot be."""
    found: dict[str, object] = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                found[path.name] = file.read()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found[path.name] = {name: archive.read(name) for name in archive.namelist()}
        elif path.suffix not in (".py", ".out") and path.name != "__pycache__":
            found[path.name] = path.read_bytes() if path.is_file() else list(path.iterdir())
    return found


@pytest.mark.parametrize("args", [(), pytest.param(("why it ends",), marks=pytest.mark.long)])
def test_what_a_program_leaves_open_is_as_complete_as_under_plain_python(
    agent: Spawner, tmp_path: Path, args: tuple[str, ...]
) -> None:
    places = [tmp_path / "plain", tmp_path / "ours"]
    for place in places:
        place.mkdir()
        for name in ("leaves.py", "kept.py"):
            shutil.copy(SCRIPTS / name, place)
    status, output = plain_python("leaves.py", *args, cwd=places[0], output=tmp_path / "plain.out")
    worker = agent.run("leaves.py", *args, cwd=str(places[1]))
    assert worker.text == output.decode()
    assert worker.status == status
    assert left(places[1]) == left(places[0])
    assert len(left(places[1])) >= 6


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("how", [("step", "destroy"), ("step", "global"), ("destroy",), ("step",)])
def test_ranks_end_every_time_whatever_their_process_group_is_held_by(
    agent: Spawner, how: tuple[str, ...], times: int
) -> None:
    if how == ("step",):
        times //= 3
    for again in range(times if agent.mode == "warm" else times // 10):
        port = free_port()
        workers = [
            agent.start(
                SCRIPTS / "toy.py",
                *how,
                env=rank_env(rank, 2, port),
                key=f"{next(numbers)}",
                wait=False,
            )
            for rank in range(2)
        ]
        for worker in workers:
            assert agent.wait(worker).status == 0, f"run {again}: {worker.text}"
            assert worker.text == "last line\n"
