"""An application of Hydra's: every rank writes its configuration and its log into one directory, rank 0 the weights."""

import logging
import os
from pathlib import Path

import hydra
import torch
import torch.distributed as dist
from common import EPOCHS, Text, TinyGPT, loss_of, report, saved
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

log = logging.getLogger(__name__)


@hydra.main(version_base=None, config_path="hydra_conf", config_name="config")
def main(configuration):
    dist.init_process_group("gloo")
    torch.manual_seed(configuration.seed)
    folder = Path(HydraConfig.get().runtime.output_dir) / "weights"
    model = TinyGPT(configuration.model.width)
    optimizer = instantiate(configuration.optimizer, params=model.parameters())
    first = 0
    if files := sorted(folder.glob("epoch=*.pt")):
        checkpoint = torch.load(files[-1])
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first = checkpoint["epoch"]
    log.info("rank %s begins with epoch %s", os.environ["RANK"], first)
    model = DistributedDataParallel(model)
    data, losses = Text(), []
    loader = DataLoader(data, configuration.batch, sampler=DistributedSampler(data))
    for epoch in range(first, EPOCHS):
        loader.sampler.set_epoch(epoch)
        for tokens, targets in loader:
            loss = loss_of(model(tokens), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if dist.get_rank() == 0:
            folder.mkdir(exist_ok=True)
            checkpoint = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(checkpoint | {"epoch": epoch + 1}, folder / f"epoch={epoch + 1:03d}.pt")
            saved(epoch + 1)
        dist.barrier()
    report(first, losses, model.parameters())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
