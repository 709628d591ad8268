"""Faults that are produced for real on this machine, and what a diagnosis must say of each.

`tests/local/test_explain.py` produces some of them at each run, `benchmarks/diagnose.py` all; what the coordinator knew
of each is kept in tests/unit/fixtures/diagnosis, where tests/unit/test_diagnosis.py holds the rules to it. Those that
need a GPU are produced by tests/gpu/test_nccl.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from healed_local import agent_of, worker_of
from waiting import until

from swarmtrain import Client, Diagnosis, Job, RunHandle
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.machine.processes import descendants

SCRIPT = Path(__file__).parents[1] / "local" / "scripts" / "faulty.py"
# Only root may mount, or have a network of its own.
MOUNTS = frozenset({"shared_memory", "disk_full_in_save", "read_only"})
NETWORKS = frozenset({"large_packets_lost", "nothing_arrives", "blocked_ports", "other_interface"})
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Fault:
    """One.

    Attributes:
        how: what of the script goes wrong.
        codes: of the diagnosis; the first is the best, the others are right, too.
        rank, node: to whom it must lead; None and "" where it is nobody.
        anyone: it may lead to any rank.
        says: what the diagnosis must have somewhere: the name of a file, a line of the source.
        job: keys of the job.
        act: what is done to the run from outside, once it trains.
    """

    how: str
    codes: tuple[str, ...]
    rank: int | None = 1
    node: str = "node1"
    anyone: bool = False
    says: tuple[str, ...] = ()
    job: Mapping[str, Any] = field(default_factory=dict)
    act: Callable[[RunHandle], None] | None = None

    @property
    def name(self) -> str:
        """As it is called in words."""
        return self.how.replace("_", "-")

    def on_one_node(self) -> Fault:
        """The same among workers of one node."""
        job = {**self.job, "nodes": 1, "workers_per_node": self.job.get("nodes", 2)}
        return replace(self, node=self.node and "node0", job=job)


def fault(how: str, *codes: str, **more: Any) -> Fault:
    """One, by what of the script goes wrong."""
    return Fault(how, codes, **more)


def _kill(number: int) -> Callable[[RunHandle], None]:
    def act(handle: RunHandle) -> None:
        os.kill(worker_of(handle, 1), number)

    return act


def _lose(handle: RunHandle) -> None:
    """The init and all below it, at once."""
    root = LocalLauncher().roots(handle.run)["node1"]
    for pid in [root, *descendants(root)]:
        os.kill(pid, signal.SIGKILL)


def _freeze(handle: RunHandle) -> None:
    """The machine stands still, as for a hypervisor's pause."""
    root = LocalLauncher().roots(handle.run)["node1"]
    for pid in [root, agent_of(handle, "node1"), *descendants(root)]:
        os.kill(pid, signal.SIGSTOP)


EVERYWHERE: Mapping[str, Any] = {"anyone": True}  # all ranks do it, and the first one is told
HANGS: Mapping[str, Any] = {"job": {"nodes": 3, "restart": {"max": 0, "hang_timeout": "4s"}}}
PAIR: Mapping[str, Any] = {"job": {"restart": {"max": 0, "hang_timeout": "4s"}}}
THREE: Mapping[str, Any] = {"job": {"nodes": 3}}
NOBODY: Mapping[str, Any] = {"rank": None, "node": ""}

FAULTS = (
    fault("exception", "exception", says=("shard 7 is damaged", "faulty.py")),
    fault(
        "different_exceptions",
        "different-exceptions",
        rank=None,
        node="",
        says=("weights", "shard 1"),
        **THREE,
    ),
    fault("deterministic", "deterministic", says=("shard 7", "step 5"), job={"restart": "auto"}),
    fault("missing_module", "missing-module", **EVERYWHERE, says=("not_there_at_all",)),
    fault("missing_name", "broken-import", **EVERYWHERE, says=("no_such_name",)),
    fault("missing_file", "missing-file", **EVERYWHERE, says=("weights/pretrained.bin",)),
    fault("not_permitted", "not-permitted", **EVERYWHERE, says=("/proc/1/mem",)),
    fault("usage", "wrong-arguments", **EVERYWHERE, says=("--learning-rate",)),
    fault("pickling", "pickling", **EVERYWHERE, says=("num_workers",)),
    fault("state_mismatch", "state-mismatch", **EVERYWHERE, says=("size mismatch",)),
    fault("nan_loss", "nan-loss", says=("step 5",)),
    fault("words", "exit-words", says=("/data/train",)),
    fault("exit_code", "exit-code", says=("3",)),
    fault("host_memory", "oom-refused", **EVERYWHERE),
    fault("python_memory", "oom-refused", **EVERYWHERE),
    fault("shared_memory", "oom-shm", **EVERYWHERE, says=("torch_",)),
    fault("loader_killed", "loader-died"),
    fault("open_files", "open-files", **EVERYWHERE),
    fault("disk_full", "disk-full"),
    fault("disk_full_in_save", "disk-full", **EVERYWHERE),
    fault("read_only", "read-only", **EVERYWHERE),
    fault("damaged_file", "damaged-file", **EVERYWHERE),
    fault("no_gpu", "no-gpu", **EVERYWHERE),
    fault("no_nccl", "no-gpu", **EVERYWHERE),
    fault("gloo_timeout", "collective-timeout", says=("all_reduce",), **THREE),
    fault("mismatched_shape", "collective-mismatch", rank=None, node=""),
    fault("mismatched_order", "collective-mismatch", rank=None, node=""),
    fault("uneven_inputs", "uneven-inputs", **THREE),
    fault("no_such_host", "no-such-host", **EVERYWHERE, says=("node-that-is-not.invalid",)),
    fault("refused", "no-connection", says=("127.0.0.1",)),
    fault("not_all_joined", "not-all-joined", rank=0, node="node0", **THREE),
    fault("wrong_interface", "wrong-interface", **EVERYWHERE, says=("eth7",)),
    fault("large_packets_lost", "messages-lost", **NOBODY, says=("all_reduce", "doctor"), **PAIR),
    fault("nothing_arrives", "messages-lost", **NOBODY, says=("faulty.py", "doctor")),
    fault("blocked_ports", "port-blocked", **EVERYWHERE, says=("firewall", "swarmtrain doctor")),
    fault("other_interface", "port-blocked", **EVERYWHERE, says=("GLOO_SOCKET_IFNAME",)),
    fault("not_yet_valid", "clock-skew", says=("not yet valid",)),
    fault("port_in_use", "port-in-use"),
    fault("master_port_in_use", "port-in-use", rank=0, node="node0"),
    fault("stuck_in_data", "stuck-data", says=("faulty.py",), **HANGS),
    fault("stuck_in_loader", "stuck-data", says=("faulty.py",), **HANGS),
    fault("stuck_in_lock", "stuck-lock", says=("faulty.py",), **HANGS),
    fault("stuck_in_files", "stuck-files", says=("faulty.py",), **HANGS),
    fault("stuck_in_code", "stuck-code", says=("faulty.py", "in fail"), **HANGS),
    fault("stuck_apart", "collective-apart", rank=0, node="node0", says=("faulty.py",), **HANGS),
    fault("segfault", "native-crash", says=("SIGSEGV",)),
    fault("abort", "native-crash", says=("SIGABRT",)),
    fault("killed", "killed", act=_kill(signal.SIGKILL)),
    fault("terminated", "terminated", act=_kill(signal.SIGTERM)),
    fault("interrupted", "terminated"),
    fault("stopped_process", "stopped-process", act=_kill(signal.SIGSTOP), **HANGS),
    fault("node_lost", "node-lost", rank=None, act=_lose),
    fault("node_frozen", "node-silent", rank=None, act=_freeze),
    fault("stopped_by_a_person", "stopped-by-a-person", **NOBODY, act=RunHandle.stop),
)
# What tests/gpu/scripts/on_nccl.py does at its fifth step, on two nodes.
ON_NCCL = (
    fault("nccl_exception", "exception", says=("shard 7 is damaged", "on_nccl.py")),
    fault("nccl_stuck", "stuck-code", says=("on_nccl.py", "in stuck")),
    fault("nccl_shape", "collective-apart", anyone=True, says=("on_nccl.py", "[16777216]", "[4]")),
    fault("nccl_other", "ranks-apart", says=("after 400 steps", "collectives")),
    fault("nccl_duplicate", "duplicate-gpu", anyone=True, says=("gloo",)),
)
_ALONE: Mapping[str, Any] = {"rank": 0, "node": "node0"}
# What tests/gpu/scripts/failing.py does to the memory of a GPU, and to an index.
ON_GPU = (
    fault("gpu_memory", "oom-gpu", **_ALONE, says=("does not fit into its GPU",)),
    fault("gpu_memory_of_another", "oom-gpu", **_ALONE, says=("other processes", "nvidia-smi")),
    fault("gpu_assert", "device-assert", **_ALONE, says=("srcIndex < srcSelectDimSize", "out of range")),
)
BY_NAME = {each.name: each for each in (*FAULTS, *ON_NCCL, *ON_GPU)}


def begin(wanted: Fault) -> RunHandle:
    """Start a run from the current directory in which it happens, and make it happen; it may go on for some seconds."""
    _bring(SCRIPT)
    usual = {"nodes": 2, "workers_per_node": 1, "restart": "never", "env": {"OMP_NUM_THREADS": "1"}}
    job: dict[str, Any] = {**usual, **wanted.job}
    files = (SCRIPT.name,)
    handle = Client(on="local").run(
        Job(name=wanted.name, script=SCRIPT.name, args=(wanted.how,), files=files, **job)
    )
    if wanted.act is not None:
        until(lambda: (handle.status().step or 0) >= 10, 60, "step 10")
        wanted.act(handle)
    return handle


def _bring(script: Path) -> None:
    """Copy a script beside the run, where several begin at a time and none may send half of it."""
    if not Path(script.name).exists():
        new = Path(f"{script.name}.{threading.get_ident()}")
        shutil.copy(script, new)
        new.replace(script.name)


def clear(home: Path, handle: RunHandle) -> None:
    """Take away what a fault leaves that no run could: processes that stand still, and a lost node's memory."""
    handle.kill()
    for root in LocalLauncher().roots(handle.run).values():
        for pid in [root, *descendants(root)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    memory = Storage(home).memory(handle.id, "node1").parent
    shutil.rmtree(memory, ignore_errors=True)
    with contextlib.suppress(OSError):
        memory.parent.rmdir()  # other runs of this home may have theirs beside it


def wrong(wanted: Fault, found: Diagnosis) -> list[str]:
    """What a diagnosis has wrong; nothing where it is right."""
    everything = str(found.dump())
    where = "node0" if wanted.job.get("nodes") == 1 else f"node{found.rank}"
    who = found.rank is not None and found.node == where
    return [
        *_unless(found.code in wanted.codes, f"{found.code}, not {wanted.codes[0]}"),
        *_unless(
            who if wanted.anyone else (found.rank, found.node) == (wanted.rank, wanted.node),
            f"rank {found.rank} on {found.node or 'nobody'}, not {wanted.rank} on {wanted.node or 'nobody'}",
        ),
        *(f"says nothing of {word}" for word in wanted.says if word not in everything),
    ]


def _unless(holds: bool, otherwise: str) -> Iterable[str]:
    return () if holds else (otherwise,)
