"""What the warm parent imports, and when a worker needs a fresh interpreter all the same."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmtrain.protocol.spawner import SpawnWorker
from swarmtrain.worker.warm.library import load_library
from swarmtrain.worker.warm.recorder import ImportRecord
from swarmtrain.worker.warm.trial import READ_BY_LIBRARIES

# What a first training step imports besides torch itself, and seconds that it would cost every worker (torch 2.13):
# DistributedDataParallel's constructor pulls in torch._dynamo and with it sympy (2.1), a DataLoader its queues (0.1).
EARLY = (
    "torch.distributed",
    "torch.nn.parallel",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.utils.data.distributed",
    "torch.distributed.algorithms.ddp_comm_hooks.default_hooks",
    "numpy.random",
    "multiprocessing.popen_fork",
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.popen_forkserver",
    "multiprocessing.queues",
    "multiprocessing.synchronize",
)

# Variables that the interpreter, the C library or the numeric libraries read once, as they start. (PYTHONPATH is
# one too, but user.py lays the module path anew.) What torch's Python code reads is on record: see trial.py.
_READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", *READ_BY_LIBRARIES)

# An open device means that its driver is initialised, and a driver's state does not survive a fork.
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")


@dataclass(frozen=True)
class Preload:
    """How the imports of the warm parent went."""

    # its version; None when forking from this process would gain nothing or be unsafe
    torch: str | None = None
    seconds: float = 0.0
    error: str | None = None  # why torch is None, or which of the modules above could not be imported
    record: ImportRecord = field(default_factory=ImportRecord)  # what the imports imported and read
    environment: Mapping[str, str] = field(default_factory=dict)  # the variables that they found
    nccl: str = ""  # the version of torch's NCCL


def preload() -> Preload:
    """Import torch and what training uses of it, touching no device.

    Whatever goes wrong is reported, not raised: the workers then start cold, and show the error where the user looks.
    """
    began = time.monotonic()
    environment = dict(os.environ)
    # Without this, torch.cuda.is_available() at some library's import would initialise the driver.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    notes = []
    nccl = ""
    record = ImportRecord()
    gc.disable()
    try:
        with record.going_on():
            with contextlib.suppress(Exception):  # torch's own import says what is wrong
                load_library()
            torch = importlib.import_module("torch")
            for name in EARLY:
                try:
                    importlib.import_module(name)
                except Exception as error:
                    notes.append(f"{name}: {type(error).__name__}: {error}")
        version: str | None = str(torch.__version__)
        nccl = _nccl(torch)
        if device := _touched(torch):
            version = None
            notes.append(f"importing torch has initialised {device}")
    except (Exception, SystemExit) as error:
        version = None
        notes.append(f"{type(error).__name__}: {error}")
    finally:
        gc.enable()
        adopt_environment(environment)  # libraries set variables, too
    gc.freeze()  # so that the collector of a child does not copy the pages it shares with us
    return Preload(version, time.monotonic() - began, "; ".join(notes) or None, record, environment, nccl)


def adopt_environment(environment: Mapping[str, str]) -> None:
    """Make ``os.environ``, and with it the C library's environment, equal to this one."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _nccl(torch: object) -> str:
    """The version of the NCCL that torch brings or has been linked to; asking touches no device."""
    try:
        if not torch.distributed.is_nccl_available():  # type: ignore[attr-defined]
            return ""
        return ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[attr-defined]
    except Exception:  # of a build that nobody here has seen: no reason to start workers cold
        return ""


def _touched(torch: object) -> str | None:
    """The device that this process has initialised, if any."""
    if torch.cuda.is_initialized():  # type: ignore[attr-defined]
        return "CUDA"
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor of the listing itself
        if target.startswith(_DEVICES):
            return target
    return None


def why_cold(request: SpawnWorker, inherited: Mapping[str, str]) -> str | None:
    """Why this worker needs an interpreter of its own, or None when a fork of this process does as well."""
    if request.program.kind == "command":
        return "a command is executed"
    for name, value in request.env.items():
        if name != "PYTHONPATH" and name.startswith(_READ_AT_START) and inherited.get(name) != value:
            return f"{name} is read when a process starts"
    return None
