"""What is known of the NVIDIA Container Toolkit of this machine, which Swarm itself does not tell."""

from __future__ import annotations

import re
import shutil
import subprocess

_ASK_SECONDS = 5.0


def version() -> str:
    """The version of this machine's toolkit; empty where there is none, or it does not say."""
    program = shutil.which("nvidia-ctk")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"version (\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else ""


def warning(version: str, hostname: str) -> str:
    """What to say of a node that has this version, where GPUs are reserved; empty where nothing is known against it.

    From 1.18.0 on the runtime makes CDI specifications of its own and does not look at what Swarm assigned, until 1.19
    (github.com/NVIDIA/nvidia-container-toolkit/issues/1599).
    """
    if not version.startswith("1.18."):
        return ""
    return (
        f"{hostname} has the NVIDIA Container Toolkit {version}, which shows a task every GPU of its node, whatever "
        "Swarm has assigned (github.com/NVIDIA/nvidia-container-toolkit/issues/1599): update it to 1.19, or set "
        'nvidia-container-runtime.mode = "legacy" in /etc/nvidia-container-runtime/config.toml'
    )
