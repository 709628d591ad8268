"""One corpus of programs, four ways to start them: their reports are equal, line by line.

Where torchrun itself differs from plain Python, ``TORCHRUN`` says so; nothing else is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from worker_harness import SCRIPTS, environment, free_port, plain_python, rank_env, spawner

PROBES = (
    *(
        "early",
        "vendored",
        "modules",
        "threads",
        "signals",
        "files",
        "interpreter",
        "program",
        "logs",
        "chance",
    ),
    *("tasks", "children", "trained", "endings"),
)
TOGETHER = [probe for probe in PROBES if probe not in ("early", "vendored", "children")]

# What to leave out of a report before it is compared with torchrun's, which starts Python with -u.
TORCHRUN = {"program": "'-u', "}


def place(directory: Path) -> Path:
    """A directory of its own for one way, so that all of them see the same names in it."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "vendored").mkdir(parents=True)
    (directory / "vendored" / "colorsys.py").write_text("")
    shutil.copy(SCRIPTS / "probes.py", directory)
    (directory / "variables").write_text(
        "OMP_NUM_THREADS=2\nTORCH_COMPILE_DISABLE=1\nPYTORCH_JIT=0\nOTHER=0\n"
    )
    return directory


def variables() -> dict[str, str]:
    return {**rank_env(0, 1, free_port()), "LOCAL_WORLD_SIZE": "1"}


def plain(directory: Path, probes: list[str]) -> list[str]:
    place(directory)
    status, output = plain_python(
        "probes.py", *probes, cwd=directory, output=directory.parent / "plain.out", **variables()
    )
    assert status == 0, output.decode()
    return lines(output)


def worker(directory: Path, probes: list[str], start: str) -> tuple[list[str], str]:
    place(directory)
    with spawner(start, directory.parent) as agent:
        ended = agent.run("probes.py", *probes, cwd=str(directory), env=variables(), key=start)
    assert ended.status == 0, ended.text
    assert ended.started is not None
    return lines(ended.output), ended.started["start"]


def torchrun(directory: Path, probes: list[str]) -> list[str]:
    place(directory)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "probes.py", *probes],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout.decode()
    return lines(done.stdout)


def lines(output: bytes) -> list[str]:
    return re.sub(" at 0x[0-9a-f]+", "", output.decode()).splitlines()


def test_a_warm_worker_finds_what_plain_python_shows(tmp_path: Path) -> None:
    ours, start = worker(tmp_path / "here", TOGETHER, "warm")
    assert ours == plain(tmp_path / "here", TOGETHER)
    assert start == "warm"


@pytest.mark.long
@pytest.mark.parametrize("probe", PROBES)
def test_reports_are_equal_under_warm_cold_torchrun_and_plain_python(tmp_path: Path, probe: str) -> None:
    directory = tmp_path / "here"
    expected = plain(directory, [probe])
    warm, start = worker(directory, [probe], "warm")
    assert warm == expected
    assert start == ("cold" if probe == "early" else "warm")  # torch itself needs none of what is vendored
    assert worker(directory, [probe], "cold")[0] == expected
    theirs = torchrun(directory, [probe])
    assert [line.replace(TORCHRUN.get(probe, "\0"), "") for line in theirs] == expected
