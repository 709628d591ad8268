"""Makes the file of metrics small again: of lines that come by the million, what they come to stays.

The series have every value of these lines, and are bounded; what replays the file must find the run as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from swarmtrain.wire.disk.records import Record, RecordsReader, as_line

# Of each of these, and of each rank and generation, one line stays that tells of the same. All others are rare.
_MANY = ("step", "report", "phase", "eval", "snapshot", "memory_snapshot")
_SUMS = ("steps", "step_s_now", "first", "crc")  # what is only there in some of these, or none of their words
_KEPT = 2000  # lines at the end, that stay as they are: what was just going on
_BATCH = 10_000


def compacted(lines: Iterable[Record]) -> list[Record]:
    """Fewer lines that come to the same, each at the place of the last that it stands for."""
    kept: dict[object, Record] = {}
    for number, line in enumerate(lines):
        kind = line.get("kind")
        if kind not in _MANY:
            kept[number] = line
            continue
        key = (line["g"], line["r"], line["n"], kind, line.get("name"), line.get("on"), _told(line))
        before = kept.pop(key, None)  # so that it comes in the new one's place
        kept[key] = line if before is None else _merged(before, line)
    return list(kept.values())


def _told(line: Record) -> tuple[str, ...]:
    """Of what a line tells: what is not in it is known from another."""
    values = line.get("values")
    inner = values if isinstance(values, dict) else {}
    return tuple(
        sorted(
            key
            for each in (line, inner)
            for key, value in each.items()
            if value is not None and key not in _SUMS
        )
    )


def _merged(before: Record, line: Record) -> Record:
    """One line for two of a kind."""
    whole = dict(line)
    if line["kind"] == "phase":
        whole["seconds"] = _number(before, "seconds") + _number(line, "seconds")
    if line["kind"] == "step":
        one, other = _steps(before), _steps(line)
        whole["steps"] = one + other
        for name in ("step_s", "data_s"):
            whole[name] = (_number(before, name) * one + _number(line, name) * other) / (one + other)
        # What a step takes now is what the newest line says.
        whole["step_s_now"] = line.get("step_s_now", line.get("step_s"))
        whole["first"] = before.get("first", before.get("when", before.get("at")))
    return whole


def _steps(line: Record) -> int:
    steps = line.get("steps")
    return steps if isinstance(steps, int) and steps > 0 else 1


def _number(line: Record, name: str) -> float:
    value = line.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def compact(path: Path) -> None:
    """Write a file of metrics anew, small; it is there whole or as it was. Raises OSError."""
    reader, lines = RecordsReader(path), list[Record]()
    while batch := reader.read(_BATCH):
        lines += batch
        if len(lines) > 2 * _BATCH:
            lines = [*compacted(lines[:-_KEPT]), *lines[-_KEPT:]]
    lines = [*compacted(lines[:-_KEPT]), *lines[-_KEPT:]]
    aside = path.with_suffix(".new")
    try:
        with aside.open("wb") as file:
            file.writelines(map(as_line, lines))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
