"""Two process groups beside the world's, used in turns."""

# -j 2x2
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
rows = [dist.new_group([0, 1]), dist.new_group([2, 3])]
columns = [dist.new_group([0, 2]), dist.new_group([1, 3])]
for _ in range(50):
    value = torch.tensor(float(rank))
    dist.all_reduce(value, group=rows[rank // 2])
    dist.all_reduce(value, group=columns[rank % 2])
    assert value == 6
dist.barrier()
print("healthy")
dist.destroy_process_group()
