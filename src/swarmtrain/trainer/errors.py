"""The errors that the trainer raises on purpose."""

from __future__ import annotations

from swarmtrain.wire.plural import plural


class TrainerError(RuntimeError):
    """Something that the person who wrote or started the training must know.

    Args:
        message: what is wrong, in one sentence, without a trailing full stop.
        hint: what to do next; empty when the message already says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint


class DriftError(TrainerError):
    """Ranks that must hold the same weights hold different ones.

    Attributes:
        ranks: the ranks that differ from most.
    """

    def __init__(self, ranks: list[int], world_size: int, step: int) -> None:
        names = ", ".join(map(str, ranks))
        subject = plural(len(ranks), f"rank {names} has", f"ranks {names} have")
        super().__init__(
            f"{subject} drifted apart from the other ranks by step {step}: of {world_size} ranks, most hold other "
            "parameters",
            "memory or network faults do this, and so does code that changes the model on some ranks only",
        )
        self.ranks = ranks
