"""torch.distributed.checkpoint on nodes that share no disk: a checkpoint is all parts and their index, or none."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from healed import events, story
from healed_local import lose, worker_of
from waiting import check_nothing_left, until

from swarmtrain import Client, Job
from swarmtrain.wire.disk.storage import Storage

SCRIPT = Path(__file__).parent / "scripts" / "parts.py"
WHOLE = [".metadata", "__0_0.distcp", "__1_0.distcp"]


def copied(home: Path, run: str, node: str) -> list[str]:
    """The files of the second checkpoint that a node could put in place."""
    record = home / "data" / Storage(home).lineage(run) / node / "shared" / "record.json"
    try:
        known = json.loads(record.read_text())["sets"]["steps/step-2"]
    except (OSError, KeyError, ValueError):
        return []
    return sorted(file[0] for file in (known["whole"] or {}).get("files", []))


@pytest.mark.parametrize(
    ("where", "lost"),
    [
        pytest.param("part", False, id="a rank is killed before rank 0 writes its part"),
        pytest.param("part", True, id="rank 0's node is lost before that", marks=pytest.mark.long),
        pytest.param(
            "index", False, id="a rank is killed before the index is written", marks=pytest.mark.long
        ),
        pytest.param("index", True, id="rank 0's node is lost before that is", marks=pytest.mark.long),
    ],
)
def test_parts_of_a_checkpoint_are_in_place_all_together_or_not_at_all(
    home: Path, tmp_path: Path, where: str, lost: bool
) -> None:
    (tmp_path / "parts.py").write_text(SCRIPT.read_text())
    job = Job(
        name="parts",
        script="parts.py",
        files=("parts.py",),
        args=(str(tmp_path), where),
        nodes="1..2",
        workers_per_node=1,
        env={"OMP_NUM_THREADS": "1"},
        share="auto",
    )
    handle = Client(on="local").run(job)
    until(lambda: handle.status().workers, seconds=120, what="its workers")
    for node in ("node0", "node1"):
        until(lambda node=node: copied(home, handle.id, node) == WHOLE, seconds=180, what="a copy")  # type: ignore[misc]
    (tmp_path / "go").touch()
    until((tmp_path / "stands").exists, seconds=120, what="half of the third")
    time.sleep(5.0)  # the other rank's part has come to rest
    first, second = (worker.node for worker in handle.status().workers)
    if lost:
        lose(home, handle, first)
    else:
        os.kill(worker_of(handle, 1), signal.SIGKILL)
    ranks = range(1 if lost else 2)
    until(lambda: all((tmp_path / f"from-2-{rank}").exists() for rank in ranks), 180, "the next generation")
    assert [(tmp_path / f"from-2-{rank}").read_text() for rank in ranks] == ["2" for _ in ranks], story(
        handle
    )
    told = [str(event["text"]) for event in events(handle, "shared")]
    assert any(text.startswith("steps/step-3 was being written on ") for text in told), told
    data = home / "data" / Storage(home).lineage(handle.id)
    assert list(data.glob(f"{second}/aside/*/steps/step-3/__1_0.distcp")), "nothing is lost"
    (tmp_path / "stop").touch()
    assert handle.wait(timeout=60).state == "succeeded", story(handle)
    check_nothing_left(tmp_path, home)
