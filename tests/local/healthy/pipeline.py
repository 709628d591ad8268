"""Two stages that send activations on and gradients back."""

# -j 2x1
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
first = dist.get_rank() == 0
stage = nn.Linear(8, 8) if first else nn.Linear(8, 1)
optimizer = torch.optim.SGD(stage.parameters(), lr=0.01)
for _ in range(50):
    optimizer.zero_grad()
    if first:
        activation = stage(torch.randn(4, 8))
        dist.send(activation.detach(), 1)
        gradient = torch.empty(4, 8)
        dist.recv(gradient, 1)
        activation.backward(gradient)
    else:
        received = torch.empty(4, 8)
        dist.recv(received, 0)
        received.requires_grad_()
        stage(received).square().mean().backward()
        dist.send(received.grad, 0)
    optimizer.step()
print("healthy")
dist.destroy_process_group()
