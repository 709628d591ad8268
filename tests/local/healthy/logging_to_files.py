"""The logging module, on stderr and into files that rotate."""

# -j 1x2
import logging
import logging.handlers
import os

import torch
import torch.distributed as dist

rank = os.environ["RANK"]
rotating = logging.handlers.RotatingFileHandler(f"rank{rank}.log", maxBytes=2000, backupCount=2)
handlers = [logging.StreamHandler(), rotating]
logging.basicConfig(level=logging.INFO, handlers=handlers, format=f"%(asctime)s [{rank}] %(message)s")
dist.init_process_group("gloo")
for step in range(60):
    dist.all_reduce(torch.ones(10))
    logging.info("step %d", step)
logging.shutdown()
print("healthy")
dist.destroy_process_group()
