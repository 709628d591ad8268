"""Two nodes over NCCL, through sockets as between machines: they heal, and a rank that goes wrong is named.

One GPU is enough: `gpu_runs.one_gpu_for_each_of_two_nodes`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from faults import ON_NCCL, Fault, clear, wrong
from gpu_runs import keep, one_gpu_for_each_of_two_nodes, start, text
from gpu_table import Tell
from healed import reach, story, weights
from healed_local import worker_of

from swarmtrain.protocol.journal.events import GenerationFailed

SCRIPTS = Path(__file__).parent / "scripts"
STEPS = 120


def test_two_nodes_train_over_nccl_and_a_killed_worker_leaves_no_trace(home: Path, tell: Tell) -> None:
    with one_gpu_for_each_of_two_nodes():
        whole = start(SCRIPTS / "training.py", str(STEPS), "fp32", name="whole", nodes=2, backend="nccl")
        assert whole.wait(timeout=180).state == "succeeded", "\n".join(text(whole))
        handle = start(SCRIPTS / "training.py", str(STEPS), "fp32", nodes=2, backend="nccl")
        reach(handle, 70, seconds=120)
        os.kill(worker_of(handle, 1), signal.SIGKILL)
        assert handle.wait(timeout=180).state == "succeeded", story(handle)
    assert weights(handle) == weights(whole)
    (recovery,) = handle.status().recoveries
    tell("training again after a killed worker, two nodes over NCCL", f"{recovery.seconds:.1f} s")


@pytest.mark.parametrize("wanted", ON_NCCL, ids=lambda each: each.how)
def test_a_rank_that_goes_wrong_over_nccl_is_named(home: Path, tell: Tell, wanted: Fault) -> None:
    with one_gpu_for_each_of_two_nodes():
        handle = start(
            SCRIPTS / "on_nccl.py",
            wanted.how.removeprefix("nccl_"),
            name=wanted.name,
            nodes=2,
            backend="nccl",
            restart={"max": 0, "hang_timeout": "8s"},
        )
    assert handle.wait(timeout=150).state == "failed", "\n".join(text(handle))
    found = handle.explain()
    keep(wanted.name, home, handle)
    status = handle.status()
    noticed = min(event.time for event in handle.events() if isinstance(event, GenerationFailed))
    clear(home, handle)
    assert wrong(wanted, found) == [], f"{found.dump()}\n{story(handle)}"
    tell(
        f"{wanted.name}: {found.verdict}",
        f"{(status.ended or 0) - noticed:.1f} s after it was noticed",
    )
