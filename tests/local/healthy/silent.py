"""Nothing is printed, and nothing is done, for as long as it takes somebody else."""

# -j 1x2 : 2
import sys
import time

import torch.distributed as dist

dist.init_process_group("gloo")
time.sleep(float(sys.argv[1]))
dist.barrier()
print("healthy")
dist.destroy_process_group()
