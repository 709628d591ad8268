"""torch's profiler on real runs: what comes, and that nothing is computed otherwise."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from on_terminal import SWARMTRAIN
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle

# Their steps are slow for as long as a file is there. At the end they say what weights they have.
_PLAIN = """
import hashlib, pathlib, sys, time
import torch, torch.distributed as dist
from torch import nn

slow = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
dist.init_process_group("gloo")
layers = nn.Linear(64, 64), nn.Dropout(0.2), nn.Linear(64, 8)
model = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(500):
    time.sleep(0.1 * slow.exists())
    loss = model(torch.randn(8, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
weights = b"".join(each.detach().numpy().tobytes() for each in model.parameters())
print("weights", hashlib.sha256(weights).hexdigest())
dist.destroy_process_group()
"""

_TRAINER = """
import hashlib, pathlib, sys, time
import torch
from torch import nn
from torch.utils.data import TensorDataset
from swarmtrain.trainer import Options, Trainer, seed_everything

slow = pathlib.Path(sys.argv[1])

class Slow(nn.Module):
    def forward(self, inputs):
        time.sleep(0.1 * slow.exists())
        return inputs

seed_everything(0)
data = TensorDataset(torch.randn(512, 64), torch.randn(512, 8))
model = nn.Sequential(Slow(), nn.Linear(64, 64), nn.Dropout(0.2), nn.Linear(64, 8))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
with Trainer(model, data, optimizer, loss=nn.functional.mse_loss, options=Options(batch_size=16)) as trainer:
    trainer.fit(steps=500)
weights = b"".join(each.detach().numpy().tobytes() for each in model.parameters())
print("weights", hashlib.sha256(weights).hexdigest())
"""


def start(name: str, script: str, slow: Path) -> RunHandle:
    Path(f"{name}.py").write_text(script)
    job = {
        "script": f"{name}.py",
        "files": (f"{name}.py",),
        "nodes": 1,
        "workers_per_node": 2,
        "args": (str(slow),),
    }
    return Client("local").run(Job.model_validate({**job, "env": {"OMP_NUM_THREADS": "1"}}))


def trains(handle: RunHandle, steps: int = 5) -> None:
    until(lambda: (handle.status().step or 0) > steps, 60, "steps")


def swarmtrain(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SWARMTRAIN, *words, "--on", "local"], capture_output=True, text=True, timeout=60)


def weights(handle: RunHandle) -> list[str]:
    assert handle.wait(60).state == "succeeded"
    return [line.text for batch in handle.logs() for line in batch if line.text.startswith("weights")]


def trace(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


@pytest.mark.parametrize(
    ("name", "script"), [("plain", _PLAIN), pytest.param("trainer", _TRAINER, marks=pytest.mark.long)]
)
def test_a_profiled_training_computes_the_same(home: Path, name: str, script: str) -> None:
    slow = home.parent / "slow"  # the profiled one makes its steps slowly while this is there
    slow.touch()
    profiled, alone = start(name, script, slow), start(f"{name}-alone", script, Path("nowhere"))
    trains(profiled)
    first = subprocess.Popen([SWARMTRAIN, "profile", name, "--steps", "50", "--on", "local"])
    until(lambda: list(home.rglob("*.profile.ask")), 10, "the question")
    second = swarmtrain("profile", name, "-o", str(home))
    assert second.returncode == 3 and "rank 0 is being profiled already" in second.stderr
    first.send_signal(signal.SIGINT)  # a person who has had enough: training goes on as if nobody had asked
    assert first.wait(10) == 130
    assert not Path(f"{profiled.id}-profile-rank0.json.gz").exists()

    said = swarmtrain("profile", name, "--rank", "0-1", "--shapes", "--memory", "--json")
    assert said.returncode == 0, said.stderr
    slow.unlink()
    for rank, shown in enumerate(json.loads(said.stdout)):
        assert (shown["rank"], shown["node"], shown["summary"]["steps"]) == (rank, "node0", 5)
        assert shown["summary"]["communication_s"] > 0
        assert "Optimizer.step#AdamW.step" in [each["name"] for each in shown["summary"]["operators"]]
        events = trace(Path(shown["path"]))
        names = [str(each.get("name")) for each in events]
        assert sum(each.startswith("end of step ") for each in names) == 5
        assert any("allreduce" in each for each in names)
        assert any("Input Dims" in each.get("args", {}) for each in events)
    assert not list(home.rglob("*.profile*"))  # on the nodes
    told = weights(profiled) + weights(alone)
    assert len(told) == 4 and len(set(told)) == 1
    over = swarmtrain("profile", name, "--force")
    assert over.returncode == 3 and "has ended" in over.stderr
