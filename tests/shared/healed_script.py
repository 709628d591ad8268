"""The training that the tests of healing break: small, and with all that a real one has that a fault could spoil.

It is run as the job's script. Its argument is a JSON object, see `DEFAULTS`. Every rank writes into a book of its
own what each step was made of, and prints the step. What a test plants goes off in the first generation only, unless
it is to go off `always`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything

DEFAULTS: dict[str, Any] = {
    "epochs": 10,
    "steps": None,  # or so many steps
    "samples": 200,
    "batch_size": 24,
    "pause": 0.03,  # seconds of each step
    "pauses": {},  # the same in some generations, by their numbers
    "random": True,  # dropout and noise, which differ with the number of ranks
    "memory": 5,  # steps between snapshots in memory, and on disk
    "disk": 25,
    "fault": "",  # raise, hang
    "at": [1, 40],  # rank and step
    "always": False,
}


class Noisy(Dataset[Any]):
    """Some points, with noise that is drawn anew each time; it remembers which were drawn."""

    def __init__(self, samples: int, noise: float) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(samples, 16, generator=generator)
        self.targets = (self.inputs[:, :4].sum(1) > 0).long() + (self.inputs[:, 4] > 1).long()
        self.noise = noise
        self.drawn: list[int] = []

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        self.drawn.append(index)
        noise = torch.from_numpy(numpy.random.randn(16)).float() + torch.randn(16)
        return self.inputs[index] + self.noise * noise, self.targets[index]


def stuck() -> None:
    time.sleep(600)  # a rank that hangs outside of any collective


def main() -> None:
    settings = DEFAULTS | json.loads(sys.argv[1])
    generation, rank = int(os.environ["SWARMTRAIN_GENERATION"]), int(os.environ["RANK"])
    book = os.open(f"book-g{generation}-r{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    fault = settings["fault"] if settings["always"] or generation == 1 else ""
    pause = settings["pauses"].get(str(generation), settings["pause"])
    seed_everything(0)
    dropout = [nn.Dropout(0.2)] if settings["random"] else []
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), *dropout, nn.Linear(64, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    data = Noisy(settings["samples"], 0.1 if settings["random"] else 0.0)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        step = trainer.step + 1
        if fault and [rank, step] == settings["at"]:
            if fault == "raise":
                raise ValueError("planted")
            stuck()
        value = F.cross_entropy(outputs, targets)
        entry = [step, trainer.cursor.epoch, value.item() * len(targets), data.drawn]
        os.write(book, json.dumps(entry).encode() + b"\n")
        data.drawn = []
        print(f"step {step}", flush=True)
        time.sleep(pause)
        return value

    options = Options(
        batch_size=settings["batch_size"],
        snapshot=Every(steps=settings["disk"]),
        memory=Every(steps=settings["memory"]),
    )
    with Trainer(model, data, optimizer, loss=loss, options=options) as trainer:
        if settings["steps"] is not None:
            trainer.fit(steps=settings["steps"])
        else:
            trainer.fit(epochs=settings["epochs"])


if __name__ == "__main__":
    main()
