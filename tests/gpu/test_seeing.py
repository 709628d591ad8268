"""What is measured and recorded of a GPU: its own series, the phases of steps, a profile; and who holds its memory."""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from gpu_runs import keep, start, text
from gpu_table import Tell
from healed import reach
from waiting import until

from swarmtrain.control.handle import RunHandle

PHASES = ("data", "forward", "backward", "optimizer")
SCRIPTS = Path(__file__).parent / "scripts"
SWARMTRAIN = [sys.executable, "-c", "import sys; from swarmtrain.ui.cli import main; sys.exit(main())"]
# Takes most of the first GPU's memory, says so, and keeps it until its input ends.
HOLD = (
    "import sys, torch; free, _ = torch.cuda.mem_get_info(); "
    "kept = torch.empty(int(free * 0.9), dtype=torch.uint8, device='cuda'); print('held', flush=True); sys.stdin.read()"
)


def newest(handle: RunHandle, pattern: str) -> dict[str, float]:
    """The newest value of each series, by its name alone."""
    return {each.name: each.value for each in handle.series(pattern) if each.value is not None}


def median(handle: RunHandle, name: str) -> float:
    values = [point.mean for each in handle.series(name) for point in each.points if point.mean is not None]
    assert values, f"nothing of {name}"
    return statistics.median(values)


@pytest.mark.usefixtures("home")
def test_the_gpu_is_measured_while_it_works(tell: Tell) -> None:
    handle = start(SCRIPTS / "working.py")
    reach(handle, 5, seconds=120)
    until(lambda: newest(handle, "gpu/*").get("gpu/busy_ratio", 0.0) > 0.2, 40, "a busy GPU")
    found = newest(handle, "gpu/*")
    handle.kill()
    for name, value in sorted(found.items()):
        tell(name, f"{value:.4g}")
    total = torch.cuda.get_device_properties(0).total_memory
    assert 0.9 * total < found["gpu/memory_total_bytes"] < 1.2 * total, found
    assert 1 << 28 < found["gpu/memory_used_bytes"] <= found["gpu/memory_total_bytes"], found
    assert 10 < found["gpu/temperature_celsius"] < 100, found
    assert 20 < found["gpu/power_watts"] <= 1.2 * found["gpu/power_limit_watts"], found
    assert 1e8 < found["gpu/clock_hertz"] <= found["gpu/clock_limit_hertz"], found
    assert found.get("gpu/xid_errors", 0.0) == 0.0, found


@pytest.mark.usefixtures("home")
def test_the_phases_of_a_step_are_measured_by_the_gpus_own_clock(tell: Tell) -> None:
    handle = start(SCRIPTS / "working.py")
    reach(handle, 60, seconds=120)
    until(lambda: "train/forward_seconds" in newest(handle, "train/*"), 40, "phases")
    step = median(handle, "train/step_seconds")
    parts = {name: median(handle, f"train/{name}_seconds") for name in PHASES}
    handle.kill()
    for name, seconds in [("a step", step), *parts.items()]:
        tell(f"{name}, by the GPU's clock", f"{1000 * seconds:.2f} ms")
    # The pass back takes about twice as long as the way forth.
    assert 1.3 < parts["backward"] / parts["forward"] < 3, parts
    assert 0.6 * step < sum(parts.values()) < 1.4 * step, (step, parts)


@pytest.mark.usefixtures("home")
def test_a_profile_has_the_kernels_of_the_gpu(tmp_path: Path, tell: Tell) -> None:
    handle = start(SCRIPTS / "working.py")
    reach(handle, 5, seconds=120)
    line = [*SWARMTRAIN, "profile", handle.id, "--on", "local", "--json", "-o", str(tmp_path)]
    said = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    (shown,) = json.loads(said.stdout)
    with gzip.open(shown["path"]) as file:
        found = json.load(file)["traceEvents"]
    kernels = [event for event in found if event.get("cat") == "kernel"]
    assert len(kernels) > 10
    assert shown["summary"]["steps"] == 5
    tell("kernels in the profile of 5 steps", str(len(kernels)))
    tell("the summary of that profile", json.dumps(shown["summary"])[:400])
    handle.kill()


@contextmanager
def held_by_another() -> Iterator[int]:
    """Somebody else's process has most of the GPU."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield other.pid
        other.kill()


def test_memory_that_another_process_holds_is_said(home: Path, tell: Tell) -> None:
    with held_by_another() as pid:
        handle = start(SCRIPTS / "failing.py", "memory", restart="never")
        assert handle.wait(timeout=120).state == "failed"
        found = handle.explain()
    keep("gpu-memory-of-another", home, handle)
    assert (found.code, found.rank) == ("oom-gpu", 0), found.dump()
    tell("another process holds the memory", f"{found.cause} ({found.sure})")
    assert str(pid) in found.cause and found.sure == "certain", f"{found.dump()}\n{text(handle)}"
    assert "nvidia-smi" in str(found.remedies)


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [("memory", "oom-gpu", "does not fit into its GPU"), ("assert", "device-assert", "out of range")],
)
def test_a_failure_of_the_gpu_is_explained(home: Path, tell: Tell, how: str, code: str, words: str) -> None:
    handle = start(SCRIPTS / "failing.py", how, restart="never")
    assert handle.wait(timeout=120).state == "failed"
    found = handle.explain()
    keep(f"gpu-{how}", home, handle)
    tell(f"explain: {how}", f"{found.verdict}; {found.cause} ({found.sure})")
    assert (found.code, found.rank) == (code, 0), f"{found.dump()}\n{text(handle)}"
    assert words in found.cause, found.dump()


def test_the_doctor_finds_the_gpu(tell: Tell) -> None:
    line = [*SWARMTRAIN, "doctor", "--on", "local", "--json"]
    said = subprocess.run(line, capture_output=True, text=True, timeout=120)
    (found,) = [each for each in json.loads(said.stdout) if each["code"] == "gpus"]
    tell("doctor", found["sentence"])
    assert found["severity"] == "ok" and found["sentence"].startswith(f"{torch.cuda.device_count()} GPU"), (
        found
    )
