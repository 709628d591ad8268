"""One thing that went wrong in a run: in the journal, and as a run's cause in the status document."""

from __future__ import annotations

from dataclasses import asdict, field

from swarmtrain.protocol.schema import Struct


class Failure(Struct):
    """One thing that went wrong in a generation.

    Attributes:
        kind: ``exception``, ``exit``, ``signal``, ``memory``, ``node``, ``hang``, ``start`` or ``placement``.
        node: where; empty where no node is to blame.
        time: Unix time by the run's clock.
        summary: one line.
        rank: of the worker; null where it befell a whole node.
        traceback: of its exception, or of where it stood.
        code, signal: with which its process ended.
        log: the rank's last lines, where there is no traceback.
        hint: what a person may do about it.
    """

    kind: str
    node: str
    time: float
    summary: str
    rank: int | None = None
    traceback: str = ""
    code: int | None = None
    signal: int | None = None
    log: list[str] = field(default_factory=list)
    hint: str = ""

    def sentence(self) -> str:
        """Where it happened, and what."""
        if not self.node:
            return self.summary
        if self.summary.startswith("was lost"):  # of a whole node
            return f"{self.node} {self.summary}"
        who = self.node if self.rank is None else f"rank {self.rank} on {self.node}"
        return f"{who}: {self.summary}"

    def dump(self) -> dict[str, object]:
        """As it goes into the journal and the status document."""
        return asdict(self)
