"""What a run's nodes and ranks measured of themselves is evidence for what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.job import Restart

FULL = """
import time
time.sleep(12)  # a node measures itself every five seconds
raise OSError(28, "No space left on device", "model.pt")
"""
SLOW = """
import time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self): return 100000
    def __getitem__(self, index):
        time.sleep(0.1 if dist.get_rank() == 1 else 0.002)
        return torch.randn(8)

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for x in DataLoader(Numbers()):
    optimizer.zero_grad()
    model(x).mean().backward()
    optimizer.step()
"""

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.long
def test_how_much_room_a_node_had_is_told_of_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FULL)
    handle = Client("local").run(Job(script="train.py", nodes=1, restart=Restart(max=0)))
    handle.wait(60)
    found = handle.explain()
    assert found.code == "disk-full"
    (told,) = (each.text for each in found.evidence if "free where the run keeps its files" in each.text)
    assert told.startswith("node node0 had ") and told.endswith(" s before")


def test_a_rank_that_waits_for_its_data_is_named_with_that(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SLOW)
    handle = Client("local").run(Job(script="train.py", nodes=1, workers_per_node=3, restart=Restart(max=0)))
    try:
        until(lambda: any(each.kind == "straggler" for each in handle.events()), 90, "a straggler")
        until(lambda: handle.explain().cause == "it waits for its data", 40, "its reason")
        found = handle.explain()
    finally:
        handle.kill()
    assert (found.code, found.rank, found.node) == ("slow-rank", 1, "node0")
    assert any("a step for its data, the others" in each.text for each in found.evidence)
