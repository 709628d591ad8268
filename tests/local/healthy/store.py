"""Ranks meet by the keys of the store instead of a collective."""

# -j 2x1 : 2
import datetime
import os
import sys
import time

import torch.distributed as dist

rank = int(os.environ["RANK"])
address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
store = dist.TCPStore(address, port, 2, rank == 0, datetime.timedelta(minutes=30))
if rank == 0:
    time.sleep(float(sys.argv[1]))
    store.set("data", "ready")
store.wait(["data"], datetime.timedelta(minutes=30))
assert store.get("data") == b"ready"
store.add("gone", 1)
while rank == 0 and store.add("gone", 0) < 2:
    time.sleep(0.05)
print("healthy")
