"""Rollouts of very different lengths, and a collective now and then."""

# -j 1x2 : 3
import random
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
random.seed(dist.get_rank())
policy = nn.Linear(4, 2)
optimizer = torch.optim.Adam(policy.parameters())
end = time.time() + float(sys.argv[1])
update = 0
while True:
    time.sleep(random.random() * float(sys.argv[1]) / 3)
    rewards = torch.rand(32)
    loss = -(policy(torch.randn(32, 4)).log_softmax(1)[:, 0] * rewards).mean()
    optimizer.zero_grad()
    loss.backward()
    for parameter in policy.parameters():
        dist.all_reduce(parameter.grad)
    optimizer.step()
    over = torch.tensor(float(time.time() > end))
    dist.all_reduce(over, op=dist.ReduceOp.MAX)
    if over:
        break
    update += 1
print("healthy")
dist.destroy_process_group()
