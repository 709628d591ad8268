"""The data of the guide's example: random pairs, the same ones on every rank."""

import torch
from torch.utils.data import Dataset


class MyTrainDataset(Dataset):
    """``size`` pairs of 20 inputs and 1 target, drawn from ``seed``.

    Every rank builds this dataset for itself. Without a seed each would draw other numbers, and the ranks would
    train on shards of different datasets.
    """

    def __init__(self, size, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.rand(size, 20, generator=generator)
        self.targets = torch.rand(size, 1, generator=generator)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]
