"""Every error that swarmtrain raises on purpose, with its hint and its exit code.

    SwarmtrainError            1
    ├── TrainingError          1   the training itself failed
    ├── TrainerError           1   the trainer cannot go on: an option, a model, a snapshot
    │   └── DriftError         1   ranks that must hold the same weights hold different ones
    ├── RequestError           2   the request is wrong on any cluster: a job file, a flag, a path
    ├── ClusterError           3   the request is wrong on this cluster: placement, Docker, a name clash
    ├── ChannelError           3   a peer on the wire broke the protocol or failed to prove who it is
    └── Stopped                4   a person stopped the run

The hint is a part of the error: ``str()`` of one is its message, an empty line and ``hint: ...``. The command line
prints that behind ``error:`` and exits with ``exit_code``. What quotes an error in a sentence of its own takes
`in_short`.

An exception that is not of this tree is caught before anybody sees it; its docstring says so in a line that begins
with "Outside of the tree".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

_E = TypeVar("_E", bound="SwarmtrainError")


class SwarmtrainError(Exception):
    """The root of the tree.

    Args:
        message: what is wrong, in one sentence, without a trailing full stop.
        hint: what to do next; empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles: whatever a class of the tree is made of, it comes back as it was."""
        return _again, (type(self), self.args), self.__dict__


class TrainingError(SwarmtrainError):
    """The run started and training failed."""

    exit_code = 1


class TrainerError(SwarmtrainError):
    """Something that the person who wrote or started a training with the trainer must know."""

    exit_code = 1


class DriftError(TrainerError):
    """Ranks that must hold the same weights hold different ones.

    Attributes:
        ranks: the ranks that differ from most.
    """

    def __init__(self, ranks: Sequence[int], world_size: int, step: int) -> None:
        names = ", ".join(map(str, ranks))
        subject = f"rank {names} has" if len(ranks) == 1 else f"ranks {names} have"
        super().__init__(
            f"{subject} drifted apart from the other ranks by step {step}: of {world_size} ranks, most hold other "
            "parameters",
            "memory or network faults do this, and so does code that changes the model on some ranks only",
        )
        self.ranks = list(ranks)


class RequestError(SwarmtrainError):
    """The request would be wrong on any cluster."""

    exit_code = 2


class ClusterError(SwarmtrainError):
    """The request cannot be met on this cluster as it is now."""

    exit_code = 3


class Refused(ClusterError):
    """A coordinator heard the request and refused it: asking again gives the same answer."""


class ChannelError(SwarmtrainError):
    """A peer on the wire broke the protocol, or did not prove that it knows the run's secret."""

    exit_code = 3


class Stopped(SwarmtrainError):
    """A person stopped the run."""

    exit_code = 4


def in_short(error: BaseException) -> str:
    """What an error says, without its hint: for a sentence that goes on, or a place that has one for hints."""
    return error.message if isinstance(error, SwarmtrainError) else str(error)


def _again(kind: type[_E], args: tuple[Any, ...]) -> _E:
    """An error of this class that has not been through its constructor."""
    return kind.__new__(kind, *args)
