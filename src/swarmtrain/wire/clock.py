"""The clock of a machine, which tests turn by hand; and time as a run counts it.

A run reads Unix time once, and from then on adds what the monotonic clock does. Whoever sets a machine's clock, by an
hour or by a year, changes no order, no duration and no decision of a run. The processes of one boot share their
monotonic clock, so a coordinator that is started again on its machine goes on counting where the one before it was. The
journal keeps by what clock it counts; agents speak of their own monotonic time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from swarmtrain.structs import Struct


class Clock(Protocol):
    """The clock of one machine. Times are seconds."""

    def monotonic(self) -> float:
        """Time that nobody sets."""
        ...

    def unix(self) -> float:
        """What the machine takes for Unix time; a person may set it."""
        ...

    def boot(self) -> str:
        """What tells one boot of the machine from all others; empty where that is unknown."""
        ...


class MachineClock:
    """That of this machine."""

    def monotonic(self) -> float:
        """Time that nobody sets."""
        return time.monotonic()

    def unix(self) -> float:
        """What this machine takes for Unix time."""
        return time.time()

    def boot(self) -> str:
        """The id of this boot."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""


MACHINE: Clock = MachineClock()


class RunClock(Struct):
    """The time of one run, which nobody sets.

    Args:
        clock: of the machine that counts.
        epoch: the Unix time at which its monotonic time was 0.
    """

    clock: Clock
    epoch: float

    @staticmethod
    def begun_at(unix: float, clock: Clock) -> RunClock:
        """The run's clock that says ``unix`` now."""
        return RunClock(clock, unix - clock.monotonic())

    @staticmethod
    def after(
        last: float, clock: Clock, *, boot: str = "", epoch: float = 0.0, age: float | None = None
    ) -> RunClock:
        """The clock that a journal was kept by, where this is still the same boot of the same machine.

        Elsewhere it is a new one, which goes on from the last event.

        Args:
            last: Unix time of that; 0 where nothing has happened yet.
            boot, epoch: of the clock before; no boot where there was none.
            age: seconds since the last event; where nobody knows them, what this machine takes for the time must do.
        """
        if boot and boot == clock.boot():
            return RunClock(clock, epoch)
        return RunClock.begun_at(max(clock.unix(), last) if age is None else last + age, clock)

    def monotonic(self) -> float:
        """The machine's monotonic time."""
        return self.clock.monotonic()

    def now(self) -> float:
        """Unix time."""
        return self.unix(self.clock.monotonic())

    def unix(self, moment: float) -> float:
        """The Unix time of a monotonic one."""
        return self.epoch + moment

    def moment(self, unix: float) -> float:
        """The monotonic time of a Unix time that has passed."""
        return min(unix - self.epoch, self.clock.monotonic())


def stamp(clock: Clock = MACHINE) -> dict[str, str | float]:
    """This moment, as :func:`age` understands it later."""
    return {"boot": clock.boot(), "monotonic": clock.monotonic(), "unix": clock.unix()}


def age(stamped: Mapping[str, str | float], clock: Clock = MACHINE) -> float:
    """Seconds since a moment on this machine, whatever its clock was set to since, unless it was started anew.

    Raises:
        KeyError, TypeError: it is no stamp.
    """
    if stamped["boot"] and stamped["boot"] == clock.boot():
        return max(0.0, clock.monotonic() - float(stamped["monotonic"]))
    return max(0.0, clock.unix() - float(stamped["unix"]))
