"""Who is missing from which collective: the flight records of all ranks laid beside each other. Pure.

Every rank numbers the collectives of each process group as it begins them. So the same number has to be the same
collective everywhere; where it is not, that is the fault. And where some ranks have begun one that others have not, the
others are waited for: those of them that wait in no other group themselves are to blame.

On gloo a record's ``state`` says nothing (torch 2.13); whether it is over, ``retired`` does. On NCCL it is over when
its watchdog has seen its event. The recorder is a ring: what is old has gone from it, so numbers are compared only
where both ranks still have them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from swarmtrain.diagnosis.frames import place
from swarmtrain.protocol.evidence.seen import FlightFinding, FlightRecord, FlightReport, StackReport
from swarmtrain.wire.plural import plural

# Collectives whose input has the same size on every rank; of others only the operation is compared. "Coalesced" ones
# and DDP's buckets are among them: buckets are the same on all ranks.
_SAME_SIZES = frozenset(
    {
        "all_reduce",
        "allreduce",
        "broadcast",
        "reduce",
        "all_gather",
        "_all_gather_base",
        "allgather",
        "_allgather_base",
    }
    | {"reduce_scatter", "_reduce_scatter_base", "barrier", "allreduce_coalesced", "all_reduce_barrier"}
)
_RUN = 4  # ranks that follow each other, from which on only the first and the last are named
_BYTES = {
    "Double": 8,
    "Long": 8,
    "Float": 4,
    "Int": 4,
    "Half": 2,
    "BFloat16": 2,
    "Short": 2,
    "Byte": 1,
    "Char": 1,
}
_Records = Mapping[int, Mapping[int, FlightRecord]]  # by rank and number


def analyse(reports: Mapping[int, FlightReport]) -> list[FlightFinding]:
    """What is wrong between the ranks of a group that makes no steps, the most telling first; empty for nothing.

    Args:
        reports: by rank; those without records are as if they were not there.
    """
    told = {rank: report for rank, report in reports.items() if not report.reason}
    waiting = {rank: found for rank, report in told.items() if (found := _waits_in(report)) is not None}
    mismatches: list[FlightFinding] = []
    others: list[FlightFinding] = []
    for group, records in _by_group(told):
        if (mismatch := _mismatch(group, records)) is not None:
            mismatches.append(mismatch)
        elif (missing := _missing(group, records, waiting)) is not None:
            others.append(missing)
        elif (together := _together(group, records, _everybody(told, group))) is not None:
            others.append(together)
    return [*mismatches, *_with_circles(others)]


def parted(reports: Mapping[int, FlightReport]) -> FlightFinding | None:
    """The first collective that was another one on other ranks, and came through: they took each other's numbers.

    NCCL lets such pass, and gloo one whose numbers are of another type. Sizes are left out: those of some collectives
    may differ.

    Args:
        reports: by rank; those without records are as if they were not there.
    """
    for group, records in _by_group({rank: each for rank, each in reports.items() if not each.reason}):
        for seq in sorted({seq for numbered in records.values() for seq in numbered}):
            there = {rank: numbered[seq] for rank, numbered in records.items() if seq in numbered}
            usual = _what(there[min(there)])
            odd = sorted(rank for rank, record in there.items() if _what(record) != usual)
            if odd and all(record.done for record in there.values()):
                one, other = there[odd[0]], there[min(there)]
                text = (
                    f"{_ranks(odd)} had {_shown(one)}{_of_group(group)} where {_ranks([min(there)])} had "
                    f"{_shown(other)}: both came through, and what was computed from there on may be wrong"
                )
                return FlightFinding("parted", odd, group, seq, one.op, text)
    return None


def _by_group(told: Mapping[int, FlightReport]) -> Iterator[tuple[str, _Records]]:
    """The records of each process group, those of its members alone."""
    for group in sorted({name for report in told.values() for name in _names(report)}):
        members = sorted(rank for rank, report in told.items() if _is_member(report, group))
        yield group, {rank: _numbered(told[rank], group) for rank in members}


def with_places(reports: Mapping[int, StackReport]) -> dict[int, FlightReport]:
    """The flight records in what workers answered; of an operation that a rank waits in, its stack knows the line."""
    found: dict[int, FlightReport] = {}
    for rank, report in reports.items():
        if (flight := report.flight) is None:
            continue
        waited = _waits_in(flight)
        if waited is not None and not waited.place and (at := place(report.stack)):
            placed = replace(waited, place=at)
            flight = replace(flight, records=[placed if each is waited else each for each in flight.records])
        found[rank] = flight
    return found


def last(report: FlightReport) -> FlightRecord | None:
    """The collective that a rank began last."""
    return next((record for record in reversed(report.records) if not record.p2p), None)


class Carried(NamedTuple):
    """How large collectives were, in bytes of each rank.

    Attributes:
        carried: the largest that is over on all ranks, of what the records still have.
        stuck: the smallest that ranks wait in.
    """

    carried: int
    stuck: int


def carried(reports: Mapping[int, FlightReport]) -> Carried | None:
    """Of ranks that all wait in the same: what came through, and what does not. None where either is not known."""
    done: list[int] = []
    stuck: list[int] = []
    for report in reports.values():
        for record in report.records:
            if (size := _bytes(record)) is None:
                return None
            (done if record.done else stuck).append(size)
    return Carried(max(done), min(stuck)) if done and stuck else None


def _bytes(record: FlightRecord) -> int | None:
    if len(record.dtypes) < len(record.sizes) or any(each not in _BYTES for each in record.dtypes):
        return None
    return sum(
        math.prod(size) * _BYTES[dtype] for size, dtype in zip(record.sizes, record.dtypes, strict=False)
    )


def _names(report: FlightReport) -> set[str]:
    return {record.group for record in report.records if not record.p2p} | report.groups.keys()


def _is_member(report: FlightReport, group: str) -> bool:
    return group in _names(report)


def _everybody(told: Mapping[int, FlightReport], group: str) -> list[int]:
    """The ranks of a group, as far as one of them knows."""
    return sorted({rank for report in told.values() for rank in report.groups.get(group, ())})


def _numbered(report: FlightReport, group: str) -> dict[int, FlightRecord]:
    return {record.seq: record for record in report.records if record.group == group and not record.p2p}


def _waits_in(report: FlightReport) -> FlightRecord | None:
    """The first operation that a rank has begun and that is not over."""
    return next((record for record in report.records if not record.done), None)


# ---- another collective than the others ------------------------------------------------------------------------------


def _mismatch(group: str, records: _Records) -> FlightFinding | None:
    """The first number under which ranks have different collectives, and which is not over everywhere."""
    for seq in sorted({seq for numbered in records.values() for seq in numbered}):
        there = {rank: numbered[seq] for rank, numbered in records.items() if seq in numbered}
        kinds = Counter(_kind(record) for record in there.values())
        if len(kinds) < 2 or all(record.done for record in there.values()):
            continue
        usual = max(kinds, key=lambda kind: (kinds[kind], _kind(there[min(there)]) == kind))
        odd = sorted(rank for rank, record in there.items() if _kind(record) != usual)
        rest = sorted(there.keys() - set(odd))
        mine, theirs = records[odd[0]], records[rest[0]]
        text = (
            f"{_ranks(odd)} {plural(len(odd), 'is', 'are')} in {_shown(mine[seq])}{_of_group(group)}, "
            f"{_ranks(rest)} in {_shown(theirs[seq])}: {_difference(mine, theirs, seq)}"
        )
        return FlightFinding("mismatch", odd, group, seq, mine[seq].op, text)
    return None


def _kind(record: FlightRecord) -> tuple[object, ...]:
    """What has to be the same on all ranks."""
    return (*_what(record), tuple(map(tuple, record.sizes)) if record.op in _SAME_SIZES else ())


def _what(record: FlightRecord) -> tuple[object, ...]:
    """The same without its sizes."""
    return (record.op, tuple(record.dtypes) if record.op in _SAME_SIZES else ())


def _difference(mine: Mapping[int, FlightRecord], theirs: Mapping[int, FlightRecord], seq: int) -> str:
    """In which way: by what either side begins next, as far as it has, and else by what it is now."""
    is_next = seq + 1 in theirs and _kind(theirs[seq + 1]) == _kind(mine[seq])
    is_late = seq + 1 in mine and _kind(mine[seq + 1]) == _kind(theirs[seq])
    if is_next or is_late:
        return (
            "the order differs"
            if is_next and is_late
            else "a call was left out"
            if is_next
            else "a call was added"
        )
    if mine[seq].op != theirs[seq].op:
        return "not all ranks call the same collectives"
    return "the shapes differ" if mine[seq].sizes != theirs[seq].sizes else "the types differ"


# ---- not there -------------------------------------------------------------------------------------------------------


def _missing(group: str, records: _Records, waiting: Mapping[int, FlightRecord]) -> FlightFinding | None:
    """Ranks that have not begun what others wait in."""
    newest = {rank: max(numbered, default=0) for rank, numbered in records.items()}
    in_it = sorted(
        rank for rank, numbered in records.items() if any(not record.done for record in numbered.values())
    )
    if not in_it:
        return None
    seq = min(min(seq for seq, record in records[rank].items() if not record.done) for rank in in_it)
    absent = sorted(rank for rank, begun in newest.items() if begun < seq)
    if not absent:
        return None
    there = [rank for rank in in_it if seq in records[rank]]
    free = [rank for rank in absent if rank not in waiting]
    named = free or absent
    awaited = records[there[0]][seq]
    text = (
        f"{_ranks(named)} {plural(len(named), 'is', 'are')} not in {_shown(awaited)}{_of_group(group)}, in which "
        f"{_ranks(there)} {plural(len(there), 'waits', 'wait')}; {_before(records[named[0]], len(named))}"
    )
    return FlightFinding("missing" if free else "circle", named, group, seq, awaited.op, text)


def _before(numbered: Mapping[int, FlightRecord], count: int) -> str:
    whose = plural(count, "its", "their")
    return (
        f"{whose} last was {_shown(numbered[max(numbered)])}" if numbered else f"{whose} first is yet to come"
    )


def _together(group: str, records: _Records, everybody: Sequence[int]) -> FlightFinding | None:
    """All are in the same one."""
    newest = {max(numbered, default=0) for numbered in records.values()}
    seq = max(newest, default=0)
    if len(newest) != 1 or not seq or any(numbered[seq].done for numbered in records.values()):
        return None
    awaited = next(iter(records.values()))[seq]
    unheard = [rank for rank in everybody if rank not in records]
    if unheard:
        text = f"nothing is known of {_ranks(unheard)}; all others are in {_shown(awaited)}{_of_group(group)}"
    else:
        text = f"all ranks are in {_shown(awaited)}{_of_group(group)}: nobody is missing"
    return FlightFinding("together", unheard, group, seq, awaited.op, text)


def _with_circles(found: Iterable[FlightFinding]) -> list[FlightFinding]:
    """A circle is one only where nobody is missing; else those that wait elsewhere wait for who is."""
    order = {"missing": 0, "circle": 1, "together": 2}
    ordered = sorted(found, key=lambda finding: order[finding.kind])
    kinds = {finding.kind for finding in ordered}
    return [finding for finding in ordered if finding.kind != "circle" or "missing" not in kinds]


# ---- words -----------------------------------------------------------------------------------------------------------


def _shown(record: FlightRecord) -> str:
    """``all_reduce #4 of Float [4, 3] (train.py:41 in step)``."""
    what = " ".join([*record.dtypes[:1], *(str(size) for size in record.sizes[:1])])
    more = f" and {len(record.sizes) - 1} more" if len(record.sizes) > 1 else ""
    place = f" ({record.place})" if record.place else ""
    return f"{record.op} #{record.seq}" + (f" of {what}{more}" if what else "") + place


def _of_group(group: str) -> str:
    return "" if group == "0" else f" of process group {group}"


def _ranks(ranks: Sequence[int]) -> str:
    """``rank 1``, ``ranks 0 and 2``, ``ranks 0 to 63 and 70``."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    parts = [
        part for run in runs for part in (map(str, run) if len(run) < _RUN else [f"{run[0]} to {run[-1]}"])
    ]
    *first, end = parts
    return f"{plural(len(ranks), 'rank')} {', '.join(first)}{' and ' if first else ''}{end}"
