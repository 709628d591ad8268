"""The coordinator is started again: training goes on, and nothing is lost or doubled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from healed_local import restart_coordinator
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

COUNTING = """
import time
for number in range(120):
    print(number, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def handle(tmp_path: Path, home: Path) -> RunHandle:
    (tmp_path / "count.py").write_text(COUNTING)
    handle = Client(on="local").run(Job(script="count.py", nodes=2, start="cold"))
    until(lambda: "started" in [event.kind for event in handle.events()])
    return handle


@pytest.mark.parametrize(
    "pause",
    [
        pytest.param(0.0, id="at once"),
        pytest.param(2.0, id="in the middle", marks=pytest.mark.long),
        pytest.param(8.0, id="after the workers' end"),
    ],
)
def test_a_coordinator_that_is_started_again_loses_nothing(
    handle: RunHandle, tmp_path: Path, pause: float
) -> None:
    restart_coordinator(tmp_path / "home" / "runs" / handle.id / "coordinator", pause)
    time.sleep(0.5)
    assert handle.wait(timeout=60).state == "succeeded"
    found: dict[int, list[str]] = {0: [], 1: []}
    for batch in handle.logs():
        for _, _, rank, _, text in batch:
            found[rank].append(text)
    assert found == {rank: [str(number) for number in range(120)] for rank in (0, 1)}
    kinds = [event.kind for event in handle.events()]
    assert kinds.count("coordinator") == 1
    assert kinds.count("generation") == 1
    assert kinds[-1] == "ended"


def test_a_run_answers_at_every_moment_of_its_end(home: Path, tmp_path: Path) -> None:
    """Its coordinator leaves; who has just reached it is answered all the same, and who comes later by its archive."""
    (tmp_path / "short.py").write_text("import time\ntime.sleep(2)\n")
    handle = Client("local").run(Job(name="short", script="short.py", nodes=1, start="cold"))
    handle.started()
    ended = 0.0
    while not ended or time.monotonic() - ended < 3.0:
        status = handle.status()
        if not ended and status.state == "succeeded":
            ended = time.monotonic()
    assert [event.kind for event in handle.events()][-1] == "ended"
