"""A training that ends in a way that no rule was made for. Some say words that sound like another kind's."""

import os
import signal
import subprocess
import sys
import threading
import time

RANK = int(os.environ["RANK"])


class Oops(Exception):
    """The script's own."""


def deep():
    def deeper(depth):
        return deeper(depth + 1)

    if RANK == 1:
        deeper(0)
    time.sleep(60)


def own_words():
    if RANK == 1:
        raise Oops("our users are out of memory, and there is no space left in the schedule")
    time.sleep(60)


def own_signal():
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(60)


def a_tool():
    if RANK == 1:
        told = "print('warning: CUDA out of memory is handled'); raise SystemExit(9)"
        subprocess.run([sys.executable, "-c", told], check=True)
    time.sleep(60)


def a_thread():
    def fail():
        os._exit(113)

    if RANK == 1:
        print("usage: 3 GB of 4 GB", flush=True)
        threading.Thread(target=fail).start()
    time.sleep(60)


def a_peer():
    """A server of the script's own has gone: its words are those of a lost rank."""
    if RANK == 1:
        raise ConnectionResetError("[Errno 104] Connection reset by peer")
    time.sleep(60)


globals()[sys.argv[1]]()
