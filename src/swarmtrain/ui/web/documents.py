"""What the page is told, as JSON: documents made of statuses, events, lines, series and diagnoses. Pure.

Sentences are made here, by the same functions as those of every other screen; the page only lays them out. All that
strangers wrote goes through `clean` on its way.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmtrain.control.handle import RunHandle
from swarmtrain.control.views import explanation, narration, view
from swarmtrain.control.views.clean import clean
from swarmtrain.control.views.format import one_line
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import GenerationFailed, GenerationFormed
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.series.table import TABLE
from swarmtrain.protocol.status import Status

Json = dict[str, object]

_ABOUT = {each.name: each.text for each in TABLE}
# Of an event's own keys, those that the page shows.
_TOLD = (
    "generation",
    "rank",
    "node",
    "seconds",
    "at_step",
    "from_step",
    "nodes",
    "outcome",
    "address",
    "interface",
)


def run_entry(handle: RunHandle, status: Status | None) -> Json:
    """A run in the list of all; of one that could not be asked, only that it is there."""
    run = handle.run
    entry: Json = {"run": run.id, "job": run.job, "on": run.on, "created": run.created}
    state = view.AT_REST if run.rests else view.UNREACHABLE
    return entry | {"state": state if status is None else view.state(status)}


def status_document(status: Status) -> Json:
    """How a run is: its status document, and what screens say of it."""
    now = status.now or status.ended or 0.0
    return {
        "status": status.dump(),
        "words": {
            "state": view.state(status),
            "headline": view.headline(status, now),
            "spent": view.time_spent(status),
            "cost": view.cost(status),
            "troubles": view.troubles(status),
            "reason": one_line(status.reason),
        },
    }


def event_document(event: Event) -> Json:
    """An event, for the list and for the time line."""
    told = event.dump()
    if isinstance(event, GenerationFailed):
        told |= {"rank": event.failure.rank, "node": event.failure.node}
    document: Json = {"seq": event.seq, "t": event.time, "kind": event.kind, "text": view.event_text(event)}
    if isinstance(event, GenerationFormed):
        document["ranks"] = sum(len(part.ranks) for part in event.parts.values())
        document["on"] = sorted(event.parts)
    named = {key: told[key] for key in _TOLD if told.get(key) not in (None, "")}
    return document | named | {"tone": narration.tone(event)}


def line_row(line: Line) -> list[object]:
    """A line that a worker wrote: time, generation, rank, node, text."""
    return [round(line.time, 3), line.generation, line.rank, line.node, _shown(line.text)]


def diagnosis_document(diagnosis: Diagnosis) -> Json:
    """What is wrong with a run, with its verdict in a line."""
    document = _without_controls(diagnosis.dump())
    assert isinstance(document, dict)
    words = {"verdict": explanation.verdict(diagnosis), "trouble": explanation.is_trouble(diagnosis)}
    return document | {"words": words}


def series_document(series: Series) -> Json:
    """One series; its points as columns, for which the page needs no object a point.

    Where every point of a column is as it mostly is (one measurement, which is its own least and greatest), the column
    is left out.
    """
    document: Json = {
        "name": series.name,
        "labels": dict(series.labels),
        "unit": series.unit,
        "about": _ABOUT.get(series.name, ""),
        "nodes": series.nodes,
        "time": series.time,
        "step": series.step,
        "value": series.value,
    }
    if not series.points:
        return document
    points = series.points
    columns: dict[str, Sequence[object]] = {
        "x": [point.x for point in points],
        "time": [round(point.time, 3) for point in points],
        "step": [point.step for point in points],
        "generation": [point.generation for point in points],
        "mean": [_short(point.mean) for point in points],
    }
    if any(point.points > 1 for point in points):
        columns["low"] = [_short(point.low) for point in points]
        columns["high"] = [_short(point.high) for point in points]
        columns["points"] = [point.points for point in points]
    if any(point.bad for point in points):
        columns["bad"] = [point.bad for point in points]
    return document | {"columns": columns}


def _short(value: float | None) -> float | None:
    """Seven digits, more than a screen shows."""
    return None if value is None else float(f"{value:.7g}")


def _shown(text: str) -> str:
    """Text of a line without what drives terminals; a byte that is no character is shown as such."""
    return clean(text, colour=False).encode("utf-8", "backslashreplace").decode("utf-8")


def _without_controls(value: object) -> object:
    if isinstance(value, str):
        return "\n".join(_shown(line) for line in value.split("\n"))
    if isinstance(value, list):
        return [_without_controls(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_controls(each) for key, each in value.items()}
    return value
