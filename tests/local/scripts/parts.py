"""Saves with torch.distributed.checkpoint, a part of each rank, and goes on from the newest that it finds.

argv[1] is a directory outside of the run. Step 3 is not begun before `go` is there, and rank 0 stands still in it, for
as long as `stop` is not, where argv[2] says: before it writes its `part`, or before the `index`.
"""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

outside, where = Path(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo")
rank, generation = dist.get_rank(), os.environ["SWARMTRAIN_GENERATION"]


class Slow(dcp.FileSystemWriter):
    """Of the third step."""

    def write_data(self, *args, **named):
        return self._stand_still("part", super().write_data, *args, **named)

    def finish(self, *args, **named):
        return self._stand_still("index", super().finish, *args, **named)

    def _stand_still(self, point, write, *args, **named):
        if rank == 0 and point == where:
            (outside / "stands").touch()
            while not (outside / "stop").exists():
                time.sleep(0.05)
        return write(*args, **named)


def states(step):
    return {f"weights {each}": torch.full((1000,), step + each / 4) for each in range(2)}


found = sorted(Path("steps").glob("step-*"))
start = 0
if found:
    state = states(0)
    dcp.load(state, checkpoint_id=found[-1])
    start = int(found[-1].name.partition("-")[2])
    assert all(bool((state[name] == each).all()) for name, each in states(start).items()), (
        f"{found[-1]} is of several steps: {state}"
    )
told = outside / f"from-{generation}-{rank}"
told.with_suffix(".new").write_text(str(start))
told.with_suffix(".new").rename(told)

step = start
while not (outside / "stop").exists():
    while step == 2 and not ((outside / "go").exists() or (outside / "stop").exists()):
        time.sleep(0.05)
    dist.barrier()
    if (outside / "stop").exists() or generation != "1":
        time.sleep(0.2)
        continue
    step += 1
    place = f"steps/step-{step}"
    mine = {name: each for name, each in states(step).items() if name == f"weights {rank}"}
    dcp.save(mine, storage_writer=(Slow if step == 3 else dcp.FileSystemWriter)(place))
