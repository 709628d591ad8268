"""What a plain script's step costs more than under torchrun, two workers on this machine. Goal: at most 1 %.

python benchmarks/step_overhead.py [ROUNDS [STEPS]]

Exits with 1 where it is more. The wall time of a step means something on a quiet machine only; the processor time of
what runs beside the workers, in parts of one processor, also on a busy one.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import interleaved, table

BIN = Path(sys.executable).parent
SCRIPT = str(Path(__file__).with_name("step_train.py"))
GOAL = 1.01
_TOLD = re.compile(r"told by rank \d+: (\{.*\})")

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
steps = sys.argv[2] if len(sys.argv) > 2 else "200"


def bare(env: dict[str, str]) -> list[str]:
    """Two processes and nothing else."""
    ranks = []
    for rank in ("0", "1"):
        mine = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        command = [sys.executable, SCRIPT, steps]
        ranks.append(
            subprocess.Popen(
                command, env=env | mine | {"MASTER_PORT": "29517"}, stdout=subprocess.PIPE, text=True
            )
        )
    return [rank.communicate()[0] for rank in ranks]


def command(env: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:], SCRIPT, steps], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return [done.stdout, done.stderr]


def step(outputs: list[str]) -> float:
    """Seconds of a step: the mean of the ranks' medians."""
    told = [json.loads(match) for output in outputs for match in _TOLD.findall(output)]
    if len(told) != 2:
        raise SystemExit(f"only {len(told)} of 2 ranks have told:\n{outputs}")
    return statistics.mean(each["wall"] for each in told)


with tempfile.TemporaryDirectory() as home:
    env = os.environ | {"SWARMTRAIN_HOME": home, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run = ("swarmtrain", "run", "--on", "local", "-j", "1x2")
    against = "torchrun --nproc-per-node 2"
    rivals: dict[str, Callable[[], float]] = {
        "two bare processes": lambda: step(bare(env)),
        against: lambda: step(command(env, "torchrun", "--nproc-per-node", "2")),
        "swarmtrain run --on local -j 1x2": lambda: step(command(env, *run)),
        "the same, --start cold": lambda: step(command(env, *run, "--start", "cold")),
    }
    seconds = interleaved(rounds, rivals)

print()
print(table(seconds, against))
medians = {name: statistics.median(values) for name, values in seconds.items()}
ratios = [medians[name] / medians[against] for name in list(rivals)[2:]]
print(f"\nratio to torchrun, to a thousandth: warm {ratios[0]:.3f}, cold {ratios[1]:.3f}; goal {GOAL}")
sys.exit(0 if max(ratios) <= GOAL else 1)
