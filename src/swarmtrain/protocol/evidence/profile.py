"""What torch's profiler has recorded of a few steps of a rank, in short; the trace itself travels as a file."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, NamedTuple

from swarmtrain.protocol.schema import OMITTED, Struct


class OperatorTime(NamedTuple):
    """One operator, or one kernel, over all recorded steps; all times in seconds.

    Attributes:
        self_s: on the processor, less what it has called.
        total_s: on the processor, with that.
        device_s: of its own kernels on a GPU.
    """

    name: str
    calls: int
    self_s: float
    total_s: float
    device_s: float


class ProfileSummary(Struct):
    """The recorded steps of one rank.

    Attributes:
        first: the first of them, as the rank counts its steps.
        steps: how many.
        seconds: that they took, with the profiler's own cost.
        device: ``cpu`` or ``cuda``: where self time is looked at.
        communication_s, data_s, optimizer_s: seconds in which gradients travelled, in part beside computing; in which
            the data loader was waited for; in which an optimizer made its step.
        operators: those with the most self time, the longest first.
        early: the recording ended before all steps were made, since it went on for long.
    """

    first: int
    steps: int
    seconds: float
    device: str
    communication_s: float
    data_s: float
    optimizer_s: float
    operators: list[OperatorTime] = field(default_factory=list)
    early: Annotated[bool, OMITTED] = False


class ProfileNews(Struct):
    """How far the recording is.

    Attributes:
        state: ``waiting`` for the next step, ``warming`` up, ``recording``, ``writing`` the trace, ``written``,
            ``failed``.
        made: steps that are recorded.
        reason: why it has failed.
        summary: once it is written.
    """

    state: Literal["waiting", "warming", "recording", "writing", "written", "failed"]
    made: Annotated[int, OMITTED] = 0
    reason: Annotated[str, OMITTED] = ""
    summary: Annotated[ProfileSummary | None, OMITTED] = None
