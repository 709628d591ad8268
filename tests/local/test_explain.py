"""Faults that happen for real: what is wrong is said of a run that has failed, and at the end of one that is watched.

Each starts one run, and several go on at a time. `benchmarks/diagnose.py` produces every fault there is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import BY_NAME, SCRIPT, begin, wrong
from homes import home
from waiting import until

from swarmtrain import Client, Job, RunHandle
from swarmtrain.protocol.evidence.diagnosis import Diagnosis

__all__ = ["home"]

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
# One of each way in which a run goes wrong: its own words, an echo, outside, no end, again and again.
NAMES = (
    *(
        "exception",
        "usage",
        "uneven-inputs",
        "gloo-timeout",
        "stuck-in-lock",
        "segfault",
        "killed",
        "deterministic",
    ),
    *("no-such-host", "loader-killed"),
)
# These on several nodes, each of which imports torch; of the others that would tell no more.
_APART = ("exception", "gloo-timeout", "no-such-host")
FAULTS = {name: BY_NAME[name] if name in _APART else BY_NAME[name].on_one_node() for name in NAMES}
_AT_ONCE = 3


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunHandle]]:
    """The runs in which each of them has happened."""
    directory = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWARMTRAIN_HOME", str(directory / "home"))
        patch.chdir(directory)

        def produce(name: str) -> RunHandle:
            handle = begin(FAULTS[name])
            handle.wait(120)
            return handle

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield dict(zip(NAMES, pool.map(produce, NAMES), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_named_with_its_rank_its_node_and_its_cause(
    produced: dict[str, RunHandle], name: str
) -> None:
    assert wrong(FAULTS[name], produced[name].explain()) == []


def test_the_command_says_it_in_80_columns_without_colour(produced: dict[str, RunHandle]) -> None:
    shown = _swarmtrain("explain", produced["exception"].id)
    assert shown.startswith("rank 1 on node1 raised ValueError: shard 7 is damaged\n")
    assert "    > raise ValueError(" in shown and "cause: " in shown and "try: " in shown
    assert "\x1b" not in shown and max(map(len, shown.splitlines())) <= 80
    found = json.loads(_swarmtrain("explain", produced["exception"].id, "--json"))
    assert (found["code"], found["rank"], found["node"]) == ("exception", 1, "node1")


def test_status_has_the_verdict_where_it_says_more_than_the_failure(produced: dict[str, RunHandle]) -> None:
    assert "verdict: the script refuses its arguments: " in _swarmtrain("status", produced["usage"].id)
    assert "verdict: " not in _swarmtrain("status", produced["exception"].id)


def test_a_kind_is_explained_without_any_run() -> None:
    assert _swarmtrain("explain", "oom-gpu").startswith("oom-gpu: A GPU has no memory left\n")


def test_a_watched_run_ends_with_the_users_traceback_whole_and_then_what_to_do(home: Path) -> None:
    Path(SCRIPT.name).write_text(SCRIPT.read_text())
    command = ["run", "--on", "local", "--name", "watched", "-j", "1x1", SCRIPT.name, "missing_module"]
    done = subprocess.run([SWARMTRAIN, *command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    traceback, cause, remedy = (
        done.stderr.index(word)
        for word in ("Traceback (most recent call last):", "cause: the Python", "try: Is it a file of yours?")
    )
    assert traceback < cause < remedy
    assert "ModuleNotFoundError: No module named 'not_there_at_all'\n" in done.stderr


def test_a_file_that_did_not_travel_is_told_apart_from_one_that_is_nowhere(home: Path) -> None:
    Path("train.py").write_text("open('.env.local')\n")
    Path(".env.local").write_text("KEY=1\n")
    handle = Client(on="local").run(Job(name="left", script="train.py", nodes=1, workers_per_node=1))
    handle.wait(120)
    found = handle.explain()
    assert (found.code, found.rank, found.sure) == ("file-not-sent", 0, "certain")
    assert "swarmtrain run --dry-run" in str(found.dump())


def test_of_a_run_that_is_well_it_is_said_so_and_of_one_that_hangs_who_it_is(home: Path) -> None:
    wanted = BY_NAME["stuck-in-code"]
    patient = {"nodes": 3, "restart": {"max": 0, "hang_timeout": "20s"}}
    handle = begin(type(wanted)(**{**vars(wanted), "job": patient}))
    assert handle.explain().code in ("healthy", "starting")
    until(lambda: handle.explain().code == "stuck-code", 60, "the stall")
    began = time.monotonic()
    found: Diagnosis = handle.explain()
    assert time.monotonic() - began < 10
    assert (found.rank, found.node) == (1, "node1") and "faulty.py" in str(found.dump())
    handle.stop()
    assert handle.explain().code == "stopped-by-a-person"


def _swarmtrain(*words: str) -> str:
    return subprocess.run([SWARMTRAIN, *words], capture_output=True, text=True, check=True, timeout=60).stdout
