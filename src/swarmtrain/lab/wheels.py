"""Wheels for the demo image, downloaded on the host so that pip's own settings there (index, cache, proxy) hold."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from swarmtrain.errors import ClusterError

# torch is pinned so that everybody's demo is the same; "+cpu" never names a build of several gigabytes of CUDA.
TORCH = "2.13.0"
REQUIREMENTS = (f"torch=={TORCH}+cpu", "numpy", "scikit-learn")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# The release in which the wheels will be installed, its Python and C library.
RELEASE = "bookworm"
PYTHON = "3.11"
GLIBC_MINOR = 36
OLDEST_GLIBC_MINOR = 17


def download(into: Path, architecture: str) -> None:
    """Fill a directory with the wheels that the demo image installs.

    Asks what pip is configured for first, and torch's own index of CPU builds only where that has none.

    Args:
        architecture: the image's, as ``uname -m`` says it: ``x86_64`` or ``aarch64``.
    """
    pip = find_pip()
    complaint = ""
    for index in (None, CPU_INDEX):
        done = subprocess.run(
            download_command(pip, into, architecture, index),
            capture_output=True,
            text=True,
            cwd=into.parent,  # Python imports from where it is started
        )
        if done.returncode == 0:
            return
        complaint = done.stderr.strip()
    errors = [line for line in complaint.splitlines() if line.startswith("ERROR")] or [complaint[-500:]]
    raise ClusterError(
        f"pip could not download torch for the demo image: {errors[-1]}",
        f"see that pip finds a CPU build: pip download --no-deps torch=={TORCH}+cpu",
    )


def download_command(
    pip: Iterable[str], into: Path, architecture: str, extra_index: str | None = None
) -> list[str]:
    """``pip download`` for the image's Python and C library, whatever the host's are."""
    command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--dest", str(into)]
    command += ["--python-version", PYTHON, "--only-binary", ":all:"]
    for minor in range(GLIBC_MINOR, OLDEST_GLIBC_MINOR - 1, -1):
        command += ["--platform", f"manylinux_2_{minor}_{architecture}"]
    command += ["--platform", f"manylinux2014_{architecture}"]
    if extra_index:
        command += ["--extra-index-url", extra_index]
    return [*command, *REQUIREMENTS]


def find_pip() -> list[str]:
    """A pip to run: this Python's own, else one on the PATH."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise ClusterError(
        "there is no pip to download torch with", "install python3-pip, or run scripts/ensure-venv"
    )
