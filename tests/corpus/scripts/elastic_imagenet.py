"""The loop of torch's elastic imagenet: each node renames its checkpoint into place, and all ranks take the newest."""

import io
import os
from pathlib import Path

import torch
import torch.distributed as dist
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

FILE = "checkpoint.pth.tar"


def load_checkpoint(model, optimizer):
    """The first epoch to train: the ranks agree who has got furthest, and get its checkpoint."""
    blob = Path(FILE).read_bytes() if os.path.isfile(FILE) else b""
    epoch = torch.load(io.BytesIO(blob))["epoch"] if blob else 0
    epochs = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    epochs[dist.get_rank()] = epoch
    dist.all_reduce(epochs)
    newest = int(epochs.argmax())
    if not epochs[newest]:
        return 0
    blobs = [blob]
    dist.broadcast_object_list(blobs, src=newest)
    state = torch.load(io.BytesIO(blobs[0]))
    model.load_state_dict(state["state_dict"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"]


def save_checkpoint(state):
    torch.save(state, FILE + ".tmp")
    os.rename(FILE + ".tmp", FILE)
    saved(state["epoch"])


@record
def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(TinyGPT())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    first = load_checkpoint(model, optimizer)
    data = Text()
    loader, losses = DataLoader(data, BATCH, sampler=DistributedSampler(data)), []
    for epoch in range(first, EPOCHS):
        loader.sampler.set_epoch(epoch)
        for tokens, targets in loader:
            loss = loss_of(model(tokens), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if os.environ["LOCAL_RANK"] == "0":
            save_checkpoint(
                {"epoch": epoch + 1, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
            )
    report(first, losses, model.parameters())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
