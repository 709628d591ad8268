"""torch's C++ library, loaded by a thread while the warm parent imports what needs no torch. `preload` calls this.

The load registers operators one by one, all of it without Python's lock. Nothing is
imported that torch would not import, nothing in the thread, and what a fork of this process finds is the same.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import threading
from pathlib import Path

# What torch._dynamo imports anyway, of which sympy takes long. First those that load something themselves:
# libraries are loaded one at a time, so they would wait.
_MEANWHILE = ("cmath", "unicodedata", "decimal", "subprocess", "sympy")
# A build for GPUs chooses among versions of their libraries before it loads its own.
_OF_GPUS = ("libtorch_cuda.so", "libtorch_hip.so", "libtorch_xpu.so")


def load_library() -> None:
    """Have it in this process, with no thread left, where torch's build is one for processors."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return
    libraries = Path(found.submodule_search_locations[0]) / "lib"
    if any((libraries / name).exists() for name in _OF_GPUS):
        return
    load = ctypes.CDLL(None).dlopen  # Python's own way to it would hold its lock
    load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p

    def work() -> None:  # as torch's own import does
        load(bytes(libraries / "libtorch_global_deps.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
        load(bytes(libraries / "libtorch.so"), os.RTLD_NOW)

    *compiled, last = _MEANWHILE
    for name in compiled:
        importlib.import_module(name)
    # Named, as Python counts those that are not: the program's first is to be its first.
    thread = threading.Thread(target=work, name="libtorch")
    thread.start()
    try:
        importlib.import_module(last)
    finally:
        thread.join()  # no fork of a process with two threads
