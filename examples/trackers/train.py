"""A training that Weights & Biases and MLflow keep book of: rank 0 alone speaks to them, by their own variables.

Nothing of swarmtrain is imported. Each tracker is used where it is installed.
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Trackers:
    """The trackers that are there, on rank 0; on the other ranks none."""

    def __init__(self, config):
        self.wandb = self.mlflow = None
        if dist.get_rank() != 0:
            return
        # The same in every generation of a run: after a failure the trackers go on with what they have.
        name = os.environ.get("SWARMTRAIN_RUN", "by-hand")
        try:
            import wandb

            self.wandb = wandb.init(id=name.replace(".", "-"), name=name, resume="allow", config=config)
        except ImportError:
            print("wandb is not installed")
        try:
            import mlflow

            self.mlflow = mlflow
            mlflow.start_run(run_name=name)
            mlflow.log_params(config)
        except ImportError:
            print("mlflow is not installed")

    def log(self, step, **values):
        if self.wandb is not None:
            self.wandb.log(values, step=step)
        if self.mlflow is not None:
            self.mlflow.log_metrics(values, step=step)

    def close(self):
        if self.wandb is not None:
            self.wandb.finish()
        if self.mlflow is not None:
            self.mlflow.end_run()


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    model = DistributedDataParallel(nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trackers = Trackers({"lr": 0.05, "world_size": dist.get_world_size()})
    for step in range(1, 101):
        inputs = torch.randn(32, 16)
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            trackers.log(step, loss=loss.item())
    trackers.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
