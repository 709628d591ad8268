"""Steps of the Trainer in which torch raises where the thread that trains would wait for the GPU."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything

FIRST, LAST = 5, 40

seed_everything(0)
inputs = torch.randn(6400, 256)
model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))


def loss(outputs, targets):
    """It is called in the middle of each step, so the mode is on from there to the same place some steps later."""
    if trainer.step == FIRST:
        torch.cuda.set_sync_debug_mode("error")
    if trainer.step == LAST:
        torch.cuda.set_sync_debug_mode("default")
    return F.cross_entropy(outputs, targets)


options = Options(batch_size=64, clip_norm=1.0, snapshot=Every())
with Trainer(
    model,
    TensorDataset(inputs, (inputs.mean(1) > 0).long()),
    torch.optim.AdamW(model.parameters()),
    loss=loss,
    options=options,
) as trainer:
    trainer.fit(steps=LAST + 5)
print(f"{LAST - FIRST} steps without waiting")
