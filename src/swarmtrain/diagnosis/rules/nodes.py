"""Nodes that are lost, and nodes that are not like the others."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case, said
from swarmtrain.diagnosis.echoes import is_timeout
from swarmtrain.diagnosis.rule import Conclusion, Rule, there, who
from swarmtrain.diagnosis.versions import Difference, differences
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy, Sureness
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.journal.remarks import ClockApart, NodeLeaving, SpawnerRestarted, Warned

# What Python, a library and NCCL say where something is of another version than who calls it expects.
_OTHER_VERSION = re.compile(
    r"^(?:ImportError: cannot import name|AttributeError: (?:module|type object) |ModuleNotFoundError: "
    r"|TypeError: .*unexpected keyword argument|ValueError: unsupported pickle protocol"
    r"|RuntimeError: .*(?:undefined symbol|is not supported by this version))",
    re.MULTILINE,
)
_TIME = re.compile(
    r"certificate is not yet valid|(?P<weak>certificate has expired)|RequestTimeTooSkewed"
    r"|difference between the request time and the (?:current|server) time is too large"
    r"|[Tt]oken (?:used too early|is not yet valid)|Clock skew too great|Signature not yet current"
)
_ROOM = 5.0  # seconds by which the moment of a machine's start is known, clocks and delays included


def _of_a_node(case: Case, pattern: str) -> Failure | None:
    first = case.first
    return first if first is not None and first.kind == "node" and re.search(pattern, first.summary) else None


def _looks(case: Case, *remedies: Remedy) -> list[Remedy]:
    """Where to look: at what Docker knows, where it is Docker's, and else at the journal."""
    events = Remedy("What else happened?", f"swarmtrain events {case.status.run}")
    return [*remedies, events] if case.status.coordinator else [events]


def _verdict(failure: Failure) -> str:
    between = " " if failure.summary.startswith("was lost") else ": "
    return f"{who(failure)}{between}{failure.summary}"


def _heard(case: Case, failure: Failure) -> list[Observation]:
    """What the journal has of the node from then on."""
    kinds = (NodeJoined, NodeLeaving, SpawnerRestarted, Warned)
    return [
        Observation(event.text, node=failure.node, time=event.time)
        for event in case.events
        if isinstance(event, kinds) and event.node == failure.node and event.time > failure.time - 5.0
    ]


def _told_to_leave(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind != "node":
        return None
    told = [
        each
        for each in case.of_kind(NodeLeaving)
        if each.node == failure.node and each.time <= failure.time + 5.0
    ]
    if not told:
        return None
    return Conclusion(
        verdict=_verdict(failure),
        cause="its agent was told to go before: a node that is drained, a service that is scaled, docker stop",
        sure="likely",
        failure=failure,
        seen=[Observation(told[-1].text, node=failure.node, time=told[-1].time)],
        remedies=[
            Remedy(
                "How is the node?",
                f"docker node inspect {failure.node} --format '{{{{.Spec.Availability}}}}'",
            )
        ],
        unseen=["Who told it: Docker does not say."],
    )


def _agent_again(case: Case) -> Conclusion | None:
    """Another agent came in the place of one, on the same machine."""
    failure = case.first
    if failure is None or failure.kind != "node":
        return None
    joined = [each for each in case.of_kind(NodeJoined) if each.node == failure.node]
    again = next((each for each in joined[1:] if each.time >= failure.time - 1.0), None)
    if again is None or again.incarnation == joined[0].incarnation:
        return None
    known = joined[0].boot and again.boot and again.node_id == joined[0].node_id
    anew = known and again.boot > joined[0].time
    same = known and abs(again.boot - joined[0].boot) < _ROOM
    seen = [Observation(again.text, node=failure.node, time=again.time)]
    if anew:
        seen.append(Observation("the machine started", node=failure.node, time=again.boot))
    return Conclusion(
        verdict=_verdict(failure),
        cause="its machine was started again, while the run went on"
        if anew
        else "its container was started again, and its machine was not: it runs as long as before"
        if same
        else "its container, or its machine, was started again: another agent has joined from there since",
        sure="certain" if anew or same else "likely",
        failure=failure,
        seen=seen,
        remedies=[
            Remedy("Why? On the machine: `last -x | head`, `journalctl -b -1 -e`; its power, its memory.")
            if anew
            else Remedy("What has become of its container?", f"docker stack ps --no-trunc {_stack(case)}")
            if same
            else Remedy("Was it the machine? See since when it runs.", f"{there(case, failure)}uptime")
        ],
        unseen=["Who or what started it again."]
        if anew or same
        else ["Whether the machine went down or the container alone."],
    )


def _silent(case: Case) -> Conclusion | None:
    failure = _of_a_node(case, r"it stopped answering")
    if failure is None:
        return None
    return Conclusion(
        verdict=_verdict(failure),
        cause="it has lost its power or its network, or stands still; its connection was never closed",
        sure="likely",
        failure=failure,
        seen=_heard(case, failure),
        remedies=_looks(
            case,
            Remedy("Does the machine answer?", f"ping -c 3 {failure.node}"),
            Remedy("What does the Swarm know of it?", "docker node ls"),
            Remedy(
                "If it is up, measure the ways to it: a firewall, or an MTU that is too large, silences it, too.",
                "swarmtrain doctor --image IMAGE",
            ),
        ),
        unseen=[f"What became of {failure.node}: nothing that it says arrives."],
    )


def _closed(case: Case) -> Conclusion | None:
    failure = _of_a_node(case, r"its connection closed|its agent has ended")
    if failure is None:
        return None
    return Conclusion(
        verdict=_verdict(failure),
        cause="its container or its agent has ended, and nobody came in its place; the machine was alive "
        "enough to close the connection",
        sure="likely",
        failure=failure,
        seen=_heard(case, failure),
        remedies=_looks(
            case,
            Remedy("What has become of its container?", f"docker stack ps --no-trunc {_stack(case)}"),
            Remedy("How is the machine?", "docker node ls"),
        ),
        unseen=[f"Why it ended: the journal of {failure.node} ends with its agent."],
    )


def _stack(case: Case) -> str:
    return case.status.run.replace(".", "-")


def _other(case: Case) -> Conclusion | None:
    failure = _of_a_node(case, "")
    if failure is None:
        return None
    return Conclusion(
        verdict=_verdict(failure),
        cause="what the node's agent says of itself",
        sure="likely",
        failure=failure,
        seen=_heard(case, failure),
        remedies=[Remedy("What else happened?", f"swarmtrain events {case.status.run}")],
    )


def _versions(case: Case) -> Conclusion | None:
    """Only where what was said fits: that nodes differ explains nothing by itself."""
    first, apart = case.first, differences(case)
    if first is None or first.rank is None or not apart:
        return None
    failed = {each.node for each in case.own}
    fits = [each for each in apart if failed and _alone(failed, each)]
    if fits and all(_OTHER_VERSION.search(said(each)) for each in case.own):
        return _of_versions(case, fits, "likely", f"{who(first)}: {first.summary}")
    talk = [each for each in apart if each.package != "Python"]
    if talk and not case.own and not any(map(is_timeout, case.causes)):
        return _of_versions(case, talk, "possible", "the ranks could not go on talking to each other")
    return None


def _alone(failed: set[str], apart: Difference) -> bool:
    """Whether those that failed by themselves, and nobody else, have another version."""
    versions = {apart.versions.get(node, "") for node in failed}
    return (
        len(versions) == 1 and {node for node, each in apart.versions.items() if each in versions} == failed
    )


def _of_versions(case: Case, apart: list[Difference], sure: Sureness, verdict: str) -> Conclusion:
    packages = " and ".join(each.package for each in apart)
    return Conclusion(
        verdict=verdict,
        cause=f"nodes do not have the same {packages}"
        + (
            ", and it failed on those alone that differ"
            if sure == "likely"
            else ", which need not fit together"
        ),
        sure=sure,
        failure=case.first,
        seen=[seen for each in apart for seen in each.observations()],
        remedies=[
            Remedy(
                "Name the image by its digest, so that every node has the same: a tag such as latest is what a node "
                "has pulled last.",
                "docker image inspect IMAGE --format '{{.RepoDigests}}'",
            ),
            Remedy("Without containers, install the same versions on each machine."),
        ],
        unseen=[] if sure == "likely" else ["Whether these versions are the reason: no rank says so."],
        knows_who=sure == "likely",
    )


def _clock(case: Case) -> Conclusion | None:
    failure = case.first
    match = _TIME.search(said(failure)) if failure is not None and failure.rank is not None else None
    if failure is None or match is None:
        return None
    apart = [each for each in case.of_kind(ClockApart) if each.node == failure.node]
    either = "the certificate itself, or the clock of this node or of the server, is out of date"
    return Conclusion(
        verdict=f"{who(failure)} was refused for the time that it is: {match[0]}",
        cause="the clock of its node is wrong" if apart else either,
        sure="likely" if apart else "possible" if match["weak"] else "likely",
        failure=failure,
        seen=[Observation(each.text, node=each.node, time=each.time) for each in apart[-1:]],
        remedies=[
            Remedy("What time is it there?", f"{there(case, failure)}date -u"),
            Remedy("Let the machine keep time: on it, `timedatectl set-ntp true`."),
        ],
        unseen=[]
        if apart
        else [
            "Which of these it is: the node's clock and the run's were less than 30 s apart, or it did not say."
        ],
    )


# Before what the program says: one node is not like the others.
DIFFER = (
    Rule(
        code="versions-differ",
        title="Nodes have different versions of torch, NCCL or Python",
        about="Each node says which it trains with, once its workers can be forked. That they differ is told where "
        "only those ranks fail whose node differs, of something that is another in another version; and, as a "
        "possible cause, where ranks lost touch and nobody knows why. NCCL must be of one version on all nodes.",
        look=_versions,
        test="test_nodes_with_other_versions_are_told_where_that_explains_something",
    ),
    Rule(
        code="clock-skew",
        title="A clock is wrong",
        about="Certificates, tokens and signed requests (S3) are valid at certain times. A node whose clock is wrong "
        "is refused by servers, and its files seem to be of another time. The run itself does not mind: it counts by "
        "clocks that nobody sets, and says in its journal whose clock is more than 30 seconds from its own.",
        look=_clock,
        produced=("not_yet_valid",),
    ),
)
RULES = (
    Rule(
        code="node-told-to-leave",
        title="A node was told to go",
        about="Swarm stops a task when its node is drained, when its service is scaled down or updated, or "
        "when a person stops the container. Its agent hears it, says so, and lets its workers save.",
        look=_told_to_leave,
        test="test_what_came_from_outside_is_told_apart",
    ),
    Rule(
        code="node-restarted",
        title="A node's agent has started anew",
        about="The machine was started again, its Docker was, or its container was. A machine that restarts "
        "by itself has lost its power, or its kernel has failed.",
        look=_agent_again,
        test="test_what_came_from_outside_is_told_apart",
    ),
    Rule(
        code="node-silent",
        title="A node stopped answering",
        about="Its connection was not closed, so its kernel had no time to: no power, no network, or the "
        "machine stands still (swapping, frozen, a hypervisor). It is noticed after 4 seconds while steps are "
        "made, else after 15.",
        look=_silent,
        produced=("node_frozen",),
    ),
    Rule(
        code="node-lost",
        title="A node's container or agent has ended",
        about="The connection was closed by its kernel: the container or its first process was killed, Docker "
        "was stopped, or the machine was shut down in order.",
        look=_closed,
        produced=("node_lost",),
    ),
    Rule(
        code="node-trouble",
        title="A node cannot do its part",
        about="The node's agent says itself what it cannot do.",
        look=_other,
        test="test_what_came_from_outside_is_told_apart",
    ),
)
