"""Checks of this machine for `--on local`. Pure, but for `examine`, which looks."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.docker import toolkit
from swarmtrain.doctor.check import Check, CheckFinding, Flaw, Severity, run
from swarmtrain.doctor.machine.facts import MachineFacts, look
from swarmtrain.wire.plural import counted

GIB = 1 << 30
_LITTLE_SHM = 1 * GIB
_LITTLE_DISK, _NO_DISK = 5 * GIB, GIB // 2
_FEW_FILES, _FEW_PROCESSES = 4096, 1024


def examine() -> list[CheckFinding]:
    """What is wrong with this machine, the worst first. Raises ClusterError: nobody can tell where runs are kept."""
    return run(CHECKS, look())


def _torch(here: MachineFacts) -> Iterator[Flaw]:
    if here.torch.error:
        yield Flaw(
            here.python,
            "this interpreter cannot import torch",
            "pip install torch, or activate the environment that has it; a job's `python` names another one",
            (here.torch.error,),
        )
    elif not here.torch.distributed or not here.torch.gloo:
        yield Flaw(here.python, "its torch was built without torch.distributed or gloo", "a torch from PyPI")


def _torch_good(here: MachineFacts) -> str:
    built = f"for CUDA {here.torch.cuda}" if here.torch.cuda else "for processors"
    return f"torch {here.torch.version}, built {built}"


def _gpus(here: MachineFacts) -> Iterator[Flaw]:
    if here.torch.error or not here.gpus:
        return
    if not here.driver:
        yield Flaw(
            "",
            f"{counted(here.gpus, 'GPU')}, and nvidia-smi does not answer: the driver is not loaded",
            "sudo modprobe nvidia; dmesg | grep -i nvrm",
        )
    elif not here.torch.cuda:
        yield Flaw(
            here.python,
            f"{counted(here.gpus, 'GPU')}, and a torch that was built for processors",
            "pip install torch, from the index for CUDA",
        )
    elif here.torch.devices == 0:
        yield Flaw(
            here.python,
            f"torch sees none of {counted(here.gpus, 'GPU')}: the driver {here.driver} is too old for CUDA "
            f"{here.torch.cuda}, or "
            "CUDA_VISIBLE_DEVICES hides them",
            "update the driver, or take a torch for an older CUDA",
        )
    elif not here.torch.nccl:
        yield Flaw(
            here.python,
            "its torch has no NCCL: several GPUs speak over gloo, slowly",
            "a torch from PyPI",
            severity=Severity.WARNING,
        )


def _gpus_good(here: MachineFacts) -> str:
    return (
        f"{counted(here.gpus, 'GPU')}, driver {here.driver}"
        if here.gpus
        else "no GPU: workers train on processors"
    )


def _shm(here: MachineFacts) -> Iterator[Flaw]:
    if here.shm < _LITTLE_SHM:
        yield Flaw(
            "/dev/shm",
            f"it has {_size(here.shm)}: DataLoader workers and NCCL need more",
            "sudo mount -o remount,size=50% /dev/shm (in a container: --shm-size)",
        )
    elif here.shm_free < _LITTLE_SHM // 2:
        left = (
            f", {counted(len(here.shm_left), 'segment')} of earlier trainings among it"
            if here.shm_left
            else ""
        )
        yield Flaw(
            "/dev/shm",
            f"it is full: {_size(here.shm_free)} of {_size(here.shm)} are free{left}",
            "fuser -v /dev/shm/*, and remove what nobody uses",
            here.shm_left[:5],
        )


def _memory(here: MachineFacts) -> Iterator[Flaw]:
    if here.memory and here.memory_free < 0.1 * here.memory:
        yield Flaw(
            "",
            f"{_size(here.memory_free)} of {_size(here.memory)} of memory are free",
            "ps aux --sort -rss | head",
        )
    if here.memory and here.swap_used > 0.1 * here.memory:
        yield Flaw(
            "",
            f"{_size(here.swap_used)} are in swap: what comes back from there makes a step slow",
            "close what is not needed",
            severity=Severity.NOTE,
        )


def _memory_good(here: MachineFacts) -> str:
    return f"{_size(here.memory_free)} of {_size(here.memory)} of memory are free, {counted(here.cpus, 'processor')}"


def _disk(here: MachineFacts) -> Iterator[Flaw]:
    if here.disk_free < _LITTLE_DISK:
        yield Flaw(
            here.home,
            f"{_size(here.disk_free)} of {_size(here.disk)} are free where runs are kept",
            "swarmtrain rm old runs, or SWARMTRAIN_HOME on a larger disk",
            severity=Severity.ERROR if here.disk_free < _NO_DISK else None,
        )


def _disk_good(here: MachineFacts) -> str:
    return f"{_size(here.disk_free)} are free in {here.home}"


def _limits(here: MachineFacts) -> Iterator[Flaw]:
    if 0 <= here.nofile < _FEW_FILES:
        yield Flaw(
            "",
            f"a process may open {here.nofile} files: few for data loaders and sockets",
            "ulimit -n 65536, or LimitNOFILE= of what starts this",
        )
    if 0 <= here.nproc < _FEW_PROCESSES:
        yield Flaw("", f"this user may have {here.nproc} processes and threads", "ulimit -u 8192")


def _network(here: MachineFacts) -> Iterator[Flaw]:
    if not here.loopback:
        yield Flaw(
            "lo",
            "nothing can listen on 127.0.0.1: nodes on this machine do not meet",
            "sudo ip link set lo up",
        )
    elif here.ports < here.tried_ports // 2:
        yield Flaw(
            "lo",
            f"{here.ports} of {here.tried_ports} ports from 20000 are free",
            "ss -ltnp: who has them?",
            severity=Severity.WARNING,
        )
    if not here.named:
        yield Flaw(
            "",
            "the machine's own name leads to no address: gloo takes loopback where no interface is named",
            "echo 127.0.1.1 $(hostname) | sudo tee -a /etc/hosts",
            severity=Severity.WARNING,
        )


def _toolkit(here: MachineFacts) -> Iterator[Flaw]:
    if toolkit.warning(here.toolkit, "here"):
        yield Flaw(
            "",
            f"the NVIDIA Container Toolkit {here.toolkit} shows a Swarm's task every GPU of this machine",
            "update it to 1.19, should this machine be a node of a Swarm",
        )


def _size(amount: float) -> str:
    return f"{amount / GIB:.1f} GiB"


CHECKS: tuple[Check[MachineFacts], ...] = (
    Check("torch", Severity.ERROR, "a torch that can be imported, with gloo", _torch, _torch_good),
    Check(
        "gpus", Severity.ERROR, "GPUs, their driver, and a torch that is built for them", _gpus, _gpus_good
    ),
    Check("shm", Severity.WARNING, "room in /dev/shm, and what was left there", _shm),
    Check("local-memory", Severity.WARNING, "free memory, and swap in use", _memory, _memory_good),
    Check("local-disk", Severity.WARNING, "room where runs are kept", _disk, _disk_good),
    Check("limits", Severity.WARNING, "how many files and processes there may be", _limits),
    Check("loopback", Severity.ERROR, "loopback, free ports, the machine's own name", _network),
    Check("local-toolkit", Severity.NOTE, "the NVIDIA Container Toolkit 1.18", _toolkit),
)
