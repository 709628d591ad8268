"""Checks of a run by what its coordinator says and by what was found beside its workers. Pure.

The checks of nodes and of the ways between them are those of a Swarm (`doctor.cluster`).
"""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.versions import differences
from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.run.facts import RunFacts, missing
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation
from swarmtrain.wire.plural import say_size

_LITTLE_SHM = 64 << 20  # what Docker gives where nothing is asked for, and what data loaders run out of
_MOST_SEEN = 5  # observations of a diagnosis; `explain` has all of them


def _diagnosis(run: RunFacts) -> Iterator[Flaw]:
    if run.said.healthy:
        return
    found = run.said.diagnosis
    yield Flaw(
        found.node or (f"rank {found.rank}" if found.rank is not None else found.run),
        found.verdict,
        _remedy(found),
        (
            *([f"cause, {found.sure}: {found.cause}"] if found.cause else []),
            *(_seen(each) for each in found.evidence[:_MOST_SEEN]),
        ),
        None if run.status.state == "failed" else Severity.WARNING,
    )


def _remedy(found: Diagnosis) -> str:
    first = next((each.command or each.text for each in found.remedies), "")
    return "; ".join(filter(None, [first, f"swarmtrain explain {found.run} has all of it"]))


def _seen(seen: Observation) -> str:
    who = " on ".join(filter(None, (f"rank {seen.rank}" if seen.rank is not None else "", seen.node)))
    return ": ".join(filter(None, (who, seen.place, seen.text.splitlines()[0] if seen.text else "")))


def _diagnosis_good(run: RunFacts) -> str:
    return run.said.diagnosis.verdict if run.said.healthy else ""


def _missing(run: RunFacts) -> Iterator[Flaw]:
    for member in missing(run.status):
        yield Flaw(
            member.node,
            "it is lost, so nothing was tried on it or on the ways to it",
            f"swarmtrain events {run.status.run}; without a run: swarmtrain doctor --image IMAGE",
        )


def _silent(run: RunFacts) -> Iterator[Flaw]:
    for node, why in sorted(run.tried.failed.items()):
        yield Flaw(
            node,
            "nothing comes back of what its agent was asked to start there",
            f"swarmtrain exec {run.status.run} {node} -- true: does that answer?",
            (why,),
        )


def _heard_good(run: RunFacts) -> str:
    heard = sorted(run.tried.machines)
    return f"looked at {', '.join(heard)}, beside the workers" if heard else ""


def _untried(run: RunFacts) -> Iterator[Flaw]:
    if run.status.has_ended:
        yield Flaw(
            "",
            f"{run.status.run} has ended: nothing was tried on its nodes",
            "swarmtrain doctor --image IMAGE tries the Swarm's nodes and the ways between them",
        )
    elif not run.tried.machines and not run.tried.failed:
        yield Flaw(
            "",
            "no node has joined yet: nothing was tried",
            f"swarmtrain status {run.status.run} says what it waits for",
        )


def _versions(run: RunFacts) -> Iterator[Flaw]:
    for each in differences(Case.of(run.status, list(run.said.events))):
        yield Flaw(
            ", ".join(sorted(each.odd)),
            f"the nodes train with different versions of {each.package}: collectives may fail, and results differ",
            "one image for all: docker pull on every node, or a tag for each version",
            tuple(seen.text for seen in each.observations()),
        )


def _unreached(run: RunFacts) -> Iterator[Flaw]:
    name = run.coordinator.rpartition(":")[0]
    for each in run.unreached:
        is_name = "name" in each.error
        yield Flaw(
            each.node,
            f"it does not reach the run's coordinator at {run.coordinator}: the training goes on, and what becomes "
            "of it is not known" + (f"; the name {name} is not known there" if is_name else ""),
            "open 7946/tcp and 7946/udp between the machines: names come by the engines' gossip"
            if is_name
            else "open 4789/udp between the machines, in both directions",
            (f"{each.node} to {run.coordinator}: {each.error}",),
        )


def _reached_good(run: RunFacts) -> str:
    asked = len(run.tried.ports)
    return f"every node reaches the coordinator by its name, {run.coordinator}" if asked else ""


def _parted(run: RunFacts) -> Iterator[Flaw]:
    for each in run.said.recorded or ():
        if each.kind == "parted":
            yield Flaw(
                ", ".join(f"rank {rank}" for rank in each.ranks),
                f"the ranks have called collectives that are not the same: {each.text}",
                f"swarmtrain explain ranks-apart; do not go on from what {run.status.run} has saved since",
            )


def _parted_good(run: RunFacts) -> str:
    return (
        ""
        if run.said.recorded is None
        else "the last collectives are the same on all ranks, as torch recorded them"
    )


def _shm(run: RunFacts) -> Iterator[Flaw]:
    for node, each in run.tried.machines.items():
        if 0 <= each.shm_free < _LITTLE_SHM:
            yield Flaw(
                node,
                f"{say_size(each.shm_free)} of {say_size(each.shm)} are free in /dev/shm: data loaders and NCCL end "
                'with "bus error" when it is full',
                "shm_size in the job, for the next run; fewer or smaller batches in data loaders' queues",
            )


def _shm_good(run: RunFacts) -> str:
    free = [each.shm_free for each in run.tried.machines.values() if each.shm_free >= 0]
    return f"at least {say_size(min(free))} are free in /dev/shm on each" if free else ""


def _interfaces(run: RunFacts) -> Iterator[Flaw]:
    names = {each.interface for each in run.status.members if each.interface}
    if "lo" in names and len(names) > 1:
        for each in run.status.members:
            if each.interface == "lo":
                yield Flaw(
                    each.node,
                    "it talks to the others through loopback, which leads to no other machine",
                    f"swarmtrain events {run.status.run} says why it was chosen",
                    (each.why or "",),
                )


CHECKS: tuple[Check[RunFacts], ...] = (
    Check(
        "run-diagnosis", Severity.ERROR, "what `swarmtrain explain` says of it", _diagnosis, _diagnosis_good
    ),
    Check("run-versions", Severity.WARNING, "one torch, NCCL and Python on every node", _versions),
    Check("run-node-lost", Severity.WARNING, "nodes that are lost", _missing),
    Check("run-node-silent", Severity.ERROR, "nodes on which nothing can be started", _silent, _heard_good),
    Check("run-untried", Severity.NOTE, "whether there is anything to try", _untried),
    Check(
        "run-coordinator",
        Severity.ERROR,
        "the coordinator's name and port, from every node",
        _unreached,
        _reached_good,
    ),
    Check(
        "run-collectives",
        Severity.ERROR,
        "the last collectives, the same on all ranks",
        _parted,
        _parted_good,
    ),
    Check("run-shm", Severity.WARNING, "free room in /dev/shm, on every node", _shm, _shm_good),
    Check("run-interface", Severity.ERROR, "interfaces that lead to no other node", _interfaces),
)
