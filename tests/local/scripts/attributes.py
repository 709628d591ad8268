"""Prints what a program can see of how it was started, as JSON."""

import ctypes
import gc
import json
import multiprocessing.process
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path


def table():
    module = sys.modules["__main__"]
    values = {
        f"__main__.{name}": repr(value) for name, value in vars(module).items() if name.startswith("__")
    }
    values["__main__.__loader__"] = str(vars(module.__loader__))
    values["this is __main__"] = vars(module) is globals()
    values["alias of multiprocessing"] = sys.modules.get("__mp_main__") is module
    values["argv"] = sys.argv
    values["orig_argv"] = sys.orig_argv[1:]
    values["command line"] = str(Path("/proc/self/cmdline").read_bytes().split(b"\0")[:2])
    values["path"] = sys.path
    values["meta_path"] = [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path]
    values["flags"] = str(sys.flags)
    values["excepthook"] = sys.excepthook is sys.__excepthook__
    values["warnings"] = sorted(map(str, warnings.filters))
    values["gc"] = gc.isenabled(), gc.get_threshold()
    values["recursion limit"] = sys.getrecursionlimit()
    values["cwd"] = str(Path.cwd())
    values["umask"] = os.umask(0o77)
    values["directory of multiprocessing"] = multiprocessing.process.ORIGINAL_DIR
    values["threads"] = [thread.name for thread in threading.enumerate()]
    values["session"] = os.getsid(0) == os.getpid() == os.getpgid(0)
    values["signals"] = {
        str(number): str(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)
    }
    values["mask"] = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    files = sorted(Path("/proc/self/fd").iterdir())
    values["files"] = {
        file.name: str(file.readlink()) for file in files if file.is_symlink() and int(file.name) > 2
    }
    values["stdin"] = str(Path("/proc/self/fd/0").readlink())
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        values[name + " object"] = [
            repr(stream),
            stream.encoding,
            stream.errors,
            stream.isatty(),
            stream.fileno(),
        ]
        values[name + " is __std__"] = stream is getattr(sys, f"__{name}__")
    values["environment"] = {name: os.environ[name] for name in sorted(os.environ)}
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    values["environment of C"] = {
        name: os.fsdecode(getenv(os.fsencode(name)) or b"") for name in sorted(os.environ)
    }
    return values


print(re.sub(" at 0x[0-9a-f]+", "", json.dumps(table())))
