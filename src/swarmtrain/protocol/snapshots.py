"""A copy of a snapshot, as nodes tell of it."""

from __future__ import annotations

from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.disk.snapshots import stem


class Snapshot(Struct):
    """One copy of a snapshot, on one tier of one node.

    Attributes:
        tier: ``disk`` or ``memory``.
        fence: the number that its writer had claimed, above all that were there before; by it, snapshots are ordered.
        run, generation: of its writer; empty and None where it had none, or was of a version that did not say.
        time: Unix time at which it was written, on the node's clock.
        age: seconds since then, as the node counts them; None where it does not know.
        file: the name of its data.
        damage: what is wrong with it, in words; empty where nothing is known to be.
    """

    node: str
    tier: str
    fence: int
    step: int
    run: str = ""
    generation: int | None = None
    file: str = ""
    epoch: int | None = None
    world_size: int | None = None
    bytes: int = 0
    sha256: str = ""
    time: float = 0.0
    age: float | None = None
    damage: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """By which snapshots are ordered: once a start has gone on from one, what others before it wrote is older."""
        return self.fence, self.step

    @property
    def manifest(self) -> str:
        """The name of its manifest."""
        return f"{stem(*self.key)}.json"
