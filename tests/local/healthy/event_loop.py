"""Training as a coroutine, beside one that reports."""

# -j 1x2
import asyncio

import torch
import torch.distributed as dist


async def report(steps):
    while True:
        await asyncio.sleep(0.1)
        print(f"at step {len(steps)}")


async def main():
    dist.init_process_group("gloo")
    steps = []
    reporting = asyncio.create_task(report(steps))
    for number in range(30):
        await asyncio.to_thread(dist.all_reduce, torch.ones(100))
        steps.append(number)
        await asyncio.sleep(0.01)
    reporting.cancel()
    print("healthy")
    dist.destroy_process_group()


asyncio.run(main())
