"""Every error that swarmtrain raises on purpose, with its hint and its exit code.

    SwarmtrainError            1
    ├── TrainingError          1   the training itself failed
    ├── RequestError           2   the request is wrong on any cluster: a job file, a flag, a path
    ├── ClusterError           3   the request is wrong on this cluster: placement, Docker, a name clash
    ├── ChannelError           3   a peer on the wire broke the protocol or failed to prove who it is
    └── Stopped                4   a person stopped the run

The command line prints ``error: message``, an empty line and ``hint: ...``, and exits with ``exit_code``.
"""

from __future__ import annotations


class SwarmtrainError(Exception):
    """The root of the tree.

    Args:
        message: what is wrong, in one sentence, without a trailing full stop.
        hint: what to do next; empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TrainingError(SwarmtrainError):
    """The run started and training failed."""

    exit_code = 1


class RequestError(SwarmtrainError):
    """The request would be wrong on any cluster."""

    exit_code = 2


class ClusterError(SwarmtrainError):
    """The request cannot be met on this cluster as it is now."""

    exit_code = 3


class ChannelError(SwarmtrainError):
    """A peer on the wire broke the protocol, or did not prove that it knows the run's secret."""

    exit_code = 3


class Stopped(SwarmtrainError):
    """A person stopped the run."""

    exit_code = 4
