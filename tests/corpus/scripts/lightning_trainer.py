"""Lightning's Trainer with a ModelCheckpoint and `ckpt_path="last"`: rank 0 writes, all ranks look for last.ckpt."""

import os

import lightning as L
import torch
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader


class Learner(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.losses = TinyGPT(), []

    def training_step(self, batch, index):
        tokens, targets = batch
        loss = loss_of(self.model(tokens), targets)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Tell(Callback):
    first = 0

    def on_train_start(self, trainer, module):
        self.first = trainer.current_epoch

    def on_train_epoch_start(self, trainer, module):  # the epoch before has been saved at its end
        if trainer.current_epoch > self.first:
            saved(trainer.current_epoch)


def main():
    L.seed_everything(0)
    learner, tell = Learner(), Tell()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        strategy="ddp",
        max_epochs=EPOCHS,
        callbacks=[tell, ModelCheckpoint("checkpoints", save_last=True)],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(learner, DataLoader(Text(), BATCH, shuffle=True), ckpt_path="last")
    report(tell.first, learner.losses, learner.parameters())


if __name__ == "__main__":
    main()
