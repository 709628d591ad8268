"""Accelerate, with save_state after each epoch and the newest directory taken by its time, as its examples do.

The main process writes the model and the optimizer, each process its random state.
"""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.utils.data import DataLoader

FOLDER = "checkpoints"


def main():
    accelerator = Accelerator(
        cpu=True,
        project_config=ProjectConfiguration(project_dir="."),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
    )
    set_seed(0)
    model = TinyGPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 20, 0.9)
    loader = DataLoader(Text(), BATCH, shuffle=True)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    first = 0
    if os.path.isdir(FOLDER) and (found := [entry for entry in os.scandir(FOLDER) if entry.is_dir()]):
        newest = max(found, key=os.path.getctime)
        accelerator.load_state(newest.path)
        first = int(newest.name.removeprefix("epoch_")) + 1
    losses = []
    for epoch in range(first, EPOCHS):
        loader.set_epoch(epoch)
        model.train()
        for tokens, targets in loader:
            with accelerator.accumulate(model):
                loss = loss_of(model(tokens), targets)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        accelerator.save_state(os.path.join(FOLDER, f"epoch_{epoch}"))
        saved(epoch + 1)
    report(first, losses, accelerator.unwrap_model(model).parameters())
    accelerator.end_training()


if __name__ == "__main__":
    main()
