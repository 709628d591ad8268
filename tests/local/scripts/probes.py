"""Reports of what a program finds and what becomes of what it does, one function each; named ones are run in order.

``python probes.py NAME...`` prints lines that must be the same under every way to start a program.
"""

# ruff: noqa: PTH109
import os
import sys

if "early" in sys.argv:  # from a file, since a program that names such variables is started cold for that
    EARLY = dict(line.strip().split("=") for line in open("variables"))  # noqa: SIM115
    os.environ.update(EARLY)
if "vendored" in sys.argv:
    sys.path.insert(0, "vendored")
    import colorsys

import functools

import torch
import torch.distributed

print = functools.partial(print, flush=True)  # workers' output is line-buffered: people watch


def early():
    import torch._dynamo.config

    print(torch.get_num_threads(), torch._dynamo.config.disable, bool(torch.jit._state._enabled))
    print({name: os.environ.get(name) for name in EARLY})


def vendored():
    print(colorsys.__file__, sys.path[:2])


def modules():
    print(sorted(name for name in sys.modules if name.startswith(("torch", "numpy", "sympy"))))
    mine = ("swarmtrain", "_distutils_hack", "__editable__", "opcode")
    print(
        sorted(
            {name.partition(".")[0] for name in sys.modules if name[0] != "_" and not name.startswith(mine)}
        )
    )


def threads():
    import threading

    print(
        [thread.name for thread in threading.enumerate()],
        threading.current_thread() is threading.main_thread(),
    )
    print(torch.get_num_threads(), torch.get_num_interop_threads(), threading.stack_size())


def signals():
    import signal

    print([str(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)])
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), signal.set_wakeup_fd(-1), signal.getitimer(0))


def files():
    import resource
    from pathlib import Path

    print(sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())[:-1])
    print([resource.getrlimit(number) for number in range(16)])
    print(
        Path("/proc/self/cmdline").read_bytes().replace(b"-u\0", b"").split(b"\0")[:2],
        Path("/proc/self/comm").read_text(),
    )
    print(os.umask(0o22), os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)))
    print(sys.stdin.read() == "", sys.stdin.isatty(), sys.stdout.encoding, sys.stderr.errors)


def interpreter():
    import faulthandler
    import gc
    import locale
    import tracemalloc

    print(
        sys.flags,
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.getdlopenflags(),
        sys.dont_write_bytecode,
    )
    print(
        gc.isenabled(),
        gc.get_threshold(),
        gc.get_debug(),
        tracemalloc.is_tracing(),
        faulthandler.is_enabled(),
    )
    print(locale.getlocale(), locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding())
    print(sys.gettrace(), sys.getprofile(), sys.excepthook is sys.__excepthook__, sys.get_asyncgen_hooks())


def program():
    import __main__

    names = ("__name__", "__package__", "__spec__", "__file__", "__doc__", "__annotations__", "__cached__")
    print({name: getattr(__main__, name, "none") for name in names}, sorted(vars(__main__)))
    print(sys.argv, os.getcwd(), sys.executable, sys.orig_argv[1:], [entry for entry in sys.path if entry])


def logs():
    import logging
    import warnings

    root = logging.getLogger()
    print(root.level, root.handlers, logging.getLogger("torch").level, logging.getLogger("torch").handlers)
    logging.warning("to standard error")
    warnings.warn("careful", stacklevel=1)
    warnings.warn("old", DeprecationWarning, stacklevel=1)


def chance():
    import random
    import uuid

    draws = [random.random(), torch.rand(1).item(), uuid.uuid4().int, hash("a")]
    child = os.popen(f"{sys.executable} -c \"print(hash('a'))\"").read()
    print(len(set(draws)), sys.flags.hash_randomization, int(child) == draws[3])
    torch.manual_seed(1)
    print(torch.rand(3).tolist(), torch.randperm(5).tolist())


def tasks():
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def main():
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__name__

    print(asyncio.run(main()))
    with ThreadPoolExecutor(2) as pool:
        print(list(pool.map(abs, [-1, 2])))


class Sent:
    pass


def child(queue):
    queue.put((__name__, sys.argv, Sent.__module__, torch.get_num_threads()))


def children():
    import multiprocessing
    import pickle

    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(method, *queue.get())
        process.join()
        print(process.exitcode)
    print(type(pickle.loads(pickle.dumps(Sent()))) is Sent)


def trained():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) / (index + 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        optimizer.zero_grad()
        loss = model(torch.linspace(0, step + 1, 64).view(8, 8)).square().mean()
        loss.backward()
        optimizer.step()
        print(f"{loss.item():.9f}")
    print("torch._dynamo" in sys.modules)


def endings():
    import atexit
    import gzip
    import threading

    global left
    left = gzip.open("left.gz", "wt")  # noqa: SIM115
    left.write("left open")
    atexit.register(print, "first registered")
    atexit.register(lambda: print(sys.modules["__main__"].__file__))
    threading.Thread(target=lambda: print("a thread")).start()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"# {name}")
        globals()[name]()
