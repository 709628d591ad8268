"""Snapshots of a real run on this machine: seen while it trains, checked and brought out after its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from swarmtrain import Client, Job, RequestError
from swarmtrain.control.retention import Wanted
from swarmtrain.trainer import snapshot_files

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

    assert handle.wait(timeout=60).state == "succeeded"
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
