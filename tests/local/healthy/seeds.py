"""Everything is seeded, and deterministic algorithms are asked for."""

# -j 1x2
import random

import numpy
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
random.seed(7)
numpy.random.seed(7)
torch.manual_seed(7)
torch.use_deterministic_algorithms(True)
drawn = torch.tensor([random.random(), numpy.random.rand(), torch.rand(()).item()], dtype=torch.float64)
all_drawn = [torch.empty_like(drawn) for _ in range(2)]
dist.all_gather(all_drawn, drawn)
assert torch.equal(*all_drawn)
print("healthy")
dist.destroy_process_group()
