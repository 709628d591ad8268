"""A run's newest measurements as OpenMetrics text, which Prometheus reads; pure.

Names are those of the series with ``swarmtrain_`` before them and ``_`` in the place of strokes; they end with a
base unit, ratios are from 0 to 1, counters end with ``_total`` (https://prometheus.io/docs/practices/naming/). No step
and no container is a label, and ``job`` and ``instance`` are Prometheus' own. Rendered by the
coordinator (`coordinator/clients/endpoint.py`) and by `swarmtrain metrics --serve`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.series.table import TABLE
from swarmtrain.protocol.status import Status

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FRESH = 300.0  # seconds: what is older says nothing of now; Prometheus forgets a series after as long
STATES = ("starting", "running", "stopping", "succeeded", "failed", "stopped")
_UNITS = {"s": "seconds", "B": "bytes", "ratio": "ratio", "°C": "celsius", "W": "watts", "Hz": "hertz"}
_TEXTS = {each.name: each.text for each in TABLE}
_NO_NAME = re.compile(r"[^a-zA-Z0-9_]")


class MetricSample(Struct):
    """One value of a family."""

    value: float | None  # None: what was told is not finite
    labels: Mapping[str, str]


class MetricFamily(Struct):
    """One name, with its values."""

    name: str
    kind: Literal["gauge", "counter", "info"]
    text: str
    samples: Sequence[MetricSample]
    unit: str = ""


def openmetrics(status: Status, series: Iterable[Series]) -> str:
    """The text.

    Args:
        series: with their newest values; those that are not of now are left out.
    """
    now = status.now or 0.0
    own = {"run": status.run}
    families = [*_of_run(status), *_of_series([each for each in series if (each.time or 0.0) > now - FRESH])]
    return "".join(line + "\n" for family in families for line in _lines(family, own)) + "# EOF\n"


# ---- of the run -----------------------------------------------------------------------------------------------------


def _of_run(status: Status) -> Iterator[MetricFamily]:
    def one(name: str, text: str, value: float | None, unit: str = "") -> Iterator[MetricFamily]:
        if value is not None:
            yield MetricFamily(f"run_{name}", "gauge", text, [MetricSample(value, {})], unit)

    yield MetricFamily(
        "run",
        "info",
        "the run: what it trains",
        [MetricSample(1.0, {"training": status.job, "target": status.target})],
    )
    states = [MetricSample(float(each == status.state), {"state": each}) for each in STATES]
    yield MetricFamily("run_state", "gauge", "1: the run is in this state", states)
    yield from one("created_timestamp_seconds", "when it was submitted", status.created, "seconds")
    yield from one("ended_timestamp_seconds", "when it ended", status.ended, "seconds")
    yield from one("generation", "the number of its attempt", status.generation)
    yield from one("world_size", "ranks of its attempt", status.world_size)
    yield from one("step", "steps of the training, as rank 0 counts them", status.step)
    if status.snapshot is not None:
        yield from one("snapshot_step", "the step of the newest snapshot", status.snapshot.step)
    counts: dict[str, int] = {}
    for member in status.members:
        counts[member.state] = counts.get(member.state, 0) + 1
    nodes = [MetricSample(float(count), {"state": state}) for state, count in sorted(counts.items())]
    yield MetricFamily("run_nodes", "gauge", "its nodes, by their states", nodes)
    yield from one(
        "nodes_without_snapshots", "nodes whose disks take no snapshots", len(status.snapshots_failing)
    )
    if status.goodput is not None:
        yield from one(
            "goodput_ratio", "of its time: in steps that counted", status.goodput.ratio, unit="ratio"
        )
    for name, text, value in (
        ("restarts", "how often it went on after a failure", float(status.restarts)),
        ("lost_steps", "steps that were made again", float(status.lost_steps)),
        (
            "lost_seconds",
            "between the last step before a failure and the first one after it",
            status.lost_seconds,
        ),
    ):
        unit = "seconds" if name.endswith("seconds") else ""
        yield MetricFamily(f"run_{name}", "counter", text, [MetricSample(value, {})], unit)


# ---- of what was measured -------------------------------------------------------------------------------------------


def _of_series(series: Sequence[Series]) -> Iterator[MetricFamily]:
    by_name: dict[str, list[Series]] = {}
    for each in series:
        name = _NO_NAME.sub("_", each.name)
        if name.partition("_")[0] != "run":  # ours, whatever a script calls its values
            by_name.setdefault(name, []).append(each)
    for name, its in sorted(by_name.items()):
        unit = _UNITS.get(its[0].unit, "")
        text = _TEXTS.get(its[0].name, "what the script reports")
        samples: dict[tuple[tuple[str, str], ...], MetricSample] = {}
        for each in its:  # two names of a script that differ in a stroke are one here: the first counts
            labels = {_NO_NAME.sub("_", key): value for key, value in each.labels.items()}
            samples.setdefault(tuple(sorted(labels.items())), MetricSample(each.value, labels))
        yield MetricFamily(
            name, "gauge", text, [*samples.values()], unit if name.endswith(f"_{unit}") else ""
        )


# ---- the text -------------------------------------------------------------------------------------------------------


def _lines(family: MetricFamily, own: Mapping[str, str]) -> Iterator[str]:
    name = f"swarmtrain_{family.name}"
    ending = {"counter": "_total", "info": "_info", "gauge": ""}[family.kind]
    yield f"# TYPE {name} {family.kind}"
    if family.unit:
        yield f"# UNIT {name} {family.unit}"
    yield f"# HELP {name} {_escaped(family.text)}"
    for each in family.samples:
        labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in {**own, **each.labels}.items())
        yield f"{name}{ending}{{{labels}}} {_number(each.value)}"


def _number(value: float | None) -> str:
    return "NaN" if value is None else repr(float(value))


def _escaped(text: str) -> str:
    readable = text.encode(errors="replace").decode()
    return readable.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def names_this_machine(host: str) -> bool:
    """Whether the Host of a request is this machine, or none is given.

    A browser's page from elsewhere whose name was made to lead to this machine has that name there.
    """
    try:
        return not host or urlsplit(f"//{host}").hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False
