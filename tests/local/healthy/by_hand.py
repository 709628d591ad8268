"""Gradients are averaged by hand, asynchronously, in one flat tensor."""

# -j 2x1
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
for parameter in model.parameters():
    dist.broadcast(parameter.data, 0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(60):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    dist.all_reduce(flat, async_op=True).wait()
    offset = 0
    for parameter in model.parameters():
        size = parameter.numel()
        parameter.grad.copy_(flat[offset : offset + size].view_as(parameter) / dist.get_world_size())
        offset += size
    optimizer.step()
print("healthy")
dist.destroy_process_group()
