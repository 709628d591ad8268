"""Nodes that are lost."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Rule, there, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.journal.remarks import NodeLeaving, SpawnerRestarted, Warned


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
    return Conclusion(
        verdict=_verdict(failure),
        cause="its container, or its machine, was started again: another agent has joined from there since",
        sure="likely",
        failure=failure,
        seen=[Observation(again.text, node=failure.node, time=again.time)],
        remedies=[
            Remedy(
                "Was it the machine? See since when it runs.",
                f"{there(case, failure)}uptime",
            )
        ],
        unseen=["Whether the machine went down or the container alone."],
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
