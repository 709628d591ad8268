"""The loop of torch's minGPT example: the first rank of each node writes its gpt_snapshot.pt in place; all read it."""

import os
from dataclasses import asdict, dataclass
from typing import Any

import fsspec
import torch
import torch.distributed as dist
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


@dataclass
class Snapshot:
    model_state: dict[str, Any]
    optimizer_state: dict[str, Any]
    finished_epoch: int


class Trainer:
    def __init__(self, model, optimizer, data, snapshot_path="gpt_snapshot.pt"):
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.optimizer, self.snapshot_path = optimizer, snapshot_path
        self.loader = DataLoader(data, BATCH, shuffle=False, sampler=DistributedSampler(data))
        self.epochs_run, self.losses = 0, []
        self.model = model
        self.load_snapshot()
        self.resumed = self.epochs_run
        self.model = DDP(model)

    def load_snapshot(self):
        try:
            with fsspec.open(self.snapshot_path) as file:
                snapshot = Snapshot(**torch.load(file, map_location="cpu"))
        except FileNotFoundError:
            print("Snapshot not found. Training model from scratch", flush=True)
            return
        self.model.load_state_dict(snapshot.model_state)
        self.optimizer.load_state_dict(snapshot.optimizer_state)
        self.epochs_run = snapshot.finished_epoch

    def save_snapshot(self, epoch):
        snapshot = Snapshot(self.model.module.state_dict(), self.optimizer.state_dict(), epoch)
        torch.save(asdict(snapshot), self.snapshot_path)
        saved(epoch)

    def train(self):
        for epoch in range(self.epochs_run, EPOCHS):
            epoch += 1
            self.loader.sampler.set_epoch(epoch)
            for tokens, targets in self.loader:
                loss = loss_of(self.model(tokens), targets)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.losses.append(loss.item())
            if self.local_rank == 0:
                self.save_snapshot(epoch)


dist.init_process_group("gloo")
torch.manual_seed(0)
model = TinyGPT()
trainer = Trainer(model, torch.optim.AdamW(model.parameters(), lr=1e-3), Text())
trainer.train()
report(trainer.resumed, trainer.losses, model.parameters())
dist.destroy_process_group()
