"""A `RunOverview` as JSON: what `swarmtrain top --json` prints. Pure."""

from __future__ import annotations

from dataclasses import asdict

from swarmtrain.control.look.overview import RunOverview, reported
from swarmtrain.control.look.progress import progress, step_parts
from swarmtrain.control.look.rows import gpu_rows, node_rows, rank_rows
from swarmtrain.control.views import logs

_EVENTS = 50  # the last ones; `swarmtrain events --json` has all


def as_json(overview: RunOverview) -> dict[str, object]:
    """What the screen is made of; what is not known is null."""
    return {
        "status": overview.status.dump(),
        "progress": asdict(progress(overview)),
        "step": asdict(step_parts(overview)),
        "nodes": [asdict(each) for each in node_rows(overview)],
        "gpus": [asdict(each) for each in gpu_rows(overview)],
        "ranks": [asdict(each) for each in rank_rows(overview)],
        "reported": dict(reported(overview)),
        "events": [each.dump() for each in overview.events[-_EVENTS:]],
        "lines": [logs.as_json(each) for each in overview.lines],
        "diagnosis": None if overview.diagnosis is None else overview.diagnosis.dump(),
        "notice": overview.notice,
    }
