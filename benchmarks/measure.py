"""What the benchmarks share: how often, which statistic, and how a command's first step is timed."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_FIRST = re.compile(rb"first step of rank \d+ at (\d+\.\d+)")


def usual_environment() -> dict[str, str]:
    """The variables as people have them, whose Python keeps what it has compiled."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    }


def first_step_alone(directory: str) -> Path:
    """The script of first_step.py in a directory of its own: there is nothing else that a run would send."""
    own = Path(directory) / "job"
    own.mkdir()
    return Path(shutil.copy(Path(__file__).with_name("first_step.py"), own))


def interleaved(rounds: int, rivals: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each rival, measured in turns: a noisy machine is then noisy for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds):
        for name, measure in rivals.items():
            seconds[name].append(measure())
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.3f} s", flush=True)
    return seconds


def table(seconds: Mapping[str, Sequence[float]], against: str) -> str:
    """A Markdown table: median, smallest and largest, and the ratio of the medians to a rival's."""
    base = statistics.median(seconds[against])
    rows = ["| what | median s | min s | max s | ratio |", "|---|---|---|---|---|"]
    for name, values in seconds.items():
        median = statistics.median(values)
        rows.append(
            f"| {name} | {median:.3f} | {min(values):.3f} | {max(values):.3f} | {median / base:.2f} |"
        )
    return "\n".join(rows)


def first_step(output: bytes, ranks: int) -> float:
    """Unix time at which the last rank had done its first optimizer step."""
    times = [float(match) for match in _FIRST.findall(output)]
    if len(times) < ranks:
        raise SystemExit(
            f"only {len(times)} of {ranks} ranks made a step:\n{output.decode(errors='replace')}"
        )
    return max(times)


def command_to_first_step(argv: Sequence[str], ranks: int, env: Mapping[str, str]) -> float:
    """Seconds from starting a command to the first optimizer step of all ranks.

    How it ends is not measured: under torchrun, torch 2.13 aborts there now and then ("terminate called").
    """
    began = time.time()
    done = subprocess.run(argv, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{argv[0]} ended with {done.returncode}, after what is measured", flush=True)
    return first_step(done.stdout, ranks) - began
