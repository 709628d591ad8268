"""The goals of start-up, as ratios within one run and with room for noise. benchmarks/ measures what they really are.

Processor time is compared, the least of several turns: a machine that is busy with something else changes that little.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PASS = (sys.executable, "-c", "pass")
# What each process is on its way to, and what it has no business to import.
HEAVY = ("torch", "numpy", "rich", "starlette", "tensorboard")
# What is needed later, or for a question that few runs are asked.
NOT_YET = (
    *("tarfile", "statistics", "difflib"),
    "swarmtrain.coordinator.run.alerts.alerts",
    "swarmtrain.coordinator.clients.explain",
    "swarmtrain.diagnosis.diagnose",
)
NOT_BEFORE_THE_SPAWNER = ("asyncio", "swarmtrain.protocol", "hashlib", "secrets", "shutil")
NOT_IN_THE_BUNDLE = ("click", "pydantic", "ruamel", "swarmtrain.job", "swarmtrain.control", "swarmtrain.ui")


def processor_time(*argv: str | Path) -> float:
    """Seconds that a command takes of processors, with all that it waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def least(turns: int, **commands: Callable[[], float]) -> Mapping[str, float]:
    """The least of several turns, taken by turns."""
    taken = [{name: command() for name, command in commands.items()} for _ in range(turns)]
    return {name: min(turn[name] for turn in taken) for name in commands}


@pytest.mark.alone
def test_help_answers_at_once() -> None:
    """5 times an empty Python and 1.4 times click alone, as it was measured."""
    took = least(
        5,
        empty=lambda: processor_time(*PASS),
        click=lambda: processor_time(sys.executable, "-c", "import click"),
        help=lambda: processor_time(BIN / "swarmtrain", "--help"),
    )
    assert took["help"] < 12 * took["empty"], took
    assert took["help"] < 2.5 * took["click"], took


@pytest.mark.alone
def test_what_runs_on_every_node_starts_lightly() -> None:
    """14 and 17 times an empty Python, most of it asyncio's, as it was measured."""
    took = least(
        3,
        empty=lambda: processor_time(*PASS),
        agent=lambda: processor_time(sys.executable, "-c", "import swarmtrain.agent.agent"),
        coordinator=lambda: processor_time(sys.executable, "-c", "import swarmtrain.coordinator.main"),
    )
    assert max(took["agent"], took["coordinator"]) < 40 * took["empty"], took


@pytest.mark.parametrize(
    ("code", "not_these"),
    [
        (
            "from swarmtrain.ui.commands import run, plan, read; import swarmtrain.launchers.local",
            (
                *HEAVY,
                "asyncio",
                "swarmtrain.control.files.run_files",
                "swarmtrain.control.snapshots.snapshots",
            ),
        ),
        ("import swarmtrain; swarmtrain.Client, swarmtrain.Job", HEAVY),
        ("import swarmtrain.agent.agent", (*HEAVY, *NOT_IN_THE_BUNDLE, *NOT_YET)),
        # what the spawner waits for, which imports torch
        ("import swarmtrain.agent.main", (*HEAVY, *NOT_IN_THE_BUNDLE, *NOT_BEFORE_THE_SPAWNER)),
        (
            "import swarmtrain.coordinator.main",
            (*HEAVY, *NOT_IN_THE_BUNDLE, *NOT_YET, "swarmtrain.coordinator.agents.journal_recovery"),
        ),
        (
            "import swarmtrain.wire.alive",
            (*HEAVY, *NOT_IN_THE_BUNDLE, "asyncio", "ssl", "subprocess", "ctypes"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_process_imports_only_what_it_needs(code: str, not_these: tuple[str, ...]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = told.stdout.split()
    assert [each for each in imported if each in not_these] == []


def test_the_library_of_torch_is_loaded_without_a_trace_in_python() -> None:
    code = """
        import os, sys, threading
        from pathlib import Path
        from swarmtrain.worker.warm.library import load_library
        load_library()
        is_there = "libtorch_cpu.so" in Path("/proc/self/maps").read_text()
        print("torch" in sys.modules, len(os.listdir("/proc/self/task")), threading.Thread().name)
        import torch
        print(is_there == (torch.version.cuda is None and torch.version.hip is None))
        print(torch.ones(2).sum().item())
        """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == ["False 1 Thread-1", "True", "2.0"]
