"""A profile of some steps of one of this node's workers, which records it itself (trainer/reports/profiling.py).

The question is a number in the worker's pulse and a file beside that of its stacks; the worker looks at the end of each
step. What it writes lies in the run's directory on this node for as long as somebody waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.errors import ClusterError
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.evidence.profile import ProfileNews
from swarmtrain.wire import names
from swarmtrain.wire.pulse import Activity, Source

if TYPE_CHECKING:
    from swarmtrain.agent.worker_group.workers import Workers
    from swarmtrain.protocol.to_agent import ProfileOrder
    from swarmtrain.wire.pulse import Pulse

_LOOK = 0.05  # seconds between looks at how far it is
_WRITING = 300.0  # seconds in which a trace is written
_MOST = 1 << 20  # bytes of an answer
_DOES = {
    Activity.START: "it still starts",
    Activity.RESUME: "it resumes from a snapshot",
    Activity.COMPILE: "it compiles",
    Activity.EVALUATION: "it evaluates",
    Activity.SNAPSHOT: "it writes a snapshot",
    Activity.AFTER_FIT: "its training has come to its goal",
    Activity.ENDING: "its script has ended",
}
_numbers = itertools.count(1)


class Profiling:
    """One profile of one worker; to be used in ``with``, whose end takes it back and removes its files.

    Attributes:
        trace: where it is once the news says that it is written.

    Raises:
        ClusterError: the worker does not run, or is being profiled already, or cannot be asked.
    """

    def __init__(self, workers: Workers, order: ProfileOrder) -> None:
        self._workers, self._order = workers, order
        pulse, stack = workers.pulse(order.rank), workers.stack_files().get(order.rank)
        if pulse is None or stack is None or self._has_ended():
            raise ClusterError(f"rank {order.rank} does not run now, so it makes no steps")
        if pulse.profile:
            raise ClusterError(
                f"rank {order.rank} is being profiled already", "try again when that profile has been fetched"
            )
        self._pulse: Pulse = pulse
        self._answers = Path(f"{stack}{names.PROFILE}")
        self.trace = Path(f"{self._answers}{names.PROFILE_TRACE}")

    def __enter__(self) -> Profiling:
        self._number = next(_numbers)
        try:
            self._remove()
            Path(f"{self._answers}{names.PROFILE_ASK}").write_text(json.dumps(dump(self._order)))
        except OSError as error:
            raise ClusterError(f"rank {self._order.rank} cannot be asked: {error.strerror}") from error
        self._pulse.profile = self._number
        return self

    def __exit__(self, *_: object) -> None:
        self._pulse.profile = 0
        self._remove()

    async def news(self) -> AsyncIterator[ProfileNews]:
        """How far it is, whenever that has changed; the last one says that it is written.

        Raises:
            ClusterError: it has failed, its worker has ended, or makes no steps.
        """
        told = ProfileNews("waiting")
        yield told
        step, due = self._pulse.step, time.monotonic() + self._order.within
        while told.state != "written":
            await asyncio.sleep(_LOOK)
            over = self._has_ended()  # before the look at what it has left
            found = self._found()
            if found is not None and found.state == "failed":
                raise ClusterError(f"rank {self._order.rank} was not profiled: {found.reason}")
            if found is not None and found != told:
                told = found
                due = time.monotonic() + (_WRITING if found.state == "writing" else self._order.within)
                yield told
            elif over:
                raise ClusterError(
                    f"rank {self._order.rank} ended, or was started again, before its profile was whole",
                    "`swarmtrain status` says how the run is; ask again when it trains",
                )
            elif self._pulse.step != step:
                step = self._pulse.step
            elif time.monotonic() > due:
                raise self._stands(told)

    def _stands(self, told: ProfileNews) -> ClusterError:
        rank, within = self._order.rank, self._order.within
        if told.state == "writing":
            return ClusterError(
                f"the trace of rank {rank} was not written within {_WRITING:.0f} s", "ask for fewer steps"
            )
        if self._pulse.source == Source.NOBODY:
            return ClusterError(
                f"rank {rank} tells of no steps, so none were recorded within {within:.0f} s",
                "steps are known of scripts that use our Trainer, DistributedDataParallel or fully_shard",
            )
        does = _DOES.get(self._pulse.doing(), "")  # type: ignore[call-overload]
        return ClusterError(
            f"rank {rank} made no step within {within:.0f} s" + (f": {does}" if does else ""),
            "`swarmtrain stacks` says where it is; --within waits for longer",
        )

    def _has_ended(self) -> bool:
        state = self._workers.states.get(self._order.rank)
        return state is None or state.state == "exited" or self._workers.pulse(self._order.rank) is None

    def _found(self) -> ProfileNews | None:
        """What the worker says; its process is the user's, so it may be anything."""
        try:
            with self._answers.open("rb") as file:
                answer = json.loads(file.read(_MOST))
            if answer.pop("number") != self._number:
                return None
            return load(ProfileNews, answer, "what the worker says of its profile")
        except FileNotFoundError:
            return None
        except Exception:
            return ProfileNews("failed", reason="what it says of it makes no sense")

    def _remove(self) -> None:
        """Whatever is left of a profile of this rank, also of one that was torn."""
        for each in self._answers.parent.glob(f"{self._answers.name}*"):
            each.unlink(missing_ok=True)
