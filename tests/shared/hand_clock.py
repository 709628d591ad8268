"""A machine's clock that tests turn by hand. Its Unix time may be set, as a person may set it."""

from __future__ import annotations


class HandClock:
    """A `swarmtrain.wire.clock.Clock`.

    Attributes:
        now: its monotonic time.
        epoch: the Unix time at which that was 0, as the machine takes it.
        boot_id: of the machine.
    """

    def __init__(self, now: float = 50_000.0, epoch: float = 1_800_000_000.0) -> None:
        self.now, self.epoch = now, epoch
        self.boot_id = "00000000-0000-0000-0000-000000000001"

    def monotonic(self) -> float:
        return self.now

    def unix(self) -> float:
        return self.epoch + self.now

    def boot(self) -> str:
        return self.boot_id

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
