"""What DistributedDataParallel adds to a model: after backward every rank holds the mean of all ranks' gradients.

swarmtrain run --on local -j 2x1 gradients.py
torchrun --nproc-per-node 2 gradients.py
"""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank = dist.get_rank()

model = torch.nn.Linear(2, 1, bias=False).to(device)  # the gradient of its output is its input
samples = torch.tensor([[1.0, 10.0]], device=device) * (rank + 1)

model(samples).sum().backward()
alone = model.weight.grad.flatten().tolist()

model.zero_grad()
ddp = DistributedDataParallel(model)
ddp(samples).sum().backward()
print(f"rank {rank}: gradient alone {alone}, with DDP {model.weight.grad.flatten().tolist()}")

del ddp  # before the process group, which it holds on to
dist.destroy_process_group()
