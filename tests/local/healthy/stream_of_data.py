"""An IterableDataset that is divided among ranks and their loader's processes."""

# -j 1x2
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        part = int(os.environ["RANK"]) * info.num_workers + info.id
        for number in range(part, 256, 2 * info.num_workers):
            yield torch.full((8,), float(number % 7))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    for batch in DataLoader(Stream(), 8, num_workers=2, multiprocessing_context="forkserver"):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    print("healthy")
    dist.destroy_process_group()
