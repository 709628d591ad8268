"""Asking once how far a run's training is; live screens know it from what they ask anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.look.progress import TrainingProgress, progress
from swarmtrain.control.look.series import SeriesRange
from swarmtrain.errors import ChannelError, Refused
from swarmtrain.protocol.ask import ask

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.protocol.series.points import Series
    from swarmtrain.protocol.status import Status
    from swarmtrain.wire.link import Link

_TOLD = ("train/total_steps", "train/total_epochs", "train/epoch", "train/samples_per_second")
_CURVES = ("train/step_seconds", "train/samples")
_POINTS = 600  # as a live screen has them


def ask_how_far(launcher: Launcher, run: Run, status: Status) -> TrainingProgress:
    """How far a run of this status is; without what its coordinator does not measure. Raises ClusterError."""
    with launcher.connect(run) as link:
        try:
            told = _of_the_first_rank(link, _TOLD, points=False)
            curves = _of_the_first_rank(link, _CURVES, points=True)
        except (Refused, ChannelError):  # it is of a version that measures otherwise, or nothing
            told = curves = ()
    return progress(RunOverview(status, values=told, curves=curves))


def _of_the_first_rank(link: Link, names: tuple[str, ...], *, points: bool) -> tuple[Series, ...]:
    request = SeriesRange(ranks=(0,), most=_POINTS).request(names, points=points)
    return tuple(reply.series for reply in ask(link, request) if reply.series is not None)
