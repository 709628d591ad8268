"""Plain DistributedDataParallel on gloo, as people write it: nothing of swarmtrain in it."""

import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

began = time.time()


def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 8, generator=generator), torch.randn(64, 1, generator=generator))
    loader = DataLoader(data, batch_size=8, sampler=DistributedSampler(data), num_workers=1)
    torch.manual_seed(rank)  # the constructor below is to broadcast rank 0's parameters
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            if began:
                print(f"first step {time.time()}")
                globals()["began"] = None
    digest = [round(value, 5) for value in model.module.weight.flatten().tolist()]
    print(f"rank {rank} of {dist.get_world_size()} on {os.environ['LOCAL_RANK']}: {digest}")
    dist.destroy_process_group()


print(f"first line {began}")
main()
