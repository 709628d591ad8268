"""Handlers for signals, of which some come: an alarm, and one that the script sends itself."""

# -j 1x2
import os
import signal
import time

import torch
import torch.distributed as dist

seen = []
for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: seen.append(number))
dist.init_process_group("gloo")
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
for step in range(30):
    dist.all_reduce(torch.ones(10))
    if step == 10:
        os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.02)
signal.setitimer(signal.ITIMER_REAL, 0)
assert signal.SIGALRM in seen and signal.SIGUSR1 in seen
print("healthy")
dist.destroy_process_group()
