"""DeepSpeed on the CPU: rank 0 writes the model, each rank its part of the optimizer, and rank 0 `latest` at last."""

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

FOLDER = "checkpoints"
CONFIGURATION = {
    "train_micro_batch_size_per_gpu": BATCH,
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}

# Its all-reduce for the ranks of one machine is compiled when it is first used. With gloo's, no node needs a compiler.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main():
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(0)
    model = TinyGPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIGURATION)
    path, client_state = engine.load_checkpoint(FOLDER)
    first = client_state["epoch"] if path is not None else 0
    data, losses = Text(), []
    loader = DataLoader(data, BATCH, sampler=DistributedSampler(data))
    for epoch in range(first, EPOCHS):
        loader.sampler.set_epoch(epoch)
        for tokens, targets in loader:
            loss = loss_of(engine(tokens), targets)
            engine.backward(loss)
            engine.step()
            losses.append(loss.item())
        engine.save_checkpoint(FOLDER, client_state={"epoch": epoch + 1})
        saved(epoch + 1)
    report(first, losses, engine.module.parameters())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
