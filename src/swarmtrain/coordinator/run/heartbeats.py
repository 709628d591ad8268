"""How the workers of the current generation get on, as their pulses tell: see wire/pulse.py.

Agents read their workers' pulses and send them with every beat. What decisions need of them is an `Advance`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from swarmtrain.coordinator.core.hang import Straggler, straggler
from swarmtrain.coordinator.core.model import Advance
from swarmtrain.protocol.from_agent import PulseReport
from swarmtrain.wire.pulse import Activity, Source

_SAMPLES = 64  # step times of which the median is taken
_WINDOW_STEPS, _WINDOW_SECONDS = 20, 10.0  # over which the ranks' own work is compared, at least


@dataclass
class Heartbeat:
    """The last pulse of one rank. Times are monotonic, the coordinator's own; None: not yet."""

    step: int
    mark: int
    activity: Activity
    source: Source
    paused: bool
    busy: float  # seconds of its own work, in all
    resumed: int
    stepped: float | None
    first: float | None  # when it made its first step of this generation
    lived: float | None = None  # when it last showed another sign of life, while it made no steps
    sign: str = ""  # which
    epoch: int | None = None  # that its script began with
    counted: int | None = None  # its first step in this generation, by its optimizer's own count


class HeartbeatTracker:
    """The pulses of one generation.

    Args:
        ranks: how many workers it has.
    """

    def __init__(self, ranks: int = 0) -> None:
        self._ranks = ranks
        self._times: deque[float] = deque(maxlen=_SAMPLES)
        self._window: tuple[float, dict[int, Heartbeat]] | None = None
        self.beats: dict[int, Heartbeat] = {}

    def take(self, pulse: PulseReport, now: float) -> bool:
        """A rank's pulse.

        Returns:
            Whether the rank has made a step since its last pulse.
        """
        known = self.beats.get(pulse.rank)
        stepped = None if pulse.stepped_ago is None else now - pulse.stepped_ago
        first = None if pulse.first_ago is None else now - pulse.first_ago
        moved = known is None or known.stepped is None or pulse.step > known.step
        if not moved and known is not None and known.stepped is not None and stepped is not None:
            stepped = min(stepped, known.stepped)  # the same step: what came with less delay is nearer to it
        self.beats[pulse.rank] = Heartbeat(
            step=pulse.step,
            mark=pulse.mark,
            activity=Activity(pulse.activity) if pulse.activity in set(Activity) else Activity.NONE,
            source=Source(pulse.source) if pulse.source in set(Source) else Source.NOBODY,
            paused=bool(pulse.paused),
            busy=pulse.busy,
            resumed=pulse.resumed,
            stepped=stepped,
            first=known.first if first is not None and known is not None and known.first else first,
            lived=None if pulse.lived_ago is None else now - pulse.lived_ago,
            sign=pulse.sign,
            epoch=pulse.epoch,
            counted=pulse.counted,
        )
        last = known.stepped if known is not None else None
        if (
            known is not None
            and pulse.step > known.step
            and stepped is not None
            and last is not None
            and stepped > last
        ):
            self._times.append((stepped - last) / (pulse.step - known.step))
        return moved and stepped is not None

    def slept(self, seconds: float) -> None:
        """Nobody could hear a pulse for so long, so nothing of that time counts as standing still."""
        for beat in self.beats.values():
            if beat.stepped is not None:
                beat.stepped += seconds
            if beat.lived is not None:
                beat.lived += seconds

    def stepped(self) -> float | None:
        """When the last step was made by any rank."""
        return max((beat.stepped for beat in self.beats.values() if beat.stepped is not None), default=None)

    def alive(self) -> tuple[float, int, str] | None:
        """The last sign of life of ranks that make no steps: when, whose and which; None where none was seen."""
        seen = [(beat.lived, rank, beat.sign) for rank, beat in self.beats.items() if beat.lived is not None]
        return max(seen, default=None)

    def step(self) -> int | None:
        """The last step; None where nobody counts them."""
        known = [beat.step for beat in self.beats.values() if beat.source is not Source.NOBODY]
        return max(known, default=None)

    def step_of(self, rank: int) -> int | None:
        """The last step of one rank; None where nobody counts them."""
        beat = self.beats.get(rank)
        return beat.step if beat is not None and beat.source is not Source.NOBODY else None

    def resumed(self) -> int | None:
        """The step that the generation went on from; None where nobody tells."""
        told = [beat.resumed for beat in self.beats.values() if beat.source >= Source.CAN_PAUSE]
        return max(told, default=None)

    def begun(self) -> float | None:
        """When every rank had made its first step; None before."""
        firsts = [beat.first for beat in self.beats.values()]
        if len(firsts) < self._ranks or any(first is None for first in firsts):
            return None
        return max((first for first in firsts if first is not None), default=None)

    def different_starts(self) -> str:
        """Where its ranks began, in words, if that was not at the same point; all of them have made a step."""
        epochs = {rank: beat.epoch for rank, beat in sorted(self.beats.items())}
        counts = {rank: beat.counted for rank, beat in sorted(self.beats.items())}
        for what, told in (("epoch", epochs), ("step", counts)):
            first: dict[int, int] = {}
            for rank, began in told.items():
                if began is not None:
                    first.setdefault(began, rank)
            if len(first) > 1:
                return ", ".join(f"rank {rank} began at {what} {began}" for began, rank in first.items())
        return ""

    def usual(self) -> float | None:
        """Median seconds of a step, of late; None before the second.

        A coordinator that has just been started again has seen none being made, and takes the ranks' mean.
        """
        means = self._times or [
            (beat.stepped - beat.first) / (beat.step - beat.resumed - 1)
            for beat in self.beats.values()
            if beat.stepped is not None and beat.first is not None and beat.step - beat.resumed > 1
        ]
        if not means:
            return None
        import statistics  # which a coordinator that starts need not wait for

        return statistics.median(means)

    def straggler(self, now: float) -> Straggler | None:
        """The rank that slows the others down, if one has since this was last found out; asked at every beat."""
        if len(self.beats) < self._ranks or self._window is None:
            self._window = now, dict(self.beats)
            return None
        since, before = self._window
        steps = min(
            (beat.step - before[rank].step for rank, beat in self.beats.items() if rank in before), default=0
        )
        if steps < _WINDOW_STEPS or now - since < _WINDOW_SECONDS or len(before) < len(self.beats):
            return None
        self._window = now, dict(self.beats)
        busy = {
            rank: (beat.busy - before[rank].busy) / steps
            for rank, beat in self.beats.items()
            if beat.busy > before[rank].busy
        }
        return straggler(busy, (now - since) / steps, steps)

    def advance(self) -> Advance:
        """All of this, as decisions see it."""
        beats = self.beats.values()
        complete = len(self.beats) == self._ranks > 0
        alive = self.alive()
        return Advance(
            stepped=self.stepped(),
            lived=alive[0] if alive is not None else None,
            usual=self.usual(),
            steps=max((beat.step - beat.resumed for beat in beats), default=0),
            busy=not complete or any(beat.activity is not Activity.NONE for beat in beats),
            can_pause=complete and all(beat.source >= Source.CAN_PAUSE for beat in beats),
            reports_phases=complete and all(beat.source is Source.TRAINER for beat in beats),
        )
