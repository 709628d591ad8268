"""A plain training loop in which rank 1 goes wrong after a few steps, in the way that is asked for."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

HOW = sys.argv[1]
FEW = 5


class Numbers(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        if HOW.startswith("loader") and guilty() and index >= FEW:
            time.sleep(1000)
        return torch.randn(8)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        if HOW == "forward" and guilty() and self.steps > FEW:
            time.sleep(1000)
        return self.layer(x)


def guilty():
    return dist.get_rank() == 1


def log_metrics(loss):
    loss = loss.detach()
    dist.all_reduce(loss)
    return loss


def train():
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(Numbers(), batch_size=1, num_workers=1 if HOW == "loader-process" else 0)
    for step, x in enumerate(loader):
        late = guilty() and step == FEW
        if HOW == "between" and late:
            time.sleep(1000)
        if HOW == "left" and late:
            break
        loss = model(x).mean()
        loss.backward()
        if HOW == "stopped" and late:
            os.kill(os.getpid(), signal.SIGSTOP)
        if not (HOW == "skipped" and late):
            log_metrics(loss)
        optimizer.step()
        optimizer.zero_grad()
    dist.barrier()


dist.init_process_group("gloo")
train()
