"""No torch at all: a simulation that sleeps and counts."""

# -j 2x1 : 2
import json
import os
import sys
import time
from pathlib import Path

for tick in range(10):
    time.sleep(float(sys.argv[1]) / 10)
    Path(f"state-{os.environ['RANK']}.json").write_text(json.dumps({"tick": tick}))
print("healthy")
