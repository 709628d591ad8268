"""The loop of torch's elastic examples: @record, a checkpoint of its own, and a state that says where it is."""

# -j 1x2
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

CHECKPOINT = Path("elastic.pt")


@record
def main():
    dist.init_process_group("gloo")
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    begin = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT)
        model.module.load_state_dict(state["model"])
        begin = state["epoch"]
    assert int(os.environ["TORCHELASTIC_RESTART_COUNT"]) == 0
    for epoch in range(begin, 4):
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
        if dist.get_rank() == 0:
            torch.save({"model": model.module.state_dict(), "epoch": epoch + 1}, "elastic.new")
            Path("elastic.new").replace(CHECKPOINT)
        dist.barrier()
    print("healthy")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
