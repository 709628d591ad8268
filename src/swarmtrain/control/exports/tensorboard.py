"""A run's series as TensorBoard's event files, written by its own package: `swarmtrain metrics NAME --tensorboard DIR`.

One directory a rank, and one a node, device, interface or GPU: what TensorBoard calls a run, and draws in a colour of
its own. A point stands at its step where it has one, else at its second since the run was submitted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol.series.points import Series

_ENDING = ".swarmtrain"  # of our files, which are written anew; nobody else's are touched
_APART = re.compile(r"[^\w.=-]+")


def write_events(directory: Path, run: str, created: float, series: Iterable[Series]) -> int:
    """Write what was measured of a run below ``directory/RUN``, in the place of what was written there before.

    Args:
        created: when the run was submitted, Unix time.

    Returns:
        How many points were written.

    Raises:
        RequestError: the package is not there. ClusterError: the directory cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event as BoardEvent
        from tensorboard.compat.proto.summary_pb2 import Summary as BoardSummary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise RequestError(
            f"TensorBoard's event files need its package, which is not here ({error})",
            "pip install 'swarmtrain[tensorboard]'",
        ) from None
    by_place: dict[str, list[Series]] = {}
    for each in series:
        if each.points:
            by_place.setdefault(_place(each.labels), []).append(each)
    written = 0
    try:
        for place, its in sorted(by_place.items()):
            where = directory / run / place
            _make_room(where)
            writer = EventFileWriter(str(where), filename_suffix=_ENDING)
            for one in its:
                for point in one.points:
                    value = math.nan if point.mean is None else point.mean
                    step = point.step if point.step is not None else round(max(0.0, point.time - created))
                    summary = BoardSummary(value=[BoardSummary.Value(tag=one.name, simple_value=value)])
                    writer.add_event(BoardEvent(wall_time=point.time, step=step, summary=summary))
                    written += 1
            writer.close()
    except OSError as error:
        raise ClusterError(f"cannot write {error.filename or directory}: {error.strerror}") from error
    return written


def _place(labels: Mapping[str, str]) -> str:
    """The directory of what has these labels: ``rank=0``, ``node=lab-2,gpu=0``; never one outside."""
    first = [key for key in ("rank", "node") if key in labels]
    named = [*first, *(key for key in sorted(labels) if key not in first)]
    return _APART.sub("_", "+".join(f"{key}={labels[key]}" for key in named)).strip(".") or "run"


def _make_room(where: Path) -> None:
    """Make the directory, and remove what an earlier export has left in it."""
    where.mkdir(parents=True, exist_ok=True)
    for old in where.glob(f"events.out.tfevents.*{_ENDING}"):
        old.unlink()
