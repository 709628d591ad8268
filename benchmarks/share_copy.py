"""What the copies that other nodes get of checkpoints cost a training on two nodes of the lab, per step.

python benchmarks/share_copy.py [free|RATE [ROUNDS]]     (such as 200mbit; 5 rounds)

One training writes a checkpoint of 25 MB in each phase of some 15 seconds: in turns one that its job keeps on the node
(`per_node`), and one that is shared. On a free link a phase is measured from the moment that its checkpoint is there,
with all that sharing it costs; goal: less than 2 %. On a limited one while it is being copied; goal: less than
`share_rate`, and copies have less than that of the link. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass

from recover_trainings import HERE, Bench
from step_overhead import interval

from swarmtrain import Job
from swarmtrain.lab.lab import Lab

NODES = ("lab-2", "lab-3")
SHARE = 0.1
FREE_GOAL = 0.02
SECONDS = 15.0
SETTLE = 4.0  # until a checkpoint has come to rest and is copied


@dataclass(frozen=True)
class Phase:
    """What rank 0 has measured: bytes that its node has sent, too."""

    steps: int
    seconds: float
    sent: int

    @property
    def step(self) -> float:
        return self.seconds / self.steps


def measure(bench: Bench, rounds: int, settle: float) -> list[tuple[Phase, Phase]]:
    """The phases of one training, kept and shared, in pairs."""
    job = Job(
        name="share",
        script="share_train.py",
        files=("share_train.py",),
        args=(str(2 * rounds), str(SECONDS), str(settle)),
        image=bench.image,
        nodes=NODES,
        workers_per_node=1,
        env={"OMP_NUM_THREADS": "1"},
        share="auto",
        per_node=("kept.pt",),
        share_rate=SHARE,
    )
    handle = bench.client.run(job)
    try:
        result = handle.wait(timeout=rounds * 2 * (SECONDS + settle + 10) + 120)
        text = [line.text for piece in handle.logs() for line in piece]
    finally:
        handle.remove(force=True)
    if result.state != "succeeded":
        raise SystemExit(f"the training {result.state}: {result.reason}")
    found = [line.split()[1:] for line in text if line.startswith("phase ")]
    phases = [Phase(int(steps), float(seconds), int(sent)) for _, steps, seconds, sent in found]
    return list(zip(phases[::2], phases[1::2], strict=True))


def limit(lab: Lab, rate: str | None) -> float | None:
    """Limit the links of both nodes, or lift that; bytes a second."""
    for name in NODES:
        lab.node(name).limit(rate)
    bits = lab.node(NODES[0]).rate()
    return None if bits is None else bits / 8


def main() -> int:
    rate = sys.argv[1] if len(sys.argv) > 1 else "free"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    os.environ.pop("DOCKER_CONTEXT", None)
    os.chdir(HERE)
    bench = Bench()
    loads = [os.getloadavg()[0]]
    try:
        link = limit(bench.lab, None if rate == "free" else rate)
        pairs = measure(bench, rounds, 0.0 if link is None else SETTLE)
    finally:
        limit(bench.lab, None)
    loads.append(os.getloadavg()[0])
    ratios = [shared.step / kept.step for kept, shared in pairs]
    # What the node has sent beyond its gradients, by the second.
    copied = statistics.median(
        (shared.sent - kept.sent / kept.steps * shared.steps) / shared.seconds for kept, shared in pairs
    )
    if copied * SECONDS < 1e6:
        raise SystemExit(f"next to nothing was copied: {copied * SECONDS / 1e6:.2f} MB in a phase")
    goal = FREE_GOAL if link is None else SHARE
    used = f"{copied / link:.1%}" if link is not None else ""
    kept, shared = (
        1000 * statistics.median(each.step for each in column) for column in zip(*pairs, strict=True)
    )
    low, high = interval(ratios)
    print("| link | kept, ms a step | shared | ratio, 95 % interval | goal | copied MB/s | of the link |")
    print("|---|---|---|---|---|---|---|")
    cells = [
        rate,
        f"{kept:.1f}",
        f"{shared:.1f}",
        f"{statistics.median(ratios):.3f}, {low:.3f} to {high:.3f}",
        f"< {1 + goal:.2f}",
        f"{copied / 1e6:.2f}",
        used,
    ]
    print(f"| {' | '.join(cells)} |")
    print(
        f"{len(pairs)} rounds; load average on {os.cpu_count()} cores: {loads[0]:.1f} before, {loads[1]:.1f} after."
    )
    reached = statistics.median(ratios) < 1 + goal and (link is None or copied < SHARE * link)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
