"""What is wrong with the run: all that this coordinator, or an archive, knows, given to diagnosis/diagnose.py."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.output import Filter, tail
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.diagnose import diagnose
from swarmtrain.protocol.evidence.diagnosis import Diagnosis

_RANKS, _LINES = 8, 100  # whose last lines are read, and how many of each: a traceback is long


async def explain(run: RunController) -> Diagnosis:
    """The diagnosis of this moment."""
    case, path = _case(run), run.output.path
    # In a thread: the output of a long run takes a while to read, and long tracebacks to look through.
    return await asyncio.to_thread(lambda: diagnose(_with_lines(case, path)))


def whole_case(run: RunController) -> Case:
    """What is known of a run."""
    return _with_lines(_case(run), run.output.path)


def _case(run: RunController) -> Case:
    """What is known but for what its ranks wrote."""
    current, stall = run.current, run.current.stall
    case = Case.of(status(run), run.journal.events)
    if run.phase is not Phase.ENDED and current.failures:
        case = replace(case, causes=current.causes())
    stands = run.phase is Phase.RUNNING and stall.captured is not None
    looked = run.journal.clock.unix(stall.heard) if stall.heard is not None else 0.0
    return replace(case, stacks=stall.stacks, flights=stall.flights, looked=looked, stands=stands)


def _with_lines(case: Case, path: Path) -> Case:
    """The same with the last lines of the ranks whose failures tell none."""
    silent = [each.rank for each in case.causes if each.rank is not None and not each.log][:_RANKS]
    return replace(case, lines=_last_lines(path, silent))


def _last_lines(path: Path, ranks: Collection[int]) -> Mapping[int, Sequence[str]]:
    return {
        rank: [line.text for line in tail(path, Filter(ranks=frozenset({rank})), _LINES, path.stat().st_size)]
        for rank in ranks
    }
