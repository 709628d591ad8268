"""How long a snapshot keeps the training from training, against torch.save. Goal: at most a tenth of its time.

One process trains 23.6 million parameters with AdamW (283 MB of state) on the CPU. In turns, after some undisturbed
steps, it takes a snapshot in each way. The *stall* is the time for which the thread that trains is kept from it: in the
call, and where the next optimizer step waits for the copy. What the background work takes from the cores shows in
*slower steps*: by how much the steps until the snapshot is written took longer, stall included, than undisturbed ones.

    python benchmarks/snapshot_stall.py [ROUNDS] [DEVICE]     (7 cpu; DEVICE cuda: the same on a GPU)
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.trainer.snapshots.disk import DISK
from swarmtrain.trainer.snapshots.writer import Content, SnapshotWriter, Tier

WIDTH, LAYERS, BATCH = 1400, 12, 256

GOAL = 0.1  # of torch.save's stall


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Training:
    """A training whose optimizer steps can be timed."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.device = torch.device(device)
        layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        self.model = nn.Sequential(*layers).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.inputs = torch.randn(BATCH, WIDTH, device=self.device)
        self.waited = 0.0
        self._entered = 0.0
        # The writer's hook comes between these two, as it is added in between.
        self.optimizer.register_step_pre_hook(self._enter)

    def _enter(self, *_: object) -> None:
        self._entered = time.perf_counter()

    def leave(self, *_: object) -> None:
        self.waited = time.perf_counter() - self._entered

    def step(self) -> float:
        began = time.perf_counter()
        self.optimizer.zero_grad()
        self.model(self.inputs).square().mean().backward()
        self.optimizer.step()
        self.settle()
        return time.perf_counter() - began

    def settle(self) -> None:
        """Until a GPU has done what it was given, so that times are of steps that are over."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def state(self) -> dict[str, object]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}


def synchronous(training: Training, path: Path, *, sync: bool) -> None:
    with open(path, "wb") as file:
        torch.save(training.state(), file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def measure(
    training: Training, base: float, take: Callable[[], None], busy: Callable[[], bool]
) -> tuple[float, float, int]:
    """Stall, slower steps (both seconds), and the most memory held beyond that before (bytes)."""
    before = resident()
    began = time.perf_counter()
    take()
    stall = time.perf_counter() - began
    slower, most = stall, resident()
    number = 0
    while number == 0 or busy():
        slower += training.step() - base
        stall += training.waited if number == 0 else 0.0
        most = max(most, resident())
        number += 1
    return stall, slower, most - before


def main() -> int:
    """1: the goal was missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    training, writer = Training(sys.argv[2] if len(sys.argv) > 2 else "cpu"), SnapshotWriter()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        directory = Path(name)
        tier = Tier("disk", directory, 1, DISK)
        steps = iter(range(1, 1000))

        def ours(*, at_once: bool = False) -> None:
            # Of tensors that belong to no optimizer nobody knows when they change: they are copied at once.
            optimizers = [] if at_once else [training.optimizer]
            content = Content(training.state, {}, tuple(training.model.parameters()), optimizers)
            position = snapshot_files.Position(0, 0, next(steps), 1, "")
            writer.start(content, training.state(), position, lambda size: [tier])

        for _ in range(3):
            training.step()
        ways: dict[str, Callable[[], None]] = {
            "torch.save": lambda: synchronous(training, directory / "plain.pt", sync=False),
            "torch.save and fsync": lambda: synchronous(training, directory / "plain.pt", sync=True),
            "swarmtrain": ours,
            "the same, all copied at once": lambda: ours(at_once=True),
        }
        held = resident()
        ours()
        training.optimizer.register_step_pre_hook(training.leave)
        training.step()
        first = resident() - held
        writer.wait()
        found: dict[str, list[tuple[float, float, int]]] = {way: [] for way in ways}
        for number in range(rounds):
            for way, take in ways.items():
                os.sync()
                base = statistics.median(training.step() for _ in range(5))
                found[way].append(measure(training, base, take, lambda: writer.busy))
                writer.outcomes()
                stall, slower, _ = found[way][-1]
                print(
                    f"round {number + 1}: {way}: step {base:.3f} s, stall {stall:.4f} s, slower {slower:.3f} s",
                    flush=True,
                )
        state = sum(
            each.numel() * each.element_size()
            for each in (
                *training.model.parameters(),
                *(
                    value
                    for state in training.optimizer.state.values()
                    for value in state.values()
                    if isinstance(value, torch.Tensor)
                ),
            )
        )
        against = statistics.median(stall for stall, _, _ in found["torch.save"])
        parameters = sum(each.numel() for each in training.model.parameters())
        print(f"\n{parameters / 1e6:.1f} M parameters, {state / 1e6:.0f} MB of state\n")
        print("| what | median stall ms | min | max | ratio | slower steps ms | extra memory MB |")
        print("|---|---|---|---|---|---|---|")
        for way, values in found.items():
            stalls = [1e3 * stall for stall, _, _ in values]
            slower = 1e3 * statistics.median(each for _, each, _ in values)
            extra = max(each for _, _, each in values) + (0 if way.startswith("torch") else first)
            print(
                f"| {way} | {statistics.median(stalls):.1f} | {min(stalls):.1f} | {max(stalls):.1f} "
                f"| {statistics.median(stalls) / 1e3 / against:.3f} | {slower:.0f} | {extra / 1e6:.0f} |"
            )
        mine = statistics.median(stall for stall, _, _ in found["swarmtrain"])
        return int(mine > GOAL * against)


if __name__ == "__main__":
    sys.exit(main())
