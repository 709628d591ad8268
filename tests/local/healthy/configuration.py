"""A dataclass for the configuration, read from a file beside the script and changed by arguments."""

# -j 1x2 : optimizer.lr=0.02 steps=30
import dataclasses
import json
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclasses.dataclass
class OptimizerConfig:
    lr: float = 0.1
    momentum: float = 0.9


@dataclasses.dataclass
class Config:
    steps: int = 10
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)


config = Config()
for word in sys.argv[1:]:
    path, _, value = word.partition("=")
    *owners, name = path.split(".")
    owner = config
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, name, json.loads(value))
dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), **dataclasses.asdict(config.optimizer))
for _ in range(config.steps):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
assert (config.steps, config.optimizer.lr) == (30, 0.02)
print("healthy")
dist.destroy_process_group()
