"""Starts everything that could outlive a worker, prints the processes' ids, and waits."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import torch
from torch.utils.data import DataLoader


class Endless(torch.utils.data.IterableDataset):
    """Never ends, so its DataLoader's processes stay."""

    def __iter__(self):
        while True:
            yield 1


def daemon(stubborn, execute):
    """A process that forks twice and leaves the session, as daemons do; its id."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writing, b"%d" % pid)
            os._exit(0)
        if stubborn:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        if execute:
            os.execvp("sleep", ["sleep", "600"])
        os.closerange(0, 100)
        while True:
            time.sleep(600)
    os.wait()
    return int(os.read(reading, 20))


if __name__ == "__main__":
    pids = [daemon(stubborn, execute) for stubborn in (False, True) for execute in (False, True)]
    group = subprocess.Popen(["sleep", "600"], process_group=0) if sys.version_info >= (3, 11) else None
    pids += [process.pid for process in (subprocess.Popen(["sleep", "600"]), group) if process]
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    batches = iter(DataLoader(Endless(), num_workers=2))
    next(batches)
    children = {child.pid for child in multiprocessing.active_children()}
    print("family", *sorted(children | set(pids)))
    if "exit" in sys.argv:
        os._exit(0)
    time.sleep(600)
