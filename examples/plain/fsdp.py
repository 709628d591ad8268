"""FSDP2: every rank holds a shard of the weights; also a script that knows nothing of any launcher.

torchrun --nproc_per_node=2 fsdp.py --steps 20
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps (default: 20)")
    parser.add_argument("--width", type=int, default=64, help="size of the layers (default: 64)")
    parser.add_argument("--batch", type=int, default=16, help="samples a step and rank (default: 16)")
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        train(args, device)
    finally:
        dist.destroy_process_group()


def train(args, device):
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    width = args.width
    model = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)).to(device)
    whole = sum(parameter.numel() for parameter in model.parameters())
    mesh = init_device_mesh(device, (world_size,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    held = sum(parameter.to_local().numel() for parameter in model.parameters())
    print(f"rank {rank} holds {held} of {whole} parameters", flush=True)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(rank)
    for step in range(1, args.steps + 1):
        inputs = torch.randn(args.batch, width, device=device)
        loss = nn.functional.mse_loss(model(inputs), inputs.flip(1))  # learn to reverse
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"rank {rank} step {step} loss {loss.item():.6f}", flush=True)
    print(f"rank {rank} of {world_size} done: {args.steps} steps", flush=True)


if __name__ == "__main__":
    main()
