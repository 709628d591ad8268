"""A small convolutional network on real handwritten digits, on one process or on many.

    python train.py
    torchrun --nproc_per_node=3 train.py

The 1797 digits of 8 x 8 pixels come with scikit-learn, so nothing is downloaded.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything

TEST_SIZE = 360


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * 4 * 4, 10),
        )


def digits():
    """The digits as (train, test), split the same way on every machine."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target, dtype=torch.long)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def accuracy(outputs, targets):
    return outputs.argmax(1) == targets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--batch", type=int, default=96, help="samples of a step, over all ranks (default: 96)"
    )
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    args = parser.parse_args()

    seed_everything(0)
    train_data, test_data = digits()
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    steps = args.epochs * -(-len(train_data) // args.batch)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    options = Options(batch_size=args.batch, precision=args.precision, snapshot=Every(epochs=2))

    with Trainer(
        model,
        train_data,
        optimizer,
        loss=F.cross_entropy,
        eval_data=test_data,
        metrics={"accuracy": accuracy},
        scheduler=scheduler,
        options=options,
    ) as trainer:
        result = trainer.fit(epochs=args.epochs)
        trainer.reporter.say(f"test accuracy {result['accuracy']:.2%} of {len(test_data)} digits")


if __name__ == "__main__":
    main()
