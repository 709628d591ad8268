"""Steps of the Trainer that keep a GPU busy, until somebody ends them."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from swarmtrain.trainer import Options, Trainer, seed_everything


def main():
    seed_everything(0)
    data = TensorDataset(torch.randn(4096, 4096), torch.randint(0, 16, (4096,)))
    layers = [layer for _ in range(12) for layer in (nn.Linear(4096, 4096), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(4096, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with Trainer(model, data, optimizer, loss=F.cross_entropy, options=Options(batch_size=1024)) as trainer:
        trainer.fit(steps=1_000_000)


if __name__ == "__main__":
    main()
