"""Time as a run counts it: Unix time read once, and from then on what the monotonic clock adds to it.

Whoever sets a machine's clock, by an hour or by a year, changes no order, no duration and no decision of a run. The
processes of one boot share their monotonic clock, so a coordinator that is started again on its machine goes on
counting where the one before it was. The journal keeps the clock; agents speak of their own monotonic time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Clock:
    """A clock that nobody sets.

    Args:
        boot: of the machine that counts; empty where it is unknown.
        epoch: the Unix time at which its monotonic clock was 0.
    """

    boot: str
    epoch: float

    @staticmethod
    def begun_at(unix: float) -> Clock:
        """The clock of this machine that says ``unix`` now."""
        return Clock(boot_id(), unix - time.monotonic())

    @staticmethod
    def of(events: Sequence[Mapping[str, Any]], age: float | None = None) -> Clock:
        """The clock that a journal was kept by, where this is still the same boot of the same machine.

        Elsewhere it is a new one, which goes on from the last event.

        Args:
            age: seconds since that; where nobody knows them, what this machine takes for the time must do.
        """
        kept = next((event["clock"] for event in reversed(events) if "clock" in event), None)
        if kept is not None and kept["boot"] and kept["boot"] == boot_id():
            return Clock(**kept)
        last = float(events[-1]["t"]) if events else 0.0
        return Clock.begun_at(max(time.time(), last) if age is None else last + age)

    def now(self) -> float:
        """Unix time."""
        return self.unix(time.monotonic())

    def unix(self, moment: float) -> float:
        """The Unix time of a monotonic one."""
        return self.epoch + moment

    def moment(self, unix: float) -> float:
        """The monotonic time of a Unix time that has passed."""
        return min(unix - self.epoch, time.monotonic())

    def dump(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return asdict(self)


def stamp() -> dict[str, Any]:
    """This moment, as :func:`age` understands it later."""
    return {"boot": boot_id(), "monotonic": time.monotonic(), "unix": time.time()}


def age(stamped: Mapping[str, Any]) -> float:
    """Seconds since a moment on this machine, whatever its clock was set to since, unless it was started anew.

    Raises:
        KeyError, TypeError: it is no stamp.
    """
    if stamped["boot"] and stamped["boot"] == boot_id():
        return max(0.0, time.monotonic() - float(stamped["monotonic"]))
    return max(0.0, time.time() - float(stamped["unix"]))


def boot_id() -> str:
    """What tells one boot of a machine from all others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
