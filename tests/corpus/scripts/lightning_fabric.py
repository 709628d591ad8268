"""A loop with Lightning's Fabric: rank 0 writes a file for each epoch, and all ranks take the last one by its name."""

import os

import lightning as L
import torch
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.utils.data import DataLoader

FOLDER = "checkpoints"


def latest():
    """The file to resume from, or None."""
    names = sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []
    return os.path.join(FOLDER, names[-1]) if names else None


def main():
    fabric = L.Fabric(
        accelerator="cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        strategy="ddp",
    )
    fabric.launch()
    fabric.seed_everything(0)
    model = TinyGPT()
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
    # In order: Fabric counts epochs for a sampler itself, anew in each process, so shuffled data would not resume.
    loader = fabric.setup_dataloaders(DataLoader(Text(), BATCH))
    state = {"model": model, "optimizer": optimizer, "epoch": 0}
    if path := latest():
        fabric.load(path, state)
    first, losses = state["epoch"], []
    for epoch in range(first, EPOCHS):
        for tokens, targets in loader:
            loss = loss_of(model(tokens), targets)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        state["epoch"] = epoch + 1
        fabric.save(os.path.join(FOLDER, f"epoch-{epoch + 1:04d}.ckpt"), state)
        saved(epoch + 1)
    report(first, losses, model.parameters())


if __name__ == "__main__":
    main()
