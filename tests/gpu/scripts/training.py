"""A training with the Trainer that is the same in every run: `training.py STEPS PRECISION`.

Rank 0 says which GPU it is on, whether anything had touched CUDA before the script, and when each step is done. NCCL is
told another machine for each rank, so that two that have the same GPU can train over it.
"""

import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything

STEPS, PRECISION = int(sys.argv[1]), sys.argv[2]
os.environ["NCCL_HOSTID"] = f"machine-{os.environ['RANK']}"
print(f"touched before: {torch.cuda.is_initialized()}", flush=True)


def main():
    torch.use_deterministic_algorithms(True)
    seed_everything(0)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2000, 1, 16, 16, generator=generator)
    data = TensorDataset(inputs, (inputs.mean((1, 2, 3)) > 0).long())
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * 256, 2)
    )

    def loss(outputs, targets):
        print(f"step {trainer.step} on {outputs.device} of {name()}", flush=True)
        time.sleep(0.02)
        return F.cross_entropy(outputs, targets)

    options = Options(batch_size=64, precision=PRECISION, snapshot=Every(steps=20), memory=Every(steps=5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with Trainer(model, data, optimizer, loss=loss, options=options) as trainer:
        trainer.fit(steps=STEPS)


def name():
    return torch.cuda.get_device_properties(torch.cuda.current_device()).uuid


if __name__ == "__main__":
    main()
