"""Python objects go from rank to rank."""

# -j 1x2
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
for number in range(20):
    gathered = [None, None]
    dist.all_gather_object(gathered, {"rank": rank, "number": number})
    assert [each["rank"] for each in gathered] == [0, 1]
    handed = [None]
    dist.scatter_object_list(handed, [["zero"], ["one"]] if rank == 0 else None, src=0)
    assert handed[0] == (["zero"], ["one"])[rank]
print("healthy")
dist.destroy_process_group()
