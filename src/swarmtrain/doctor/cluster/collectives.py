"""Checks of what torch's collectives gave between the nodes, with gloo. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.cluster.tried import TrialReports, blame, slow, usual
from swarmtrain.protocol.probes.reports import CollectiveReport

OF_ALL = ("all-reduce", "broadcast", "gather", "scatter")


def _failed(tried: TrialReports) -> Iterator[Flaw]:
    by_error: dict[str, list[str]] = defaultdict(list)
    for each in tried.collectives:
        if each.error:
            by_error[each.error].append(each.node)
    for error, nodes in by_error.items():
        yield Flaw(
            ", ".join(sorted(nodes)),
            "torch's group did not come to its end",
            "mend what it says; then once more",
            (error,),
        )
    heard = {each.node for each in tried.collectives}
    if silent := [node for node in tried.silent.get("collect", []) if node not in heard]:
        yield Flaw(
            ", ".join(silent),
            "nothing came of torch's group in time",
            "is its torch able to start there: swarmtrain doctor --image IMAGE without --collectives",
        )


def _wrong(tried: TrialReports) -> Iterator[Flaw]:
    for each in tried.collectives:
        if not each.error and not each.correct:
            name = f"an all-reduce with {each.peer}" if each.peer else each.name
            yield Flaw(
                each.node,
                f"{name} gave another result than it must: memory or a network card changes bits",
                "on it: memtest86+, dmesg | grep -iE 'mce|ecc', ethtool -S IFACE | grep -i err; leave it "
                "out meanwhile",
            )


def _slow(tried: TrialReports) -> Iterator[Flaw]:
    pairs = {(each.node, each.peer): each.bits for each in tried.collectives if each.name == "pair"}
    bad = slow(pairs)
    guilty, rest = blame(bad, [node.hostname for node in tried.nodes])
    for subject, belongs in [
        *((node, _of(node)) for node in guilty),
        *((f"{first}, {second}", _between(first, second)) for first, second in rest),
    ]:
        seen = tuple(
            f"{node} with {peer}: {_speed(bits)}" for (node, peer), bits in bad.items() if belongs(node, peer)
        )
        yield Flaw(
            subject,
            f"an all-reduce of two is slow here (between the others: {_speed(usual(pairs.values()))}): "
            "every rank of a "
            "run waits for it",
            "a busy processor (top), or the link, as `slow-way` says; leave it out meanwhile",
            seen,
        )


def _of(node: str) -> Callable[[str, str], bool]:
    return lambda first, second: node in (first, second)


def _between(*pair: str) -> Callable[[str, str], bool]:
    return lambda first, second: {first, second} == set(pair)


def _good(tried: TrialReports) -> str:
    best: dict[str, CollectiveReport] = {}
    for each in tried.collectives:
        if each.name in OF_ALL and (each.name not in best or each.seconds > best[each.name].seconds):
            best[each.name] = each  # the slowest rank's, for it is when all are done
    shown = [
        f"{name} {best[name].seconds * 1000:.0f} ms ({_speed(best[name].bits)})"
        for name in OF_ALL
        if name in best
    ]
    return (
        f"right to the last bit, of 4 MiB with gloo: {', '.join(shown)}" if len(shown) == len(OF_ALL) else ""
    )


def _speed(bits: float) -> str:
    return f"{bits / 1e9:.1f} Gb/s" if bits >= 1e9 else f"{bits / 1e6:.0f} Mb/s"


CHECKS: tuple[Check[TrialReports], ...] = (
    Check("collective-failed", Severity.ERROR, "whether torch's group forms and ends", _failed),
    Check(
        "collective-wrong",
        Severity.ERROR,
        "all-reduce, broadcast, gather and scatter, to the last bit",
        _wrong,
        _good,
    ),
    Check(
        "collective-slow", Severity.WARNING, "pairs and nodes that are slow at an all-reduce of two", _slow
    ),
)
