"""The NVIDIA GPUs of a machine, as workers there would see them. No torch is imported and no device touched.

Used by agents, which count them, and by the local launcher, which shares them out. What CUDA_VISIBLE_DEVICES means is
said in the CUDA C++ Programming Guide, "CUDA environment variables", and in NVIDIA's MIG User Guide.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from swarmtrain.structs import Struct

VISIBLE = "CUDA_VISIBLE_DEVICES"

_SECONDS = 20.0  # nvidia-smi takes some where no process keeps the driver up
_CARD = re.compile(r"GPU (\d+): .*?(?:\(UUID: (GPU-[^)]+)\))?$")
_INSTANCE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)$")


class Card(Struct):
    """One GPU.

    Args:
        uuid: its name, ``GPU-...``; empty where the driver was not asked.
        instances: the names of its parts, ``MIG-...``, where it is divided.
    """

    uuid: str = ""
    instances: tuple[str, ...] = ()


def cards() -> list[Card]:
    """The machine's GPUs, in the driver's order; none where there is no driver."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return [Card() for _ in Path("/dev").glob("nvidia[0-9]*")]
    return read_list(asked.stdout)


def read_list(text: str) -> list[Card]:
    """What ``nvidia-smi -L`` lists."""
    found: list[Card] = []
    for line in text.splitlines():
        if match := _CARD.match(line.rstrip()):
            found.append(Card(match[2] or ""))
        elif found and (match := _INSTANCE.match(line.rstrip())):
            found[-1] = Card(found[-1].uuid, (*found[-1].instances, match[1]))
    return found


def visible(named: str | None, present: Sequence[Card]) -> list[str]:
    """The devices that a value of CUDA_VISIBLE_DEVICES shows, each as that variable names it; all for None.

    As CUDA reads it: the first name of no device ends the list (``-1``, ``NoDevFiles`` and an empty one are such), and
    a device that is named twice leaves none at all.
    """
    if named is None:
        return [name for index, card in enumerate(present) for name in card.instances or (str(index),)]
    devices: list[str] = []
    seen: set[object] = set()
    for name in (each.strip() for each in named.split(",")):
        device = _device(name, present)
        if device is None:
            break
        if device in seen:
            return []
        seen.add(device)
        devices.append(name)
    return devices


def usable(devices: Sequence[str]) -> int:
    """How many of these devices one process sees: of MIG's instances only the first, and nothing beside it."""
    return min(len(devices), 1) if is_instance(devices[:1]) else len(devices)


def is_instance(devices: Sequence[str]) -> bool:
    """Whether a part of a divided GPU is among them."""
    return any(name.startswith("MIG-") for name in devices)


def _device(name: str, present: Sequence[Card]) -> object:
    """What tells a device from another one; None where there is no such device."""
    if name.isdecimal():
        return int(name) if int(name) < len(present) else None
    unasked = any(not card.uuid for card in present)
    if name.startswith("GPU-"):  # may be cut short, as long as it means one
        meant = [index for index, card in enumerate(present) if card.uuid.startswith(name)]
        return meant[0] if len(meant) == 1 else (name if unasked else None)
    if name.startswith("MIG-"):
        known = any(name in card.instances for card in present)
        return name if known or unasked or name.startswith("MIG-GPU-") else None
    return None
