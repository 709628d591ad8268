"""Whether this machine fits a job: what the local launcher refuses before it starts anything, and what it chooses."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from swarmtrain.errors import ClusterError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.launchers.base import Checked, Notice
from swarmtrain.launchers.local.gpus import Shares, share
from swarmtrain.payload import bundle, code
from swarmtrain.wire.disk import private
from swarmtrain.wire.machine.gpus import VISIBLE, cards, visible
from swarmtrain.wire.plural import counted

_MOST_WORKERS = 256  # each is a process of some hundred MB
_HAS_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"
_UNUSED = ("image", "volumes", "constraints", "memlock", "coordinator", "linger")


@dataclass(frozen=True)
class CheckedOnMachine(Checked):
    """A job that fits, with each node's GPUs, and what starts a part of the bundle."""

    shares: Shares
    interpreter: tuple[str, ...]


def home() -> Path:
    """Where local runs are kept. Raises ClusterError where nobody can tell."""
    explicit = os.environ.get("SWARMTRAIN_HOME", "")
    if explicit:
        try:
            return Path(explicit).expanduser().resolve()
        except RuntimeError as error:
            raise ClusterError(
                f"SWARMTRAIN_HOME is {explicit}, and there is no such home",
                "set it to a directory of your own",
            ) from error
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "swarmtrain"


def check(job: LoadedJob) -> CheckedOnMachine:
    """A job that fits this machine; see Launcher.check."""
    _check_size(job.job)
    sent, shares = code.of(job, limit=None), _shares(job)
    interpreter, notices = _interpreter(job.job)
    notices += [text for text in (shares.notice, *sent.notices) if text]
    unused = [key for key in _UNUSED if key in job.sources]
    if unused:
        notices.append(f"{', '.join(unused)}: not used on local, where workers are plain processes")
    return CheckedOnMachine(job, tuple(map(Notice, notices)), sent, shares, tuple(interpreter))


def _check_size(job: Job) -> None:
    """Refuse what would bury one machine. Raises ClusterError."""
    each = job.workers_per_node if isinstance(job.workers_per_node, int) else 1
    if (workers := job.nodes_max * each) > _MOST_WORKERS:
        raise ClusterError(
            f"{counted(job.nodes_max, 'node')} with {counted(workers, 'worker')} would all be on this machine",
            f"on local a run has at most {_MOST_WORKERS} workers; --on swarm spreads them over machines",
        )


def check_home(root: Path) -> None:
    """Runs are kept, and found, only where nobody else could have put one.

    Raises:
        ClusterError: somebody else could.
    """
    home = root
    try:
        why = private.trouble(root)
    except OSError:
        why = ""  # it is yet to be made
    if not why and (shared := private.above(root)):
        root, why = Path(shared), "can be written by everybody (it has no sticky bit)"
    if why:
        raise ClusterError(
            f"runs on this machine would be kept in {home}, but {root} {why}",
            "others could put their code in place of yours there: `chmod go-w` it if it is yours, or set "
            "SWARMTRAIN_HOME to a directory of your own",
        )


def _interpreter(job: Job) -> tuple[list[str], list[str]]:
    """The command that starts a part of the bundle, and what to say of the choice.

    Raises:
        ClusterError: no Python that has torch was found.
    """
    ours = [sys.executable, "-m", "swarmtrain.inside"]
    if job.python == "python3" and (job.command or importlib.util.find_spec("torch") is not None):
        return ours, []
    python = shutil.which(job.python)
    if python is None:
        raise ClusterError(f"there is no {job.python} on this machine", "set `python` to one that has torch")
    found = [python, str(bundle.on_disk())]
    if job.command is not None:
        return found, []
    if subprocess.run([python, "-c", _HAS_TORCH], check=False, capture_output=True, cwd="/").returncode != 0:
        raise ClusterError(
            f"neither {sys.executable} nor {python} has torch",
            "pip install torch, activate the environment that has it, or set `python` to its interpreter",
        )
    return found, [f"workers run on {python}, since {sys.executable} is not the one that was asked for"]


def _shares(job: LoadedJob) -> Shares:
    """Who sees which GPU; the job's own CUDA_VISIBLE_DEVICES, or the one here, names those that are shared out."""
    named = job.environment.get(VISIBLE, os.environ.get(VISIBLE))
    hidden = named == "" or job.job.resources.gpus == 0
    return share(job.job, [] if hidden else visible(named, cards()))
