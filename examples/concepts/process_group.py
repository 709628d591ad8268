"""The words of distributed training, as each process sees them.

swarmtrain run --on local -j 2x2 process_group.py
torchrun --nproc-per-node 4 process_group.py
"""

import os

import torch
import torch.distributed as dist

# The launcher has told this process who it is: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
local_rank, master = os.environ["LOCAL_RANK"], os.environ["MASTER_ADDR"]

# Joining the group waits until all WORLD_SIZE processes have come to the master's address.
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

print(
    f"rank {dist.get_rank()} of {dist.get_world_size()}, local rank {local_rank}, "
    f"backend {dist.get_backend()}, master {master}"
)

dist.barrier()  # whoever leaves while another one still connects breaks its connection
dist.destroy_process_group()
