"""Healthy scripts in the styles that people write, under default settings: each ends well, in one go, unsuspected.

They are in `healthy/`. The line after a script's docstring says how it is run: ``# -j SHAPE [-m] [: ARGUMENTS]``. Each
rank prints ``healthy`` as its last word.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarmtrain import Client

HEALTHY = Path(__file__).with_name("healthy")
SCRIPTS = sorted(path for path in HEALTHY.glob("**/*.py") if "\n# -j " in path.read_text())
_HEADER = re.compile(r"^# -j (?P<nodes>\d+)x(?P<workers>\d+)(?P<module> -m)?(?: : (?P<args>.*))?$", re.M)
_SUSPICION = re.compile(r"\b(hung|hangs|hang)\b")

# One of each kind that has its own way of being mistaken for something else; `make test-all` runs them all.
QUICK = (
    *("barrier_evaluation", "loader_workers", "uneven_inputs_joined", "gan", "subprocess_evaluation"),
    *("signal_handlers", "fully_sharded", "elastic_loop", "no_torch", "progress_bar", "process_pool"),
)

# Longer than the limits after which a rank is looked at, in which processes sleep more than they work.
PATIENT = {
    "sleeping_evaluation": "340",
    "barrier_evaluation": "680",
    "data_preparation": "340",
    "subprocess_evaluation": "340",
    "slow_first_step": "340",
    "rest_between_epochs": "680",
    "reinforcement_learning": "340",
    "monitored_barrier": "340",
    "silent": "340",
    "no_torch": "340",
    "store": "340",
    "after_training": "340",
}

# Of these, with each rank on a node of its own: files are shared then, and looked at while nothing else goes on.
ON_TWO_NODES = ("sleeping_evaluation", "subprocess_evaluation", "slow_first_step", "silent", "after_training")


def run(script: Path, directory: Path, arguments: str | None = None, shape: str = "") -> str:
    """Run it as a person would; what was wrong, or nothing.

    Args:
        arguments: its own by default.
        shape: the one that it names by default, with as many ranks.
    """
    header = _HEADER.search(script.read_text())
    assert header is not None, f"{script} does not say how it is run"
    name = script.stem.replace("_", "-")
    work = directory / name
    shutil.copytree(script.parent, work / script.parent.name) if header["module"] else work.mkdir()
    target = ["-m", f"{script.parent.name}.{script.stem}"]
    if not header["module"]:
        shutil.copy(script, work)
        target = [script.name]
    words = shlex.split(arguments if arguments is not None else header["args"] or "")
    shape = shape or f"{header['nodes']}x{header['workers']}"
    command = [str(Path(sys.executable).with_name("swarmtrain")), "run", "--on", "local", "--name", name]
    done = subprocess.run(
        [*command, "-j", shape, *target, *words], cwd=work, capture_output=True, check=False, timeout=1500
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    handle = Client("local").get(name)
    status, events = handle.status(), list(handle.events())
    wrong = []
    if done.returncode != 0 or status.state != "succeeded":
        wrong.append(f"exit code {done.returncode}, {status.state}: {status.reason}")
    if status.generation != 1 or status.restarts:
        wrong.append(f"generation {status.generation}, {status.restarts} restarts")
    ended = sum(text == "healthy" for piece in handle.logs() for *_, text in piece)
    if ended != int(header["nodes"]) * int(header["workers"]):
        wrong.append(f"{ended} ranks have come to their last word")
    wrong += [
        f"{event.kind}: {event.text}"
        for event in events
        if event.kind == "failure" or _SUSPICION.search(event.text)
    ]
    handle.remove()
    return f"{name}: {'; '.join(wrong)}\n{output[-2000:]}" if wrong else ""


def check(scripts: Iterable[tuple[Path, str | None]], directory: Path, at_once: int, shape: str = "") -> None:
    with ThreadPoolExecutor(at_once) as pool:
        wrong = [
            each for each in pool.map(lambda one: run(one[0], directory, one[1], shape), scripts) if each
        ]
    assert not wrong, "\n\n".join(wrong)


def test_there_are_fifty_of_many_styles() -> None:
    assert len(SCRIPTS) >= 50
    assert {*QUICK, *PATIENT} <= {script.stem for script in SCRIPTS} and {*ON_TWO_NODES} <= {*PATIENT}


def test_healthy_scripts_run_through(home: Path, tmp_path: Path) -> None:
    chosen = [script for script in SCRIPTS if script.stem in QUICK]
    check(((script, None) for script in chosen), tmp_path, min(2, os.cpu_count() or 1))


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_every_healthy_script_runs_through(home: Path, tmp_path: Path) -> None:
    check(((script, None) for script in SCRIPTS), tmp_path, min(2, os.cpu_count() or 1))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_healthy_scripts_that_are_silent_for_minutes_run_through(home: Path, tmp_path: Path) -> None:
    chosen = [(script, PATIENT[script.stem]) for script in SCRIPTS if script.stem in PATIENT]
    check(chosen, tmp_path, len(chosen))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_healthy_scripts_that_are_silent_for_minutes_run_through_on_nodes_that_share_files(
    home: Path, tmp_path: Path
) -> None:
    chosen = [(script, PATIENT[script.stem]) for script in SCRIPTS if script.stem in ON_TWO_NODES]
    check(chosen, tmp_path, len(chosen), shape="2x1")
