"""Two models and two optimizers that take turns."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
generator = DistributedDataParallel(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)))
critic = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
g_steps = torch.optim.Adam(generator.parameters(), lr=1e-3)
c_steps = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(60):
    fake = generator(torch.randn(16, 4))
    c_steps.zero_grad()
    (critic(fake.detach()).mean() - critic.module(torch.randn(16, 8)).mean()).backward()
    c_steps.step()
    if step % 5 == 4:
        g_steps.zero_grad()
        critic.requires_grad_(False)
        (-critic.module(generator(torch.randn(16, 4))).mean()).backward()
        critic.requires_grad_(True)
        g_steps.step()
print("healthy")
dist.destroy_process_group()
