"""What a run would send, as text: for `run --dry-run` and `plan`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmtrain.wire.plural import counted

if TYPE_CHECKING:
    from swarmtrain.job import LoadedJob
    from swarmtrain.payload.code import Code

_NAMES = 20  # of what is left out for one reason


def files(sent: Code, most: int | None = None) -> list[str]:
    """A line for each file, its size first, and for each empty directory.

    Args:
        most: only so many, the largest.
    """
    from swarmtrain.wire.plural import say_size

    lines = [f"{say_size(size):>9}  {name} (used where it lies)" for name, size in sent.in_place]
    shown = sent.files
    if most is not None and len(shown) > most:
        shown = tuple(sorted(shown, key=lambda file: -file[1])[:most])
    lines += [f"{say_size(size):>9}  {name}" for name, size in shown]
    if len(shown) < len(sent.files):
        lines.append(f"{'...':>9}  and {len(sent.files) - len(shown)} smaller ones")
    return lines + [f"{'empty':>9}  {name}" for name in sent.directories]


def left_out(sent: Code) -> list[str]:
    """A line for each reason to leave something out."""
    from swarmtrain.payload import code

    return code.said(sent.left_out, _NAMES)


def total(sent: Code, loaded: LoadedJob) -> str:
    """How much goes, and what goes beside the files."""
    from swarmtrain.wire.plural import say_size

    raw = sum(size for _, size in sent.files)
    text = f"{counted(len(sent.files), 'file')}, {say_size(raw)}, {say_size(len(sent.archive))} zipped"
    if len(sent.files) > 1:
        name, size = max(sent.files, key=lambda file: file[1])
        text += f"; the largest is {name}, {say_size(size)}"
    if sent.in_place:
        there = sum(size for _, size in sent.in_place)
        text += f"; {counted(len(sent.in_place), 'file')}, {say_size(there)}, used where they lie"
    variables = ", ".join(loaded.environment)
    return text + (f"; and, as a secret, the variables {variables}" if variables else "")
