"""One worker that spawns ranks of its own, as tutorials do."""

# -j 1x1
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def rank_of_its_own(rank, port):
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for _ in range(20):
        dist.all_reduce(torch.ones(10))
    dist.destroy_process_group()


if __name__ == "__main__":
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank_of_its_own, (port,), nprocs=2)
    print("healthy")
