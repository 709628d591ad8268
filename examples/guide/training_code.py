"""Distributed training in one file: PyTorch only, started by torchrun or by anything that keeps its contract.

    torchrun --nproc_per_node=2 training_code.py 20 5 --batch_size 64 --snapshot_path snapshot.pt

Run it again and it goes on from the snapshot. Each node keeps a snapshot of its own, so no shared file system is
needed, and the run goes on as long as one node still has a good one.
"""

import argparse
import gc
import os
import zipfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # early, as later its functions would take hold of the process group, which could not end
import torch.nn.functional as F
from datautils import MyTrainDataset
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

SEED = 0
DATASET_SIZE = 2048


# ----------------------------------------------------------------------------------------------------------
# The process group


def ddp_setup():
    """Joins the process group and returns the device of this rank: its own GPU, or the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        backend = "nccl"
    else:
        device = torch.device("cpu")
        backend = "gloo"
    # A peer that loses power says nothing: the others wait this long for it, then fail instead of hanging.
    dist.init_process_group(backend, timeout=timedelta(minutes=10))
    rank, world_size = dist.get_rank(), dist.get_world_size()
    print(f"Process group initialized: rank {rank} of {world_size} on {device} with {backend}", flush=True)
    return device


# ----------------------------------------------------------------------------------------------------------
# The snapshot: one file on every node, and the one before it


def previous(path):
    return path.with_name(path.name + ".previous")


def write_snapshot(snapshot, path):
    """Writes aside, then renames: a crash at any instant leaves a whole snapshot behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{dist.get_rank()}.tmp")
    with open(aside, "wb") as file:
        torch.save(snapshot, file)
        file.flush()
        os.fsync(file.fileno())  # the contents reach the disk before the name does
    if path.exists():
        path.replace(previous(path))
    aside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new names survive a power cut too
    finally:
        os.close(directory)


def read_snapshot(path):
    """Returns the snapshot at ``path``, or None where there is none or it is damaged."""
    if not path.exists():
        return None
    try:
        # torch.save writes a zip with checksums; torch.load skips them
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum in {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is wrong with the file, another node may hold a good one
        print(f"Passing over the damaged snapshot {path}: {error}", flush=True)
        return None


# ----------------------------------------------------------------------------------------------------------
# Training


class Trainer:
    def __init__(self, model, train_data, optimizer, save_every, snapshot_path, device):
        self.rank = dist.get_rank()
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.world_size = dist.get_world_size()
        self.device = device
        self.train_data = train_data
        self.optimizer = optimizer
        self.save_every = save_every
        self.snapshot_path = Path(snapshot_path)
        self.epochs_run = 0  # epochs completed, which is also the number of the next one
        self.model = DDP(model, device_ids=[device.index] if device.type == "cuda" else None)
        torch.manual_seed(SEED + self.rank)  # from here on (dropout, say) each rank draws its own numbers
        self._resume()

    def train(self, total_epochs):
        if self.epochs_run >= total_epochs:
            self._say(f"Nothing to do: {self.epochs_run} of {total_epochs} epochs are done")
        while self.epochs_run < total_epochs:
            loss = self._run_epoch(self.epochs_run)
            self._say(f"Epoch {self.epochs_run} | Steps {len(self.train_data)} | Loss {loss:.6f}")
            self.epochs_run += 1
            if self.epochs_run % self.save_every == 0 or self.epochs_run == total_epochs:
                self._save()

    def _run_epoch(self, epoch):
        """Trains for one epoch and returns the mean loss over all samples of all ranks."""
        self.train_data.sampler.set_epoch(epoch)  # another order each epoch
        total = torch.zeros(2, device=self.device)  # sum of losses, samples
        for inputs, targets in self.train_data:
            inputs, targets = inputs.to(self.device), targets.to(self.device)
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.model(inputs), targets)
            loss.backward()
            self.optimizer.step()
            total += torch.stack([loss.detach() * len(inputs), total.new_tensor(len(inputs))])
        dist.all_reduce(total)
        return (total[0] / total[1]).item()

    def _save(self):
        random_states = [None] * self.world_size
        dist.all_gather_object(random_states, torch.get_rng_state())
        if self.local_rank == 0:  # one writer on every node
            snapshot = {
                "model": self.model.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epochs_run": self.epochs_run,
                "random_states": random_states,
            }
            write_snapshot(snapshot, self.snapshot_path)
        self._say(f"Epoch {self.epochs_run - 1} | Snapshot saved to {self.snapshot_path}")

    def _resume(self):
        """All ranks go on from the newest snapshot that any node holds; else ranks would disagree and hang."""
        snapshot = None
        if self.local_rank == 0:
            snapshot = read_snapshot(self.snapshot_path) or read_snapshot(previous(self.snapshot_path))
        epochs = [None] * self.world_size
        dist.all_gather_object(epochs, snapshot["epochs_run"] if snapshot else 0)
        if max(epochs) == 0:
            return
        holder = epochs.index(max(epochs))
        parcel = [snapshot if self.rank == holder else None]
        dist.broadcast_object_list(parcel, src=holder, device=self.device)
        snapshot = parcel[0]
        self.model.module.load_state_dict(snapshot["model"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.epochs_run = snapshot["epochs_run"]
        if len(snapshot["random_states"]) == self.world_size:
            torch.set_rng_state(snapshot["random_states"][self.rank])
        self._say(f"Resuming from {self.snapshot_path} at epoch {self.epochs_run}")

    def _say(self, line):
        if self.rank == 0:
            print(line, flush=True)


def load_train_objs():
    train_set = MyTrainDataset(DATASET_SIZE, seed=SEED)
    model = torch.nn.Linear(20, 1)
    return train_set, model


def prepare_dataloader(dataset, batch_size, device):
    return DataLoader(
        dataset,
        batch_size=batch_size,
        pin_memory=device.type == "cuda",
        # By default the sampler repeats samples until the shards are equal. drop_last leaves out at most
        # world_size - 1 samples of an epoch instead, other ones each epoch.
        sampler=DistributedSampler(dataset, shuffle=True, seed=SEED, drop_last=True),
    )


def main(total_epochs, save_every, batch_size, snapshot_path):
    device = ddp_setup()
    try:
        torch.manual_seed(SEED)  # the same first weights on every rank
        train_set, model = load_train_objs()
        model = model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        train_data = prepare_dataloader(train_set, batch_size, device)
        Trainer(model, train_data, optimizer, save_every, snapshot_path, device).train(total_epochs)
    finally:
        gc.collect()  # DistributedDataParallel lets go of the process group, so that its threads end here, not at exit
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A simple distributed training job")
    parser.add_argument("total_epochs", type=int, help="epochs to train the model for")
    parser.add_argument("save_every", type=int, help="epochs between two snapshots")
    parser.add_argument(
        "--batch_size", type=int, default=32, help="samples in a step of one rank (default: 32)"
    )
    parser.add_argument(
        "--snapshot_path", default="snapshot.pt", help="this node's snapshot (default: snapshot.pt)"
    )
    args = parser.parse_args()
    if args.save_every < 1:
        parser.error("save_every must be at least 1")
    if "LOCAL_RANK" not in os.environ:
        parser.error(
            "start it with torchrun, which tells each process its rank: torchrun training_code.py 20 5"
        )
    main(args.total_epochs, args.save_every, args.batch_size, args.snapshot_path)
