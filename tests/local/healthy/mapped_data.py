"""A file of numbers that every rank maps, as language models read their tokens."""

# -j 1x2
import numpy
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
if dist.get_rank() == 0:
    numpy.random.default_rng(0).integers(0, 50, 100_000, dtype=numpy.uint16).tofile("tokens.bin")
dist.barrier()
tokens = numpy.memmap("tokens.bin", dtype=numpy.uint16, mode="r")
model = DistributedDataParallel(nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50)))
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(40):
    starts = torch.randint(len(tokens) - 33, (4,))
    block = torch.stack([torch.from_numpy(tokens[i : i + 33].astype(numpy.int64)) for i in starts])
    loss = nn.functional.cross_entropy(model(block[:, :-1]).flatten(0, 1), block[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
print("healthy")
dist.destroy_process_group()
