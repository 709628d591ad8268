"""Arguments with dashes, lists and values that begin with one."""

# -j 1x1 : --lr 1e-3 --layers 8 16 --name=a-b --offset -3 --no-bias
import argparse

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int, nargs="+")
parser.add_argument("--name")
parser.add_argument("--offset", type=int)
parser.add_argument("--no-bias", action="store_true")
args = parser.parse_args()
assert vars(args) == {"lr": 1e-3, "layers": [8, 16], "name": "a-b", "offset": -3, "no_bias": True}
net = torch.nn.Sequential(*(torch.nn.Linear(size, size, bias=not args.no_bias) for size in args.layers[:1]))
net(torch.randn(2, 8)).sum().backward()
print("healthy")
