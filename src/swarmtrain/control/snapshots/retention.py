"""Which snapshots may go, and which must not: pure decisions over what the nodes hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmtrain.errors import RequestError
from swarmtrain.protocol.snapshots import Snapshot

Key = tuple[int, int]

_LIVE = 2  # the newest ones, which a run that trains may go on from


@dataclass(frozen=True)
class Wanted:
    """What is to go: these steps, or what is older than so many seconds, or all but the newest so many."""

    steps: tuple[int, ...] = ()
    older_than: float | None = None
    keep: int | None = None


def complete(snapshots: Iterable[Snapshot]) -> list[Key]:
    """The snapshots that some node holds whole, newest first."""
    return sorted({each.key for each in snapshots if not each.damage}, reverse=True)


def choose(
    snapshots: Sequence[Snapshot], wanted: Wanted, *, live: bool = False, force: bool = False
) -> list[Key]:
    """What goes, oldest first.

    What would go by its age or number and must not is left out; a step that is named and must not go is refused.

    Args:
        live: the run has not ended: the newest two and what is being written stay.
        force: also the newest one of a run that has ended.

    Raises:
        RequestError: a step is not there, or must not go.
    """
    kept = _kept(snapshots, live=live, force=force)
    every = {each.key for each in snapshots}
    chosen = set()
    for step in wanted.steps:
        of_step = {key for key in every if key[1] == step}
        if not of_step:
            there = ", ".join(str(step) for step in sorted({key[1] for key in every})) or "none"
            raise RequestError(f"there is no snapshot of step {step}", f"there are steps {there}")
        if of_step & kept:
            raise RequestError(*_refusal(step, live=live))
        chosen |= of_step
    if wanted.older_than is not None:
        chosen |= {key for key, age in _ages(snapshots).items() if age > wanted.older_than}
    if wanted.keep is not None:
        chosen |= every - set(complete(snapshots)[: wanted.keep])
    return sorted(chosen - kept)


def _ages(snapshots: Sequence[Snapshot]) -> dict[Key, float]:
    """Seconds since each was written, by its youngest copy. None is older than one that was written before it.

    What nobody knows the age of counts as young.
    """
    ages: dict[Key, float] = {}
    youngest = float("inf")
    for key in sorted({each.key for each in snapshots}):
        copies = [each.age or 0.0 for each in snapshots if each.key == key]
        ages[key] = youngest = min(youngest, *copies)
    return ages


def _kept(snapshots: Sequence[Snapshot], *, live: bool, force: bool) -> set[Key]:
    """What stays whatever is asked."""
    newest = complete(snapshots)
    every = {each.key for each in snapshots}
    if live:
        return {key for key in every if len(newest) < _LIVE or key >= newest[_LIVE - 1]}
    return set() if force else set(newest[:1])


def _refusal(step: int, *, live: bool) -> tuple[str, str]:
    if live:
        return (
            f"step {step} is one of the newest {_LIVE}, and the run may go on from it",
            "older ones can be removed while it runs",
        )
    return f"step {step} is the newest complete snapshot", "--force removes that one, too"
