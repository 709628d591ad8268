"""What is wrong with the run: all that this coordinator, or an archive, knows, given to diagnosis/diagnose.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from swarmtrain.coordinator.clients.measures import node_measures, rank_paces
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.output import Filter, tail
from swarmtrain.coordinator.store.series.feed import SeriesFeed
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.diagnose import diagnose
from swarmtrain.protocol.evidence.diagnosis import Diagnosis

_RANKS, _LINES = 8, 100  # whose last lines are read, and how many of each: a traceback is long


async def explain(run: RunController) -> Diagnosis:
    """The diagnosis of this moment."""
    case, read = _case(run), _reader(run)
    # In a thread: the output of a long run takes a while to read, and long tracebacks to look through.
    return await asyncio.to_thread(lambda: diagnose(read(case)))


def whole_case(run: RunController) -> Case:
    """What is known of a run."""
    return _reader(run)(_case(run))


def _reader(run: RunController) -> Callable[[Case], Case]:
    """What adds to a case that which takes a while to read."""
    path, series, now = run.output.path, run.progress.series, run.journal.clock.now()
    return lambda case: _with_measures(_with_lines(case, path), series, now)


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


def _with_measures(case: Case, series: SeriesFeed, now: float) -> Case:
    """The same with what was measured of its nodes and ranks. What cannot be read was not measured."""
    generation, is_well = case.status.generation, not case.causes
    if case.status.has_ended and is_well:
        return case
    nodes = {each.node for each in (case.status.workers if is_well else case.causes)}
    try:
        store = series.store()
        measures = node_measures(store, nodes, case.causes[0].time if case.causes else now)
        paces = rank_paces(store, generation, now) if is_well else {}
    except OSError:
        return case
    return replace(case, measures=measures, paces=paces)


def _last_lines(path: Path, ranks: Collection[int]) -> Mapping[int, Sequence[str]]:
    return {
        rank: [line.text for line in tail(path, Filter(ranks=frozenset({rank})), _LINES, path.stat().st_size)]
        for rank in ranks
    }
