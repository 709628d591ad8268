"""Ranks that go on from different states of their script's own: the run says so, and only then."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from healed import events, reach, story
from healed_local import worker_of
from waiting import check_nothing_left, until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

SCRIPT = Path(__file__).parent / "scripts" / "epochs.py"


def start(directory: Path, how: str, **keys: Any) -> RunHandle:
    (directory / "epochs.py").write_text(SCRIPT.read_text())
    job = Job(
        name="epochs",
        script="epochs.py",
        files=("epochs.py",),
        args=("0.05", how, str(directory / "stop")),
        nodes=2,
        workers_per_node=1,
        env={"OMP_NUM_THREADS": "1"},
        **keys,
    )
    return Client(on="local").run(job)


def told(handle: RunHandle) -> list[str]:
    texts = [str(event["text"]) for event in events(handle, "warning")]
    return [text for text in texts if "out of step" in text]


@pytest.mark.parametrize(
    ("how", "keys", "expected"),
    [
        pytest.param("sgd", {"share": "off"}, "rank 1 began at epoch 0", id="epochs", marks=pytest.mark.long),
        pytest.param("adam", {"share": "auto", "per_node": ("*.pt",)}, "rank 1 began at step 1", id="steps"),
        pytest.param("sgd", {"share": "auto"}, "", id="healthy"),
    ],
)
def test_ranks_that_begin_at_different_epochs_or_steps_are_told_of(
    home: Path, tmp_path: Path, how: str, keys: dict[str, Any], expected: str
) -> None:
    handle = start(tmp_path, how, **keys)
    reach(handle, 20, 180)
    assert not told(handle), "all of them are new"
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    until(lambda: handle.status().generation == 2, seconds=180, what="the next generation")
    until(lambda: (handle.status().step or 0) >= 10, seconds=180, what="its steps")
    found = told(handle)
    if expected:
        (text,) = found
        assert text.startswith("generation 2 trains out of step: rank 0 began at ") and expected in text
        assert "`share: auto`" in text
    else:
        assert not found, story(handle)
    (tmp_path / "stop").touch()
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    check_nothing_left(tmp_path, home)
