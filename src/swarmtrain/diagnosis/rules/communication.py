"""Ranks that do not find each other, or do not do the same together."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case, said
from swarmtrain.diagnosis.echoes import is_timeout
from swarmtrain.diagnosis.frames import place
from swarmtrain.diagnosis.rule import (
    Conclusion,
    Help,
    Rule,
    Words,
    by_words,
    facts_of,
    logs_of,
    seen_at,
    there,
    who,
)
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.facts import Failure
from swarmtrain.wire.plural import plural

_MISMATCH = re.compile(
    r"collective mismatch|mismatch between collectives|op\.preamble\.length <= op\.nbytes|Received data size "
    r"doesn't match"
)
_NO_NAME = re.compile(
    r"Name or service not known|Temporary failure in name resolution|gai error|No address associated with hostname"
)
_CONNECTS = re.compile(
    r"(?:while trying to connect to|failed to connect to any network address of) \(?(?P<host>[\w.-]+)",
    re.IGNORECASE,
)
_WAITED = re.compile(r"Timed out waiting (?P<ms>\d+)ms|Timeout\(ms\)=(?P<nccl>\d+)")


def names(ranks: list[int]) -> str:
    """``rank 1``, ``ranks 0 and 2``."""
    *first, last = map(str, ranks)
    return f"ranks {', '.join(first)} and {last}" if first else f"rank {last}"


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
    if not hit and not (all_wait and apart):
        return None
    return Conclusion(
        verdict="the ranks met in collectives that are not the same"
        if hit
        else "each rank waits in a collective for the others, at different lines",
        cause="they are at different lines, so one has taken a way that others have not"
        if apart
        else "they call different collectives, in another order, or with tensors of different sizes",
        sure="likely",
        failure=case.first,
        seen=[*places, *_flights(case)],
        remedies=[
            Remedy(
                "Compare the lines: is one inside of `if rank == 0`, or are shapes made of a rank's own data?"
            ),
            Remedy(
                "Let torch compare every collective (slow, and not with DDP on gloo).",
                "swarmtrain run -e TORCH_DISTRIBUTED_DEBUG=DETAIL ...",
            ),
        ],
        unseen=[] if case.flights else ["Which rank left the way of the others: no flight record was kept."],
        knows_who=False,
    )


def _flights(case: Case) -> list[Observation]:
    """The newest collective of each rank, where they are recorded."""
    return [
        Observation(f"its newest collective is number {last.number}, {last.what}", rank, place=last.place)
        for rank, kept in sorted(case.flights.items())
        if (last := max(kept, key=lambda each: each.number, default=None)) is not None
    ]


def missing_rank(case: Case) -> int | None:
    """The rank whose newest collective is behind that of all others, by their flight records."""
    newest = {rank: max((each.number for each in kept), default=0) for rank, kept in case.flights.items()}
    least = min(newest.values(), default=0)
    behind = [rank for rank, number in newest.items() if number == least]
    return behind[0] if len(behind) == 1 and len(newest) > 1 else None


def _timeout(case: Case) -> Conclusion | None:
    """Those that waited are told; whoever is not among them is the one that they waited for."""
    if not case.causes or not all(is_timeout(each) or each in case.echoes for each in case.causes):
        return None
    waited = [each for each in case.causes if is_timeout(each)]
    if not waited:
        return None
    first = waited[0]
    failed = {each.rank for each in case.causes}
    others = [each for each in case.status.workers if each.rank not in failed]
    known = missing_rank(case)
    lost = next((each for each in case.status.workers if each.rank == known), None)
    if lost is None and len(others) == 1:
        lost = others[0]
    match = _WAITED.search(first.summary)
    seconds = int(match["ms"] or match["nccl"]) / 1000 if match else 0.0
    after = f" for {seconds:g} s" if seconds else ""
    ranks = sorted(each.rank for each in waited if each.rank is not None)
    at = next(filter(None, (place(each.traceback) for each in waited)), "")
    seen = [seen_at(each, f"waited{after} in a collective") for each in waited]
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
    return Conclusion(
        verdict=f"{who(gone)} did not come to a collective in which {names(ranks)} waited{after}{line}",
        cause="it did something else, or stood still: it is the one rank that neither waited nor failed"
        if known is None
        else "its flight record ends before those of all others",
        sure="likely",
        failure=gone,
        seen=[*seen, *_flights(case)],
        remedies=[logs_of(case, gone), *remedies],
        unseen=[]
        if lost.rank in case.stacks
        else [f"Where rank {lost.rank} was meanwhile: it was not asked."],
    )


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


def _not_all_joined(case: Case) -> Conclusion | None:
    first = case.first
    match = first and re.search(
        r"Timed out after (?P<seconds>\d+) seconds waiting for clients\. (?P<here>\d+)/(?P<all>\d+) clients "
        r"joined",
        said(first),
    )
    if first is None or not match:
        return None
    facts = facts_of(case, first)
    return Conclusion(
        verdict=f"{facts['who']} waited {match['seconds']} s for the others, and {match['here']} of "
        f"{match['all']} came",
        cause="a rank did not come to init_process_group in time: it does something long before, has failed, "
        "or cannot reach the master",
        sure="possible",
        failure=first,
        remedies=[
            Remedy("What did the ranks write meanwhile?", f"swarmtrain logs {case.status.run}"),
            Remedy(
                "Prepare data after init_process_group, or give it more time: "
                "init_process_group(timeout=timedelta(hours=1))."
            ),
        ],
        unseen=["Which rank did not come: the store knows their number alone."],
    )


def _no_such_host(case: Case) -> Conclusion | None:
    """Torch itself says that it could not connect; that the name is not known stands among its warnings."""
    failure = case.first
    if failure is None or failure.rank is None:
        return None
    lines = [*failure.log, *case.lines.get(failure.rank, ())]
    warned = next((line for line in lines if _NO_NAME.search(line)), "")
    connects = _CONNECTS.search(said(failure))
    if not _NO_NAME.search(said(failure)) and not (connects and warned):
        return None
    host = f" {connects['host']}" if connects else ""
    return Conclusion(
        verdict=f"{who(failure)} looked for a host{host} by a name that is not known there",
        cause="the resolver does not know the name: it is misspelt, or of another network",
        sure="certain" if _NO_NAME.search(said(failure)) else "likely",
        failure=failure,
        seen=[Observation(f"it warned before: {warned.strip()}", failure.rank, failure.node)]
        if warned
        else [],
        remedies=[
            Remedy("Leave MASTER_ADDR alone: it is set to an address, for which no name is looked up."),
            Remedy(
                "What does the node resolve?",
                f"{there(case, failure)}getent hosts{host or ' NAME'}",
            ),
        ],
    )


RULES = (
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
        code="not-all-joined",
        title="Not all ranks came to the start",
        about="init_process_group waits for all ranks, for as long as its timeout says. The error is raised "
        "by the rank that keeps the store, rank 0, which is not the one at fault.",
        look=_not_all_joined,
        produced=("not_all_joined",),
    ),
    Rule(
        code="no-such-host",
        title="A name is not known",
        about="In a Swarm a service's name is known in the networks that it is in, once its task runs. On the host's "
        "network (--network host) no service has a name.",
        look=_no_such_host,
        produced=("no_such_host",),
    ),
    by_words(
        "wrong-interface",
        "A network interface does not exist",
        Words(
            pattern=r"Unable to find address for: (?P<name>\S+)|no socket interface found|Unable to find "
            r"interface |Bootstrap : no socket interface",
            verdict="{who} is to talk through an interface that it has not: {name}",
            cause="GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names an interface that this node does not have",
            anyone=True,
            help=(
                Help(
                    "Leave the variable out: the interface that leads to the others is chosen on each node, "
                    "and said."
                ),
                Help("Which are there?", "{there}ls /sys/class/net"),
            ),
        ),
        "Names differ between machines (eth0, enp5s0), and in a container with several networks their order "
        "is chance. `swarmtrain status` shows which one was chosen on each node, `swarmtrain events` why.",
        ("wrong_interface",),
    ),
    by_words(
        "port-in-use",
        "A port is taken",
        Words(
            pattern=r"Address already in use|EADDRINUSE",
            verdict="{who} wants a port that is taken",
            cause="another process on {node} listens there: of another run, of the machine, or an earlier one "
            "of its own",
            anyone=True,
            help=(
                Help(
                    "Do not name a port: MASTER_PORT is chosen anew for each generation. Servers of your own "
                    "may take port 0."
                ),
                Help("Who listens?", "{there}ss -ltnp"),
            ),
        ),
        "On the host's network, and on local, all runs of a machine share its ports.",
        ("port_in_use", "master_port_in_use"),
    ),
    by_words(
        "no-connection",
        "A rank cannot reach another",
        Words(
            pattern=r"(?:timed out after \d+ms while trying to connect to|failed to connect to any network address of) "
            r"\(?(?P<to>[\w.:-]+(?:, \d+)?)|connectFullMesh failed",
            verdict="{who} could not reach {to}",
            cause="nobody listens there, or a firewall or the network is between them",
            sure="likely",
            help=(
                Help("Which addresses do the nodes have?", "swarmtrain status {run}"),
                Help("Leave MASTER_ADDR and MASTER_PORT alone, if the script sets them."),
                Help(
                    "Between all nodes must be open: 7946/tcp and udp, and 4789/udp; docs/troubleshooting.md "
                    "has more."
                ),
            ),
        ),
        "Each worker connects to the store of rank 0, and then to every other rank. The addresses are those "
        "of the interfaces by which the nodes reach the coordinator.",
        ("refused",),
    ),
    Rule(
        code="collective-timeout",
        title="Ranks waited in a collective for one that did not come",
        about="gloo's and NCCL's timeouts are raised on the innocent ones, and name nobody. Whoever is not "
        "among those that waited is the one that they waited for. With steps that can be counted "
        "(DistributedDataParallel, the Trainer) a rank that stands still is found sooner, and with its line: "
        "`--hang-timeout`.",
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
