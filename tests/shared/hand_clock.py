"""Machines' clocks that tests turn by hand. Their Unix time may be set, as a person may set it."""

from __future__ import annotations

from swarmtrain.wire.clock import MachineClock


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


class TurnedClock(MachineClock):
    """This machine's clock, for what has to do with its files; it goes on by itself.

    Attributes:
        passed: seconds that it was turned on by.
        astray: seconds by which a person has set its Unix time wrong.
    """

    def __init__(self) -> None:
        self.passed = self.astray = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed

    def unix(self) -> float:
        return super().unix() + self.passed + self.astray
