"""The values that a line of a worker tells; the lines are in docs/trainer.md. Pure.

What workers report is their own affair, and may be anything: what is no number, or has no name, counts as not told.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmtrain.wire.metrics import as_heard, label

# By the kind of a line: its keys, and what they are called as series.
_NAMES: dict[str, dict[str, str]] = {
    "step": {
        "loss": "train/loss",
        "lr": "train/learning_rate",
        "epoch": "train/epoch",
        "seen": "train/samples",
        "samples_s": "train/samples_per_second",
        "step_s": "train/step_seconds",
        "data_s": "train/data_seconds",
        "forward_s": "train/forward_seconds",
        "backward_s": "train/backward_seconds",
        "communication_s": "train/communication_seconds",
        "optimizer_s": "train/optimizer_seconds",
        "grad_norm": "train/gradient_norm",
    },
    "goal": {"total_steps": "train/total_steps"},
    "snapshot": {"seconds": "snapshot/seconds", "bytes": "snapshot/bytes"},
    "memory_snapshot": {"seconds": "snapshot/memory_seconds", "bytes": "snapshot/memory_bytes"},
}
_REPORTED = {"train/lr": "train/learning_rate"}
_PHASES = {"evaluation": "eval/seconds", "snapshot": "snapshot/wait_seconds"}
_VALUES = 200  # of one line, at most


def values_of(line: Mapping[str, object]) -> dict[str, float]:
    """The values of a line, by the names of their series."""
    kind = str(line.get("kind"))
    told: dict[str, object] = {name: line.get(key) for key, name in _NAMES.get(kind, {}).items()}
    if kind == "phase" and line.get("name") in _PHASES:
        told[_PHASES[str(line["name"])]] = line.get("seconds")
    if kind == "eval":
        told |= _named("eval", line.get("metrics"))
    if kind == "report":
        told |= _named("train", line.get("values"))
        told = {_REPORTED.get(name, name): value for name, value in told.items()}
    return {name: value for name, each in told.items() if (value := as_heard(each)) is not None}


def step_of(line: Mapping[str, object]) -> int | None:
    """The step of the whole training at which a line was written; None where nobody knows it.

    A script that is watched from outside counts the steps of its process. Where its optimizer counts none, another
    generation of it may have gone on from anywhere.
    """
    step = line.get("whole_step", line.get("step"))
    if line.get("source") == "ddp" and "whole_step" not in line and line.get("g") != 1:
        return None
    return step if isinstance(step, int) else None


def _named(group: str, values: object) -> dict[str, object]:
    """Values by names that a script has chosen; one with a stroke has a group of its own."""
    if not isinstance(values, Mapping):
        return {}
    names = {label(key): value for key, value in list(values.items())[:_VALUES] if label(key)}
    return {name if "/" in name else f"{group}/{name}": value for name, value in names.items()}
