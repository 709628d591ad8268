"""What torch's flight recorder costs a step of about 2 ms, two ranks on this machine with gloo. Goal: below 1 %.

python benchmarks/flight_overhead.py [TURNS [STEPS]]     (100 turns of 50 steps)

Two groups train the same in turns, one with the recorder as it is on by default and one with TORCH_FR_BUFFER_SIZE=0;
whoever has no turn waits. Each turn gives one ratio. The time that a dump takes, and the step in which one is made, are
printed, too. Exits with 1 where the lower end of the 95 % confidence interval of the median ratio is above the goal.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import sys
import time
from multiprocessing.connection import Connection

GOAL = 1.01
RANKS = 2


def train(rank: int, port: int, size: str | None, orders: Connection) -> None:
    """One rank: so many steps for each order, and how long they took; for 0 a dump."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    if size is not None:
        os.environ["TORCH_FR_BUFFER_SIZE"] = size
    import torch
    from torch import distributed, nn
    from torch._C import _distributed_c10d

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(*(nn.Linear(160, 160) for _ in range(4))))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(64, 160)
    while True:
        steps = orders.recv()
        began, used = time.perf_counter(), time.process_time()
        if steps is None:
            os._exit(0)
        if steps == 0:
            orders.send(len(_distributed_c10d._dump_fr_trace()))
        for _ in range(steps):
            model(batch).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        orders.send((time.perf_counter() - began, time.process_time() - used))


class Group:
    """Ranks that train together when they are told to."""

    def __init__(self, port: int, size: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders: list[Connection] = []
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            context.Process(target=train, args=(rank, port, size, theirs), daemon=True).start()
            self._orders.append(ours)

    def order(self, steps: int | None) -> None:
        """So many steps; none: the end."""
        for each in self._orders:
            each.send(steps)

    def turn(self, steps: int) -> tuple[float, float]:
        """Seconds of a step, and processor seconds of all ranks, in a turn of its own."""
        self.order(steps)
        told = [each.recv() for each in self._orders]
        return max(took for took, _ in told) / steps, sum(used for _, used in told) / steps

    def dump(self) -> tuple[float, int]:
        """Seconds and bytes of one dump, of rank 0."""
        self.order(0)
        size, (seconds, _), *_ = [each.recv() for each in self._orders for _ in range(2)]
        return seconds, size


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, by drawing again."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def main(turns: int = 100, steps: int = 50) -> None:
    """Measure, print, and exit."""
    port = random.randint(20000, 30000)
    recorded, without = Group(port, None), Group(port + 1, "0")
    for group in (recorded, without):
        group.turn(200)
    pairs = []
    for turn in range(turns):
        order = (recorded, without) if turn % 2 else (without, recorded)
        took = {group: group.turn(steps) for group in order}
        pairs.append((took[recorded], took[without]))
    lows = []
    for what, which in (("time", 0), ("processor time of both ranks", 1)):
        ratios = [one[which] / other[which] for one, other in pairs]
        low, high = interval(ratios)
        lows.append(low)
        ours, theirs = (statistics.median(each[side][which] for each in pairs) * 1000 for side in (0, 1))
        print(
            f"{what} of a step: {ours:.3f} ms recorded, {theirs:.3f} ms without ({turns} turns of {steps} steps)"
        )
        print(
            f"  ratio: {statistics.median(ratios):.4f} (95 %: {low:.4f} to {high:.4f}); goal: at most {GOAL}"
        )
    for name, group in (("recorded", recorded), ("without", without)):
        seconds, size = group.dump()
        print(f"{name}: a dump takes {seconds * 1000:.1f} ms and has {size} bytes")
        group.order(None)
    sys.exit(min(lows) > GOAL)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
