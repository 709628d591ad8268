"""A small GPT that learns to write Python from the standard library's source, which every machine already has.

python train.py --steps 200
torchrun --nproc_per_node=2 train.py --layers 6 --width 384 --heads 6 --context 128 --steps 500
"""

import argparse
import math
import sysconfig
from pathlib import Path

import torch
import torch.nn.functional as F
from model import GPT, Shape
from torch.utils.data import Dataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything


class Windows(Dataset):
    """A text as consecutive windows: ``context`` bytes, and the same shifted by one, which is to be foretold."""

    def __init__(self, text, context):
        self.text = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.context = context

    def __len__(self):
        return (len(self.text) - 1) // self.context

    def __getitem__(self, index):
        window = self.text[index * self.context : (index + 1) * self.context + 1].long()
        return window[:-1], window[1:]


def library(limit):
    """Up to ``limit`` bytes of the standard library's source, in the order of the files' names."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = b""
    for path in sorted(folder.glob("*.py")):
        text += path.read_bytes()
        if len(text) >= limit:
            break
    return text[:limit]


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def bits_per_byte(logits, targets):
    return cross_entropy(logits, targets) / math.log(2)


def rate(step, steps, warmup=20):
    """The learning rate's factor: a linear rise, then half a cosine down to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("layers", 4), ("width", 128), ("heads", 4), ("context", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--batch", type=int, default=32, help="windows of a step, over all ranks (default: 32)"
    )
    parser.add_argument("--micro-batch", type=int, help="the most windows that a rank puts through at once")
    parser.add_argument("--text", type=int, default=1 << 20, help="bytes of text (default: 1 MiB)")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--snapshot-every", type=int, default=100, help="steps (default: 100); 0 for never")
    return parser.parse_args()


def main():
    args = parse_args()
    seed_everything(0)
    text = library(args.text)
    held_out = len(text) // 20
    train_data = Windows(text[:-held_out], args.context)
    eval_data = Windows(text[-held_out:], args.context)
    model = GPT(Shape(args.layers, args.width, args.heads, args.context))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, args.steps))
    options = Options(
        batch_size=args.batch,
        micro_batch=args.micro_batch,
        precision=args.precision,
        clip_norm=1.0,
        snapshot=Every(steps=args.snapshot_every or None),
    )
    with Trainer(
        model,
        train_data,
        optimizer,
        loss=cross_entropy,
        eval_data=eval_data,
        metrics={"bits_per_byte": bits_per_byte},
        scheduler=scheduler,
        options=options,
    ) as trainer:
        size = sum(parameter.numel() for parameter in model.parameters())
        trainer.reporter.say(
            f"{size / 1e6:.2f} M parameters, {len(train_data)} windows of {args.context} bytes"
        )
        trainer.fit(steps=args.steps)


if __name__ == "__main__":
    main()
