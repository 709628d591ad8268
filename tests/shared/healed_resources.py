"""What the processes of a run on a lab hold, looked at again and again: memory, and open files."""

from __future__ import annotations

import contextlib
import re
import statistics
import threading
from collections import defaultdict
from dataclasses import dataclass

from swarmtrain.errors import SwarmtrainError
from swarmtrain.lab.lab import Lab

# Of each process of a bundle: its number, when it began, what it is, KiB of memory of its own, and open files.
_LOOK = r"""
for p in /proc/[0-9]*; do
    words=$(tr '\0' ' ' <$p/cmdline 2>/dev/null) || continue
    case $words in *"bundle.zip agent"*|*"bundle.zip spawner"*|*"bundle.zip coordinator"*) ;; *) continue;; esac
    began=$(sed 's/.*) //' $p/stat 2>/dev/null | cut -d' ' -f20)
    memory=$(awk '/^RssAnon/ {print $2}' $p/status 2>/dev/null)
    files=$(ls $p/fd 2>/dev/null | wc -l)
    echo "${p#/proc/} $began $(echo "$words" | sed 's/.*bundle.zip \([a-z]*\).*/\1/') $memory $files"
done
"""


@dataclass(frozen=True)
class Resources:
    """One process at one time."""

    memory: int  # KiB
    files: int


class ResourceWatch:
    """Looks at a lab's nodes every ``seconds`` until it is stopped."""

    def __init__(self, lab: Lab, seconds: float) -> None:
        self._lab, self._seconds = lab, seconds
        self._over = threading.Event()
        self._looks: dict[str, list[Resources]] = defaultdict(list)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ResourceWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def growth(self, least: int = 8) -> dict[str, tuple[float, float]]:
        """By process that was seen long enough: KiB and files more in the last third than in the second.

        What a process takes to get going is in the first third. Medians, since a helper of a moment is no leak.
        """
        found = {}
        for name, looks in self._looks.items():
            if len(looks) >= least:
                third = len(looks) // 3
                middle, late = looks[third : 2 * third], looks[2 * third :]
                found[name] = (
                    statistics.median(each.memory for each in late)
                    - statistics.median(each.memory for each in middle),
                    statistics.median(each.files for each in late)
                    - statistics.median(each.files for each in middle),
                )
        return found

    def table(self) -> str:
        """For people: of each process how often it was seen, and its memory and files, first and last."""
        rows = []
        for name, looks in sorted(self._looks.items()):
            first, last = looks[0], looks[-1]
            rows.append(
                f"{name}: {len(looks)} looks, {first.memory} to {last.memory} KiB, {first.files} to {last.files} files"
            )
        return "\n".join(rows)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            for node in self._lab.nodes():
                with contextlib.suppress(SwarmtrainError):  # a node that is off, or just going off
                    if node.machine() == "running":
                        self._take(node.name, node.exec("sh", "-c", _LOOK, timeout=20))

    def _take(self, node: str, shown: str) -> None:
        for pid, began, what, memory, files in re.findall(
            r"^(\d+) (\d+) (\w+) (\d+) (\d+)$", shown, flags=re.M
        ):
            self._looks[f"{what} on {node} ({pid}, {began})"].append(Resources(int(memory), int(files)))
