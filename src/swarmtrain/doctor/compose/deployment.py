"""Checks of a stack file: how Swarm places, starts, watches and ends the tasks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack, StackService, constraint
from swarmtrain.doctor.compose.torchrun import words_of
from swarmtrain.job.units import parse_duration
from swarmtrain.swarm.eligibility import satisfies

_ON_FAILURE = "deploy: {restart_policy: {condition: on-failure, delay: 1s, max_attempts: 10}}"
_NEEDS_GPU = re.compile(r"cuda|nvidia|gpu", re.IGNORECASE)
_WAITS = re.compile(
    r"init_process_group|rendezvous|master_addr|torchrun|\bnc\b|/dev/tcp|getent|\bping\b|nslookup",
    re.IGNORECASE,
)
_KEYS = re.compile(r"(node\.(id|hostname|ip|role|platform\.(os|arch)|labels\..+)|engine\.labels\..+)")
_NO_HEALTH = "healthcheck: {disable: true}; a container is up when its process is"
_BASE = re.compile(r"^FROM\s+\S*pytorch:(\d+\.\d+\.\d+)\S*", re.MULTILINE)
_WANTED = re.compile(r"^torch\s*==\s*(\d+\.\d+\.\d+)\S*", re.MULTILINE)
_DOCKERS_GRACE = 10.0


def _restart(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        condition = service.written.text("deploy", "restart_policy", "condition")
        line = str(service.line_of("deploy", "restart_policy", "condition"))
        if condition == "none":
            sentence = (
                "`condition: none`: a task that fails to start, or whose node goes, is never tried again"
            )
            yield Flaw(line, sentence, _ON_FAILURE, severity=Severity.WARNING)
        elif condition in ("", "any"):
            how = "`condition: any`:" if condition else "without a restart_policy it is `any`:"
            yield Flaw(line, f"{how} a training that has ended is started again, for ever", _ON_FAILURE)


def _job_mode(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if service.mode.endswith("-job"):
            yield Flaw(
                str(service.line_of("deploy", "mode")),
                f"`mode: {service.mode}` starts failed tasks again whatever restart_policy says, and "
                "ignores max_replicas_per_node",
                "one replicated service with max_replicas_per_node: 1, or one service a node",
            )


def _placement(stack: HandWrittenStack) -> Iterator[Flaw]:
    several = sum(service.replicas for service in stack.training) > 1
    pinned: dict[str, StackService] = {}
    for service in stack.training:
        if service.replicas > 1:
            if service.written.get("deploy", "placement", "max_replicas_per_node") is None:
                sentence = (
                    f"nothing keeps two of the {service.replicas} tasks off one node, where they share its "
                    "GPUs and its link"
                )
                yield Flaw(
                    str(service.line_of("deploy", "replicas")),
                    sentence,
                    "deploy: {placement: {max_replicas_per_node: 1}}",
                )
        elif several and not service.constraints and not service.mode.startswith("global"):
            sentence = (
                f"nothing keeps {service.name} off the node of another service, and its files stay where "
                "it was"
            )
            yield Flaw(
                str(service.line_of("deploy")),
                sentence,
                "deploy: {placement: {constraints: [node.hostname == NAME]}}",
            )
        elif (node := service.pinned) and node in pinned:
            sentence = (
                f"{service.name} is on the same node as {pinned[node].name}: they share its processors, "
                "GPUs and link"
            )
            yield Flaw(
                str(service.line_of("deploy", "placement", "constraints")), sentence, "a node for each"
            )
        elif node:
            pinned[node] = service


def _constraints(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for written in service.constraints:
            key, _, _ = constraint(written.text())
            if not key or not _KEYS.fullmatch(key):
                near = re.sub(r"^(node\.)?labels?\.", "", key or "NAME")
                yield Flaw(
                    str(written.line),
                    f"`{written.text()}` is no constraint that Swarm knows: the task waits for ever",
                    f"node.hostname == NAME, or node.labels.{near} == VALUE",
                )


def _nodes_exist(stack: HandWrittenStack) -> Iterator[Flaw]:
    """Constraints that no node of the Swarm fulfils which was asked."""
    if stack.cluster is None:
        return
    nodes = stack.cluster.nodes
    for service in stack.services:
        for written in service.constraints:
            key, operator, value = constraint(written.text())
            if not key or "$" in value or any(satisfies(node, f"{key}{operator}{value}") for node in nodes):
                continue
            names = ", ".join(node.hostname for node in nodes)
            yield Flaw(
                str(written.line),
                f"no node of this Swarm fulfils `{written.text()}`: the task waits for ever",
                f"one of: {names}",
            )


def _unread_label(stack: HandWrittenStack) -> Iterator[Flaw]:
    """The guide labels its nodes, and never reads the label."""
    if stack.cluster is None:
        return
    labelled = {node.labels["hostname"]: node for node in stack.cluster.nodes if "hostname" in node.labels}
    for service in stack.services:
        for written in service.constraints:
            key, _, value = constraint(written.text())
            if labelled and key == "node.hostname":
                known = ", ".join(f"{label} on {node.hostname}" for label, node in labelled.items())
                yield Flaw(
                    str(written.line),
                    f"the nodes' label `hostname` ({known}) is not what `node.hostname` reads: that is the "
                    "machine's own name",
                    "node.labels.hostname == LABEL, or leave the labels out and keep node.hostname == "
                    f"{value}",
                )


def _health(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        test = service.written.get("healthcheck", "test")
        text = " ".join(words_of(test))
        if test is None or text.split()[:1] == ["NONE"] or service.written.is_true("healthcheck", "disable"):
            continue
        if _NEEDS_GPU.search(text):
            passes = "print(" in text
            yield Flaw(
                str(test.line),
                "the health check prints whether there is a GPU and passes either way: it says nothing of "
                "the training"
                if passes
                else "the health check passes only with a GPU: on a node without one Swarm ends the task, "
                "again and again",
                _NO_HEALTH,
                severity=Severity.WARNING if passes else None,
            )
        if _WAITS.search(text):
            yield Flaw(
                str(test.line),
                "the health check waits for the others, who cannot find this container before it is "
                "healthy: a deadlock",
                _NO_HEALTH,
            )


def _slow_health(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        test = service.written.get("healthcheck", "test")
        if (
            test is not None
            and "torch" in " ".join(words_of(test))
            and not service.written.is_true("healthcheck", "disable")
        ):
            yield Flaw(
                str(test.line),
                "the health check imports torch each time: seconds of a processor, beside the training",
                _NO_HEALTH,
            )


def _grace(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        text = service.written.text("stop_grace_period")
        try:
            seconds = parse_duration(text) if text else _DOCKERS_GRACE
        except ValueError:
            continue
        if seconds <= _DOCKERS_GRACE:
            yield Flaw(
                str(service.line_of("stop_grace_period")),
                "a task that is stopped is killed after 10 s, which is short for a snapshot",
                "stop_grace_period: 60s",
            )


def _image(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        written = service.written.get("image")
        if written is None:
            yield Flaw(
                str(service.line),
                f"{service.name} has no image, and a Swarm builds none",
                "image: REGISTRY/NAME:VERSION",
            )
            continue
        name = written.text()
        if "@sha256:" in name or stack.source.has_variable(written):
            continue
        tag = name.rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield Flaw(
                str(written.line),
                f"the image has {'the tag latest' if tag else 'no tag'}: nodes may hold different ones of "
                "that name, and train "
                "with different versions of torch",
                "a tag for each version, or its digest: IMAGE@sha256:...",
                severity=Severity.WARNING,
            )


def _architecture(stack: HandWrittenStack) -> Iterator[Flaw]:
    if stack.cluster is None:
        return
    kinds = sorted({node.arch for node in stack.cluster.nodes if node.arch})
    if len(kinds) > 1:
        for service in stack.training:
            keys = [constraint(written.text())[0] for written in service.constraints]
            if not any(key in ("node.hostname", "node.id", "node.platform.arch") for key in keys):
                sentence = (
                    f"the Swarm has nodes of several architectures ({', '.join(kinds)}), and an image is "
                    "for one unless it was built for all"
                )
                yield Flaw(
                    str(service.line_of("image")),
                    sentence,
                    f"constraints: [node.platform.arch == {kinds[-1]}]",
                )


def _two_torches(stack: HandWrittenStack) -> Iterator[Flaw]:
    """A base image with one torch, and requirements that ask for another."""
    base = _BASE.search(stack.beside.get("Dockerfile", ""))
    wanted = _WANTED.search(stack.beside.get("requirements.txt", ""))
    if base is None or wanted is None or not stack.training or base[1] == wanted[1]:
        return
    yield Flaw(
        str(stack.training[0].line_of("image")),
        f"the Dockerfile beside this file begins with torch {base[1]}, and requirements.txt replaces it by "
        f"{wanted[1]}: a "
        "build for another CUDA, which the driver and the image's libraries may not fit",
        "torch from the base image alone: leave it and nvidia-* out of requirements.txt",
        (f"Dockerfile: {base[0].strip()}", f"requirements.txt: {wanted[0].strip()}"),
    )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check(
        "restart-policy",
        Severity.ERROR,
        "when Swarm starts a task again: `none`, `any` and the default are wrong for training",
        _restart,
    ),
    Check(
        "job-mode", Severity.WARNING, "job modes, which start failed tasks again whatever is asked", _job_mode
    ),
    Check("placement", Severity.WARNING, "one task a node", _placement),
    Check("constraint", Severity.ERROR, "constraints that Swarm can read", _constraints),
    Check("node-missing", Severity.ERROR, "constraints that a node of this Swarm fulfils", _nodes_exist),
    Check("label-unread", Severity.WARNING, "the label `hostname` beside `node.hostname`", _unread_label),
    Check("health", Severity.ERROR, "health checks that need a GPU or wait for others", _health),
    Check("health-torch", Severity.WARNING, "health checks that import torch", _slow_health),
    Check("stop-grace", Severity.NOTE, "time to end well", _grace),
    Check("image", Severity.ERROR, "an image that is the same on every node", _image),
    Check(
        "two-torches", Severity.WARNING, "a base image and requirements with different torches", _two_torches
    ),
    Check("architecture", Severity.WARNING, "nodes that the image is not for", _architecture),
)
