"""A second model that follows the first one, and is evaluated in its place."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
average = AveragedModel(model.module, multi_avg_fn=get_ema_multi_avg_fn(0.99))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(60):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
    average.update_parameters(model.module)
average.eval()
with torch.no_grad():
    average(torch.randn(4, 8))
print("healthy")
dist.destroy_process_group()
