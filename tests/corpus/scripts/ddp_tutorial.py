"""The loop of torch's DDP tutorial for several nodes: rank 0 writes snapshot.pt in place, all ranks look for it."""

import os

import torch
import torch.distributed as dist
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


class Trainer:
    def __init__(self, model, data, optimizer, snapshot_path="snapshot.pt"):
        self.rank = int(os.environ["RANK"])
        self.model, self.data, self.optimizer = model, data, optimizer
        self.snapshot_path = snapshot_path
        self.epochs_run = 0
        self.losses = []
        if os.path.exists(snapshot_path):
            self.load_snapshot()
        self.resumed = self.epochs_run
        self.model = DDP(self.model)

    def load_snapshot(self):
        snapshot = torch.load(self.snapshot_path, map_location="cpu")
        self.model.load_state_dict(snapshot["MODEL_STATE"])
        self.epochs_run = snapshot["EPOCHS_RUN"]
        print(f"Resuming training from snapshot at Epoch {self.epochs_run}", flush=True)

    def save_snapshot(self, epochs_run):
        snapshot = {"MODEL_STATE": self.model.module.state_dict(), "EPOCHS_RUN": epochs_run}
        torch.save(snapshot, self.snapshot_path)
        saved(epochs_run)

    def run_epoch(self, epoch):
        self.data.sampler.set_epoch(epoch)
        for source, targets in self.data:
            self.optimizer.zero_grad()
            loss = loss_of(self.model(source), targets)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())

    def train(self, max_epochs):
        for epoch in range(self.epochs_run, max_epochs):
            self.run_epoch(epoch)
            if self.rank == 0:
                self.save_snapshot(epoch + 1)


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = TinyGPT()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data = Text()
    trainer = Trainer(model, DataLoader(data, BATCH, sampler=DistributedSampler(data)), optimizer)
    trainer.train(EPOCHS)
    report(trainer.resumed, trainer.losses, model.parameters())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
