"""DistributedDataParallel with DataLoader workers, and nothing else: a script as people already have it.

    torchrun --nproc_per_node=2 ddp.py --steps 40 --workers 2 --start-method spawn

It knows nothing of any launcher beyond torchrun's environment. Its last line on each rank holds a hash of the
weights, so that two runs can be compared.
"""

import argparse
import gc
import hashlib
import os
import time

import torch
import torch.distributed as dist
import torch.distributed.nn  # early, as later its functions would take hold of the process group, which could not end
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


class Waves(Dataset):
    """Points on noisy sine waves; computed on demand, so that DataLoader workers have something to do."""

    def __init__(self, size, width):
        self.size = size
        self.width = width

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        phase = torch.rand(1, generator=generator) * 6.28
        wave = torch.sin(torch.linspace(0, 6.28, self.width) + phase)
        return wave + 0.1 * torch.randn(self.width, generator=generator), phase


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps (default: 40)")
    parser.add_argument("--batch", type=int, default=16, help="samples a step and rank (default: 16)")
    parser.add_argument("--width", type=int, default=64, help="size of the layers (default: 64)")
    parser.add_argument("--samples", type=int, default=640, help="size of the dataset (default: 640)")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers (default: 0)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"], default="fork")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to sleep in each step (default: 0)")
    return parser.parse_args()


def train(args):
    rank, world_size, local_rank = dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(args.width, args.width), nn.ReLU(), nn.Linear(args.width, 1)).to(device)
    ddp = DistributedDataParallel(model, device_ids=[local_rank] if device.type == "cuda" else None)
    optimizer = torch.optim.AdamW(ddp.parameters(), lr=1e-3)
    dataset = Waves(args.samples, args.width)
    sampler = DistributedSampler(dataset, seed=0)
    loader = DataLoader(
        dataset,
        batch_size=args.batch,
        sampler=sampler,
        num_workers=args.workers,
        multiprocessing_context=args.start_method if args.workers else None,
    )

    step = epoch = 0
    while step < args.steps:
        sampler.set_epoch(epoch)
        for wave, phase in loader:
            loss = nn.functional.mse_loss(ddp(wave.to(device)), phase.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            print(f"rank {rank} step {step} loss {loss.item():.6f}", flush=True)
            time.sleep(args.pause)
            if step == args.steps:
                break
        epoch += 1

    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(bytes(tensor.cpu().flatten().view(torch.uint8).tolist()))
    print(f"rank {rank} of {world_size} done: {step} steps, weights {digest.hexdigest()}", flush=True)


def main():
    args = parse_args()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(args)
    finally:
        gc.collect()  # models let go of the process group, so that its threads end here, not at exit
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
