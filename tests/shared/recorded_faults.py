"""What a coordinator knew of runs that went wrong, kept as files: read, and written by benchmarks/diagnose.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from swarmtrain.coordinator.clients.explain import whole_case
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.diagnosis.case import Case
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.evidence.seen import FlightReport
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.status import Status
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.names import SECRET_ON_LOCAL
from swarmtrain.wire.run_spec import RunSecret, RunSpec

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "unit" / "fixtures" / "diagnosis"
HOME = "/home/ada"  # in the place of the directory in which a fault was produced


def write(path: Path, case: Case, directory: Path) -> None:
    """Keep a case. What is of this machine alone is left out.

    Args:
        directory: in which it was produced.
    """
    document = {
        "status": case.status.dump(),
        "events": [event.dump() for event in case.events],
        "causes": [dump(each) for each in case.causes],
        "lines": {str(rank): list(lines) for rank, lines in case.lines.items()},
        "stacks": {str(rank): stack for rank, stack in case.stacks.items()},
        "flights": {str(rank): dump(each) for rank, each in case.flights.items()},
        "looked": case.looked,
        "stands": case.stands,
    }
    text = json.dumps(document, indent=1)
    ours = {str(directory): HOME, sys.prefix: "/opt/venv", str(ROOT): "/opt", sys.base_prefix: "/usr"}
    for here, anywhere in ours.items():
        text = text.replace(here, anywhere)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def read(path: Path) -> Case:
    """A case that was kept."""
    document: dict[str, Any] = json.loads(path.read_text())
    return Case(
        status=load(Status, document["status"]),
        events=[events.load(each) for each in document["events"]],
        causes=[load(Failure, each) for each in document["causes"]],
        lines={int(rank): lines for rank, lines in document["lines"].items()},
        stacks={int(rank): stack for rank, stack in document["stacks"].items()},
        flights={int(rank): load(FlightReport, each) for rank, each in document.get("flights", {}).items()},
        looked=document.get("looked", 0.0),
        stands=document["stands"],
    )


def case_at_rest(home: Path, run: str) -> Case:
    """What the archive of a local run that has ended knows."""
    paths = RunPaths(Storage(home), run, Storage(home).lineage(run), "")
    secret = RunSecret.load(paths.path / SECRET_ON_LOCAL)
    return whole_case(RunController(RunSpec.load(paths.path / "job.json"), secret, paths, archive=True))
