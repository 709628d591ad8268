"""How long `swarmtrain --help` takes. Goal: under 0.15 s.

python benchmarks/help.py [ROUNDS]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from measure import interleaved, table

BIN = Path(sys.executable).parent


def timed(*argv: str) -> float:
    began = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
seconds = interleaved(
    rounds,
    {
        "swarmtrain --help": lambda: timed(str(BIN / "swarmtrain"), "--help"),
        "torchrun --help": lambda: timed(str(BIN / "torchrun"), "--help"),
        "python -c pass": lambda: timed(sys.executable, "-c", "pass"),
    },
)
print()
print(table(seconds, "torchrun --help"))
