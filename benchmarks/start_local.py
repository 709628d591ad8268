"""Command to first optimizer step with two workers on this machine, against torchrun. Goal: at most 0.7 of its time.

python benchmarks/start_local.py [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measure import command_to_first_step, first_step_alone, interleaved, table, usual_environment

BIN = Path(sys.executable).parent

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
with tempfile.TemporaryDirectory() as home:
    env = usual_environment() | {"SWARMTRAIN_HOME": home, "OMP_NUM_THREADS": "1"}
    script = str(first_step_alone(home))
    run = [str(BIN / "swarmtrain"), "run", "--on", "local"]

    def swarmtrain(start: str) -> float:
        return command_to_first_step([*run, "-j", "1x2", "--start", start, script], 2, env)

    def torchrun() -> float:
        return command_to_first_step([str(BIN / "torchrun"), "--nproc-per-node", "2", script], 2, env)

    swarmtrain("warm")  # whose modules Python compiles once
    seconds = interleaved(
        rounds,
        {
            "torchrun --nproc-per-node 2": torchrun,
            "swarmtrain run --on local -j 1x2": lambda: swarmtrain("warm"),
            "the same, --start cold": lambda: swarmtrain("cold"),
        },
    )
print()
print(table(seconds, "torchrun --nproc-per-node 2"))
