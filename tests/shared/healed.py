"""What the tests of healing ask of a run of `healed_script.py`, wherever it was: on this machine or on a Swarm.

The books that its ranks keep say what each step was made of. Steps that a later generation did not go on from are void.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from waiting import until

from swarmtrain.control.handle import RunHandle
from swarmtrain.protocol.replies import Line

SCRIPT = Path(__file__).with_name("healed_script.py")
_BOOK = re.compile(r"book-g(\d+)-r(\d+)")
_RESUMING = re.compile(r"Resuming from .*g(\d+)-s(\d+)-\w+\.pt ")

Books = Mapping[str, str]  # the books' text by node and name: "node0/book-g1-r0"


def step_of(handle: RunHandle, seconds: float = 60) -> int:
    """How many steps a run has made, by its coordinator, which may be about to start again."""
    found: list[int] = []

    def asked() -> bool:
        found.append(handle.status().step or 0)
        return True

    until(asked, seconds, "an answer")
    return found[-1]


def reach(handle: RunHandle, step: int, seconds: float = 60) -> None:
    """Wait until a run has made so many steps; it may not end before."""

    def is_there() -> bool:
        status = handle.status()
        assert status.state in ("starting", "running", "stopping"), status.reason
        return (status.step or 0) >= step

    until(is_there, seconds, f"step {step} of {handle.id}")


def events(handle: RunHandle, kind: str) -> list[dict[str, Any]]:
    return [event.dump() for event in handle.events() if event.kind == kind]


def story(handle: RunHandle) -> str:
    """What happened, for the message of a failed test."""
    return "\n".join(f"{event.time:.2f} {event.kind}: {event.text}" for event in handle.events())


def weights(handle: RunHandle) -> str:
    """The hash of the weights that all ranks ended with."""
    status = handle.status()
    assert status.state == "succeeded", f"{status.reason}\n{story(handle)}"
    (digest,) = set((status.weights or {}).values())
    return str(digest)


def lines(handle: RunHandle) -> list[Line]:
    return [line for piece in handle.logs() for line in piece]


def output_by_rank(handle: RunHandle) -> dict[tuple[int, int], str]:
    """What the coordinator holds of the workers' output, by generation and rank."""
    found: dict[tuple[int, int], str] = {}
    for _, generation, rank, _, text in lines(handle):
        found[generation, rank] = found.get((generation, rank), "") + f"{text}\n"
    return found


class Account:
    """What became of the samples of a run."""

    def __init__(self, books: Books, handle: RunHandle) -> None:
        self._origins = origins(handle)
        self._entries: dict[int, list[list[Any]]] = {}
        self._of: dict[tuple[int, int], list[list[Any]]] = {}
        for path, text in books.items():
            match = _BOOK.search(path)
            assert match is not None, path
            whole = text.split("\n")[:-1]  # the last one may be torn by a loss of power
            entries = [json.loads(line) for line in whole]
            self._of[int(match[1]), int(match[2])] = entries
            self._entries.setdefault(int(match[1]), []).extend(entries)

    def counted(self) -> Iterator[list[Any]]:
        """The entries of steps that the final weights are made of, the newest generation first."""
        generation, end = max(self._entries), 1 << 60
        while True:
            begin_of, begin = self._origins.get(generation, (0, 0))
            yield from (each for each in self._entries.get(generation, []) if begin < each[0] <= end)
            if not begin_of:
                return
            generation, end = begin_of, begin

    def newest_step(self, generation: int, rank: int) -> int:
        """The last step that a rank has begun in a generation."""
        return int(max(each[0] for each in self._of[generation, rank]))

    def check(self, samples: int) -> None:
        """Every sample exactly once in each epoch, and every step there; the last epoch may be a part of one."""
        epochs: dict[int, Counter[int]] = {}
        steps = set()
        for step, epoch, _, indices in self.counted():
            epochs.setdefault(epoch, Counter()).update(indices)
            steps.add(step)
        assert steps == set(range(1, max(steps) + 1))
        for epoch, seen in epochs.items():
            wrong = {index: seen[index] for index in range(samples) if seen[index] != 1}
            if epoch == max(epochs):
                wrong = {index: count for index, count in wrong.items() if count > 1}
            assert not wrong, f"epoch {epoch}: {wrong}"
            assert set(seen) <= set(range(samples))

    def losses(self) -> list[float]:
        """The loss of each step over all of its samples."""
        sums: dict[int, list[float]] = {}
        for step, _, loss, indices in self.counted():
            entry = sums.setdefault(step, [0.0, 0])
            entry[0], entry[1] = entry[0] + loss, entry[1] + len(indices)
        return [total / count for _, (total, count) in sorted(sums.items())]


def origins(handle: RunHandle) -> dict[int, tuple[int, int]]:
    """By generation: of which generation the snapshot was that it went on from, and of which step."""
    found = {}
    for _, generation, _, _, text in lines(handle):
        if match := _RESUMING.search(text):
            found[generation] = (int(match[1]), int(match[2]))
    return found
