"""Snapshots of a real run on this machine: seen while it trains, checked and brought out after its end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job, RequestError
from swarmtrain.control.snapshots.retention import Wanted
from swarmtrain.trainer.snapshots import files as snapshot_files

TRAINING = """
import time, torch
from torch import nn
from torch.utils.data import Dataset
from swarmtrain.trainer import Every, Options, Trainer

class Slow(Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.ones(4), torch.ones(1)

model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
options = Options(batch_size=4, snapshot=Every(steps=10), keep=4)
with Trainer(model, Slow(), optimizer, loss=nn.functional.mse_loss, options=options) as trainer:
    trainer.fit(epochs=1)
"""


def test_snapshots_are_listed_live_checked_pulled_and_removed(tmp_path: Path, home: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    handle = Client(on="local").run(Job(name="kept", script="train.py", nodes=2, workers_per_node=1))
    snapshots = handle.snapshots

    limit = time.monotonic() + 60
    while len(steps := {each.step for each in snapshots.listing().snapshots}) < 3:
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert {each.node for each in snapshots.listing().snapshots} == {"node0", "node1"}
    with pytest.raises(RequestError, match="may go on from it"):
        snapshots.remove(Wanted(steps=(max(each.step for each in snapshots.listing().snapshots),)))
    assert steps

    assert handle.wait(timeout=150).state == "succeeded"
    found = snapshots.verify()
    assert (found.damaged, found.silent) == ([], {})
    newest = found.snapshots[0]
    data = next((home / "data").glob(f"*/node0/snapshots/{newest.file}"))
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert [each.node for each in snapshots.verify().damaged] == ["node0"]

    pulled = snapshots.pull(to=tmp_path / "here")
    assert (pulled.snapshot.node, pulled.snapshot.step, len(pulled.passed_over)) == ("node1", 100, 1)
    (manifest,) = snapshot_files.listed(tmp_path / "here")
    assert "model" in snapshot_files.load(tmp_path / "here", manifest)

    snapshots.remove(Wanted(keep=1))
    assert {each.step for each in snapshots.listing().snapshots} == {100}
    handle.remove()


def test_a_run_whose_last_snapshot_nobody_could_write_says_so_when_it_has_succeeded(
    tmp_path: Path, home: Path
) -> None:
    """A file in the place of the directory keeps out root, too."""
    blocked = "import os, shutil\nplace = os.environ['SWARMTRAIN_SNAPSHOTS']\n"
    blocked += "shutil.rmtree(place, ignore_errors=True)\nopen(place, 'w').close()\n"
    (tmp_path / "train.py").write_text(blocked + TRAINING.replace("return 400", "return 40"))
    handle = Client(on="local").run(Job(name="kept", script="train.py", nodes=2, workers_per_node=1))
    result = handle.wait(timeout=150)
    assert (result.state, result.step) == ("succeeded", 10)
    assert result.unsaved.startswith("no node could write the snapshot of step 10 (node")
    assert result.unsaved.endswith("): there is none of this training")
    assert result.unsaved in [event.text for event in handle.events() if event.kind == "warning"]
    swarmtrain = [str(Path(sys.executable).with_name("swarmtrain")), "status", "--on", "local", "kept"]
    shown = subprocess.run(swarmtrain, capture_output=True, text=True, check=True)
    assert f"NOT SAVED      {result.unsaved}\n" in shown.stdout
    until(lambda: Client("local").get("kept").run.rests, 30)
    known = Client("local").get("kept").glance()  # what a list of runs reads, for which nothing is started
    assert known is not None and known.unsaved == result.unsaved
    assert (home / "runs" / "kept.1" / "coordinator" / "status.json").exists()
