"""A teacher is trained first, then a student; each stage has its own model and optimizer."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train(model, target, steps):
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        inputs = torch.randn(16, 8)
        with torch.no_grad():
            wanted = target(inputs)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), wanted).backward()
        optimizer.step()


dist.init_process_group("gloo")
teacher = DistributedDataParallel(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)))
train(teacher, lambda inputs: inputs.sum(1, keepdim=True), 60)
teacher.eval()
train(DistributedDataParallel(nn.Linear(8, 1)), teacher.module, 60)
print("healthy")
dist.destroy_process_group()
