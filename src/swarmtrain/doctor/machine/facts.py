"""What this machine has that training needs. Nothing is started but an interpreter that imports torch."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from swarmtrain.docker import toolkit
from swarmtrain.launchers.local.checks import home
from swarmtrain.wire.machine.gpus import cards

_IMPORT_SECONDS = 120.0  # the first one after a boot reads a gigabyte
_PORTS = range(20_000, 20_050)
_PROGRAM = (
    "import json, torch; import torch.distributed as d; "
    "print(json.dumps([torch.__version__, torch.version.cuda or '', d.is_available(), d.is_gloo_available(), "
    "d.is_nccl_available(), torch.cuda.device_count() if torch.version.cuda else 0]))"
)


@dataclass(frozen=True)
class TorchFacts:
    """What an interpreter says of its torch.

    Args:
        error: why it could not be imported; the rest is empty then.
        cuda: the version that it was built for; empty for none.
        devices: GPUs that it sees.
    """

    error: str = ""
    version: str = ""
    cuda: str = ""
    distributed: bool = False
    gloo: bool = False
    nccl: bool = False
    devices: int = 0


@dataclass(frozen=True)
class MachineFacts:
    """This machine. Amounts are in bytes.

    Args:
        ports: how many of `tried_ports` are free.
        driver: of NVIDIA; empty where there is none.
        loopback: whether 127.0.0.1 can be listened at.
        named: the address that the machine's own name leads to; empty where it leads nowhere.
    """

    python: str
    torch: TorchFacts
    cpus: int
    memory: int
    memory_free: int
    swap_used: int
    shm: int
    shm_free: int
    shm_left: tuple[str, ...]
    home: str
    disk: int
    disk_free: int
    nofile: int
    nproc: int
    gpus: int
    driver: str
    toolkit: str
    loopback: bool
    named: str
    ports: int
    tried_ports: int = len(_PORTS)


def look() -> MachineFacts:
    """Look at this machine. Raises ClusterError where nobody can tell where runs are kept."""
    memory, root = _meminfo(), home()
    place = next(each for each in (root, *root.parents) if each.exists())
    disk = shutil.disk_usage(place)
    shm = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    return MachineFacts(
        python=sys.executable,
        torch=_torch(),
        cpus=len(os.sched_getaffinity(0)),
        memory=memory.get("MemTotal", 0),
        memory_free=memory.get("MemAvailable", 0),
        swap_used=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        shm=shm.total if shm else 0,
        shm_free=shm.free if shm else 0,
        shm_left=_left_in_shm(),
        home=str(root),
        disk=disk.total,
        disk_free=disk.free,
        nofile=_limit(resource.RLIMIT_NOFILE),
        nproc=_limit(resource.RLIMIT_NPROC),
        gpus=len(cards()),
        driver=_driver(),
        toolkit=toolkit.version(),
        loopback=_listens("127.0.0.1", 0),
        named=_named(),
        ports=sum(_listens("127.0.0.1", port) for port in _PORTS),
    )


def _torch() -> TorchFacts:
    """Ask an interpreter of its own: this one never imports torch."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=_IMPORT_SECONDS, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return TorchFacts(error=f"importing it took more than {_IMPORT_SECONDS:.0f} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return TorchFacts(error=last)
    version, cuda, distributed, gloo, nccl, devices = json.loads(done.stdout.splitlines()[-1])
    return TorchFacts("", version, cuda, distributed, gloo, nccl, devices)


def _meminfo() -> dict[str, int]:
    text = Path("/proc/meminfo").read_text()
    return {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def _left_in_shm() -> tuple[str, ...]:
    """What earlier trainings may have left in memory: segments of torch's and NCCL's that are this user's."""
    found = []
    for each in sorted(Path("/dev/shm").glob("*")) if Path("/dev/shm").is_dir() else []:
        try:
            ours = each.stat().st_uid == os.geteuid()
        except OSError:
            continue
        if ours and re.match(r"torch_|nccl-|psm_|__KMP", each.name):
            found.append(each.name)
    return tuple(found)


def _limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return -1 if soft == resource.RLIM_INFINITY else soft


def _driver() -> str:
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (told.stdout.split() or [""])[0]


def _listens(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _named() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""
