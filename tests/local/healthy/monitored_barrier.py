"""monitored_barrier around phases of different lengths."""

# -j 1x2 : 2
import datetime
import sys
import time

import torch.distributed as dist

dist.init_process_group("gloo")
for number in range(4):
    time.sleep(float(sys.argv[1]) / 4 * (dist.get_rank() == number % 2))
    dist.monitored_barrier(timeout=datetime.timedelta(minutes=10))
print("healthy")
dist.destroy_process_group()
