"""Whether a node is short of disk, or its GPU is hot, by what it measures of itself. Pure.

What is told has held for a while: one sample proves nothing. It is told once, until it has been well again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from swarmtrain.protocol.alerts.kinds import AlertKind
from swarmtrain.protocol.schema import Struct

# Below it Prometheus's own rules for machines warn, too (node-mixin, fsSpaceAvailableWarningThreshold); and above which
# it is well again.
FREE, FREE_AGAIN = 0.05, 0.08
LOW_SECONDS, HOT_SECONDS = 60.0, 30.0
_STALE = 30.0  # seconds after which a sample says nothing of now: they come every five
_GB = 1e9


class NodeFinding(Struct):
    """What is told of a node."""

    kind: AlertKind
    node: str
    about: str
    text: str


class NodeLevels(Struct, kw_only=True):
    """The newest of a node.

    Attributes:
        time: of it, Unix time by the run's clock.
        used: of the disk where the run keeps its files, from 0 to 1; None: not told.
        free: bytes that are left there.
        gpus: by GPU, whether its clocks are low as it is too hot, and its temperature in °C where it tells one.
    """

    node: str
    time: float
    used: float | None = None
    free: float | None = None
    gpus: Mapping[str, tuple[bool, float | None]] = field(default_factory=dict)


class NodeWatch:
    """What holds of a run's nodes, since when, and what was told of it."""

    def __init__(self) -> None:
        self._since: dict[tuple[AlertKind, str], float] = {}
        self._told: set[tuple[AlertKind, str]] = set()

    def take(self, sample: NodeLevels, now: float) -> list[NodeFinding]:
        """One more sample; what is to be told of it."""
        if sample.time < now - _STALE:
            return []
        found = []
        if sample.used is not None:
            low, well = 1 - sample.used < FREE, 1 - sample.used > FREE_AGAIN
            if self._holds(("disk_low", sample.node), low, well, sample.time, LOW_SECONDS):
                left = f" ({sample.free / _GB:.1f} GB)" if sample.free is not None else ""
                text = f"{sample.node} has {(1 - sample.used) * 100:.1f} % of its disk left{left}"
                found.append(NodeFinding("disk_low", sample.node, sample.node, text))
        for gpu, (is_hot, heat) in sorted(sample.gpus.items()):
            about = f"GPU {gpu} of {sample.node}"
            if self._holds(("gpu_hot", about), is_hot, not is_hot, sample.time, HOT_SECONDS):
                at = f" at {heat:.0f} °C" if heat is not None else ""
                text = f"{about} has had low clocks for {HOT_SECONDS:.0f} s as it is too hot{at}"
                found.append(NodeFinding("gpu_hot", sample.node, about, text))
        return found

    def _holds(
        self, key: tuple[AlertKind, str], is_so: bool, is_well: bool, time: float, seconds: float
    ) -> bool:
        """Whether it has been so for so long, and was not told yet."""
        if is_well:
            self._told.discard(key)
        if not is_so:
            self._since.pop(key, None)
            return False
        if time - self._since.setdefault(key, time) < seconds or key in self._told:
            return False
        self._told.add(key)
        return True
