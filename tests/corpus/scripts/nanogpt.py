"""In the manner of nanoGPT: no main(), accumulated gradients, and a master process that writes out/ckpt.pt in place."""

import math
import os
from contextlib import nullcontext

import torch
from common import BATCH, LENGTH, TEXT, TinyGPT, loss_of, report, saved
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel as DDP

# ----------------------------------------------------------------------------------------------------------
out_dir = "out"
eval_interval = 10
gradient_accumulation_steps = 6  # of all ranks together
max_iters, warmup_iters, learning_rate, min_lr = 80, 5, 1e-3, 1e-4
# ----------------------------------------------------------------------------------------------------------
init_process_group(backend="gloo")
ddp_rank, ddp_world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
master_process = ddp_rank == 0
assert gradient_accumulation_steps % ddp_world_size == 0
gradient_accumulation_steps //= ddp_world_size
if master_process:
    os.makedirs(out_dir, exist_ok=True)
torch.manual_seed(1337)


def get_batch(number):
    chance = torch.Generator().manual_seed(number)  # the same pieces also after a resume
    starts = torch.randint(len(TEXT) - LENGTH - 1, (BATCH,), generator=chance)
    pieces = torch.stack([TEXT[start : start + LENGTH + 1] for start in starts])
    return pieces[:, :-1], pieces[:, 1:]


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


ckpt_path = os.path.join(out_dir, "ckpt.pt")
iter_num = 0
model = TinyGPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
if os.path.exists(ckpt_path):  # init_from = "resume"
    checkpoint = torch.load(ckpt_path, map_location="cpu")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    iter_num = checkpoint["iter_num"]
    checkpoint = None
first, losses = iter_num, []
model = DDP(model)
raw_model = model.module

while True:
    for group in optimizer.param_groups:
        group["lr"] = get_lr(iter_num)
    if iter_num % eval_interval == 0 and iter_num > first and master_process:
        checkpoint = {"model": raw_model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(checkpoint | {"iter_num": iter_num}, ckpt_path)
        saved(iter_num)
    if iter_num == max_iters:
        break
    for micro_step in range(gradient_accumulation_steps):
        X, Y = get_batch((iter_num * gradient_accumulation_steps + micro_step) * ddp_world_size + ddp_rank)
        last = micro_step == gradient_accumulation_steps - 1
        with nullcontext() if last else model.no_sync():
            loss = loss_of(model(X), Y) / gradient_accumulation_steps
            loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses.append(loss.item() * gradient_accumulation_steps)
    iter_num += 1

report(first, losses, raw_model.parameters())
destroy_process_group()
