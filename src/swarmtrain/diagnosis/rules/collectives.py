"""Collectives in which ranks do not do the same together, or wait for one that does not come."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmtrain.diagnosis.case import Case, said
from swarmtrain.diagnosis.echoes import is_timeout, waited
from swarmtrain.diagnosis.flight import analyse
from swarmtrain.diagnosis.frames import place
from swarmtrain.diagnosis.rule import Conclusion, Rule, logs_of, seen_at, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.evidence.seen import FlightFinding
from swarmtrain.protocol.facts import Failure
from swarmtrain.wire.plural import counted, plural

EARLY = "while the others went on"  # how coordinator/core/root_cause.py has the end of a rank that others still need
_MISMATCH = re.compile(
    r"collective mismatch|mismatch between collectives|op\.preamble\.length <= op\.nbytes|Received data size "
    r"doesn't match"
)
_AHEAD = 3  # steps: a rank tells of its own twice a second, and one more may be under way
_COMPARE = (
    Remedy("Compare the lines: is one inside of `if rank == 0`, or are shapes made of a rank's own data?"),
    Remedy(
        "Let torch compare every collective (slow, and not with DDP on gloo).",
        "swarmtrain run -e TORCH_DISTRIBUTED_DEBUG=DETAIL ...",
    ),
)


def names(ranks: list[int]) -> str:
    """``rank 1``, ``ranks 0 and 2``."""
    *first, last = map(str, ranks)
    return f"ranks {', '.join(first)} and {last}" if first else f"rank {last}"


def _ended_early(case: Case) -> Failure | None:
    """The rank that ended well while others went on, where that is what came first."""
    failure = case.first
    return failure if failure is not None and failure.code == 0 and EARLY in failure.summary else None


def _ahead(case: Case) -> Conclusion | None:
    """A rank that ended with more steps than all others: it cannot have waited for them in each of these."""
    failure = _ended_early(case)
    steps = {each.rank: each.step for each in case.status.workers if each.step is not None}
    own = steps.pop(failure.rank, None) if failure is not None and failure.rank is not None else None
    if failure is None or own is None or not steps or own - max(steps.values()) < _AHEAD:
        return None
    most = counted(max(steps.values()), "step")
    # There a thread may be steps ahead of its GPU, which it need not wait for at its end.
    on_nccl = case.backend == "nccl"
    return Conclusion(
        verdict=f"{who(failure)} ended well after {counted(own, 'step')}, the others have made {most} at most",
        cause="the ranks did not meet in their steps: somewhere before, they called collectives that are not the same, "
        "and each has taken the others' numbers for what they are not since"
        + (", or it ended before its GPU had done what it was told" if on_nccl else ""),
        sure="possible" if on_nccl else "likely",
        failure=failure,
        remedies=[
            Remedy("Do not go on from what this run has saved before you know: its weights may be wrong."),
            *_COMPARE,
            Remedy(
                "Where is each rank, and in which collective? Ask while it trains.",
                f"swarmtrain stacks {case.status.run}",
            ),
        ],
        unseen=["Where they went apart: it was not noticed then."],
    )


def _uneven(case: Case) -> Conclusion | None:
    failure = _ended_early(case)
    if failure is None:
        return None
    broken = [each for each in case.echoes if each.rank is not None]
    seen = (
        [
            Observation(
                f"{counted(len(broken), 'rank')} went on, and failed for want of it", time=broken[0].time
            )
        ]
        if broken
        else []
    )
    return Conclusion(
        verdict=f"{who(failure)} {failure.summary}",
        cause="it had less to do than the others: fewer batches, or it left its loop for a reason of its own",
        sure="certain" if broken else "likely",
        failure=failure,
        seen=seen,
        remedies=[
            Remedy("Give every rank as many steps: DistributedSampler does, and drop_last=True."),
            Remedy(
                "Where the numbers must differ: `with Join([model]):` around the loop "
                "(torch.distributed.algorithms)."
            ),
            Remedy(
                "What did it write last?",
                f"swarmtrain logs {case.status.run} --rank {failure.rank} --tail 20",
            ),
        ],
        unseen=["Why it ended sooner: an exit code of 0 tells nothing."],
    )


def _mismatch(case: Case) -> Conclusion | None:
    """Ranks that met in collectives that are not the same, or wait for each other at different lines."""
    hit = [each for each in case.causes if _MISMATCH.search("\n".join([said(each), *each.log]))]
    places = [
        seen_at(each, "is in a collective")
        for each in case.causes
        if each.rank is not None and place(each.traceback)
    ]
    apart = len({each.place for each in places}) > 1
    all_wait = len(places) == len(case.status.workers) and not case.own and any(map(is_timeout, case.causes))
    recorded = recorded_meanwhile(case)
    differs = recorded is not None and recorded.kind == "mismatch"
    if not hit and not (all_wait and apart) and not differs:
        return None
    if recorded is not None and differs:
        return _differs(case, recorded, places)
    return Conclusion(
        verdict="the ranks met in collectives that are not the same"
        if hit
        else "each rank waits in a collective for the others, at different lines",
        cause="they are at different lines, so one has taken a way that others have not"
        if apart
        else "they call different collectives, in another order, or with tensors of different sizes",
        sure="likely",
        failure=case.first,
        seen=places,
        remedies=_COMPARE,
        unseen=["Which rank left the way of the others: no flight record was kept."],
        knows_who=False,
    )


def _differs(case: Case, recorded: FlightFinding, places: list[Observation]) -> Conclusion:
    """Flight records show the first collective that is not the same everywhere, and on which rank."""
    rank = recorded.ranks[0]
    node = next((each.node for each in case.status.workers if each.rank == rank), "")
    what, _, how = recorded.text.rpartition(": ")
    return Conclusion(
        verdict=what,
        cause=how,
        sure="likely",
        failure=Failure("hang", node, case.looked, what, rank),
        seen=[Observation(recorded.text, time=case.looked), *places],
        remedies=_COMPARE,
        knows_who=len(recorded.ranks) == 1,
    )


def recorded_meanwhile(case: Case) -> FlightFinding | None:
    """What flight records say of the wait that has failed; None where they were taken before it, or say nothing.

    A rank that is in no collective at a moment is what every rank is now and then.
    """
    begun = [each.time - seconds for each in case.causes if (seconds := waited(each)) is not None]
    if not any(case.looked >= time for time in begun):
        return None
    told = (finding for finding in analyse(case.flights) if finding.ranks and finding.kind != "together")
    return next(told, None)


def _timeout(case: Case) -> Conclusion | None:
    """Those that waited are told; whoever is not among them is the one that they waited for."""
    if not case.causes or not all(is_timeout(each) or each in case.echoes for each in case.causes):
        return None
    waiting = [each for each in case.causes if is_timeout(each)]
    if not waiting:
        return None
    first = waiting[0]
    failed = {each.rank for each in case.causes}
    others = [each for each in case.status.workers if each.rank not in failed]
    recorded = recorded_meanwhile(case)
    known = recorded.ranks[0] if recorded is not None and len(recorded.ranks) == 1 else None
    lost = next((each for each in case.status.workers if each.rank == known), None)
    if lost is None and len(others) == 1:
        lost = others[0]
    seconds = waited(first) or 0.0
    after = f" for {seconds:g} s" if seconds else ""
    ranks = sorted(each.rank for each in waiting if each.rank is not None)
    at = next(filter(None, (place(each.traceback) for each in waiting)), "")
    seen = [seen_at(each, f"waited{after} in a collective") for each in waiting]
    remedies = [
        Remedy(
            "Let the tool look sooner than the group's timeout, and name who stands still where.",
            "swarmtrain run --hang-timeout 1m ...",
        ),
        Remedy(
            "If a rank may really take so long (it saves, it tests), give the others more patience: "
            "init_process_group(timeout=timedelta(hours=1))."
        ),
    ]
    if lost is None:
        return Conclusion(
            verdict=f"{names(ranks)} waited in a collective{after} for a rank that did not come",
            cause="a rank stood still, took another way, or could not be reached",
            sure="unknown",
            failure=first,
            seen=seen,
            remedies=remedies,
            unseen=["Which rank did not come: more than one is not among those that waited, or none."],
            knows_who=False,
        )
    gone = Failure("hang", lost.node, first.time, "", lost.rank)
    line = f" ({at})" if at else ""
    if lost.rank in ranks:
        ranks.remove(lost.rank)  # NCCL's watchdog speaks on every rank
    what = f"{recorded.op} #{recorded.seq}" if recorded is not None and known is not None else "a collective"
    stack = case.stacks.get(lost.rank, "") if known is not None else ""
    stood = place(stack)
    return Conclusion(
        verdict=f"{who(gone)} did not come to {what}, in which {names(ranks)} waited{after}{line}"
        + (f": it was at {stood}" if stood else ""),
        cause="it did something else, or stood still: it is the one rank that neither waited nor failed"
        if known is None
        else "its flight record ends before those of all others",
        sure="likely",
        failure=gone,
        seen=[*_meanwhile(recorded, gone, stood, case.looked), *seen],
        remedies=[logs_of(case, gone), *remedies],
        unseen=[] if stood else [f"Where rank {lost.rank} was meanwhile: it was not asked."],
    )


def _meanwhile(
    recorded: FlightFinding | None, gone: Failure, stood: str, looked: float
) -> Iterator[Observation]:
    """What was captured while the others waited."""
    if recorded is not None:
        yield Observation(recorded.text, time=looked)
    if stood:
        yield Observation("was there while the others waited", gone.rank, gone.node, looked, stood)


def _lost_touch(case: Case) -> Conclusion | None:
    """Only echoes: nobody saw what began it."""
    first = case.first
    if first is None or case.own or first.rank is None:
        return None
    ranks = sorted({each.rank for each in case.causes if each.rank is not None})
    return Conclusion(
        verdict=f"{names(ranks)} lost touch with {plural(len(ranks), 'another rank', 'other ranks')}",
        cause="a connection between workers broke, and no rank was seen to fail before",
        sure="unknown",
        failure=first,
        remedies=[
            Remedy("Do the nodes reach each other?", f"swarmtrain status {case.status.run}"),
            Remedy("Which rank wrote last?", f"swarmtrain logs {case.status.run} --tail 50 -t"),
        ],
        unseen=["What began it: every failure that was heard of is the echo of another."],
        knows_who=False,
    )


RULES = (
    Rule(
        code="ranks-apart",
        title="A rank is steps ahead of the others",
        about="In data-parallel training no rank can end a step before all have come to it. One that is several steps "
        "ahead has met the others in collectives that are not the same. NCCL was seen to let an all-reduce of 64 MiB "
        "meet a broadcast of 16 bytes, and to train on for 400 steps with wrong numbers: tests/gpu/scripts/on_nccl.py.",
        look=_ahead,
        test="test_a_fault_that_was_produced_is_named_with_its_rank_its_node_and_its_cause",
    ),
    Rule(
        code="uneven-inputs",
        title="A rank ended before the others",
        about="In data-parallel training every rank takes part in every step. A rank that ends well, but "
        "sooner, leaves the others in a collective that never completes; what they say then is about a closed "
        "connection. Data that is divided without padding, a filter, an early stop that each rank decides "
        "alone.",
        look=_uneven,
        produced=("uneven_inputs",),
    ),
    Rule(
        code="collective-mismatch",
        title="Ranks met in collectives that are not the same",
        about="Every rank must call the same collectives, in the same order, with tensors of the same size. "
        "On gloo a difference in size is noticed at once; a difference in kind may pass, give wrong numbers, "
        "and fail later; on NCCL it usually hangs.",
        look=_mismatch,
        produced=("mismatched_shape", "mismatched_order"),
    ),
    Rule(
        code="collective-timeout",
        title="Ranks waited in a collective for one that did not come",
        about="gloo's and NCCL's timeouts are raised on the innocent ones, and name nobody. Whoever is not "
        "among those that waited is the one that they waited for. With steps that can be counted "
        "(DistributedDataParallel, the Trainer) a rank that stands still is found sooner, and with its line: "
        "`--hang-timeout`. Of any other script `swarmtrain stacks` asks, while they wait, where each rank is and "
        "in which collective; what it saw then is remembered when the timeout comes.",
        look=_timeout,
        produced=("gloo_timeout",),
    ),
    Rule(
        code="lost-touch",
        title="Ranks lost each other, and nobody saw why",
        about="Every failure that was heard of says that somebody else has gone. Either the one that went "
        "first could not tell, or the network broke between workers that live.",
        look=_lost_touch,
        test="test_echoes_alone_name_nobody",
    ),
)
