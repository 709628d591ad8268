"""Short-lived services in a run's stack: one to clean a node's directories, one to serve its files. Pure.

They are made of what the coordinator's or the agents' service already has: its image, the bundle, the secret, the
network. They carry the stack's label, so ``docker stack rm`` takes them along.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from swarmtrain.swarm.cluster import STACK_LABEL, Node
from swarmtrain.swarm.parts import NO_GPU
from swarmtrain.wire import names

ROLE = "helper"


def service_name(stack: str, what: str, node: Node) -> str:
    """The name of the helper on a node; a node's own name may not fit into it."""
    return f"{stack}_{what}-{node.id[:8]}"


def create(
    stack: str,
    model: Mapping[str, Any],
    node: Node,
    words: Sequence[str],
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """The arguments after ``docker`` that start a helper.

    Args:
        model: the inspected service that it is made after.
        node: where it runs.
        words: what the bundle is asked to do, ``["clean", "digits.3"]``.
        env: variables that differ from the model's.
    """
    task = model["Spec"]["TaskTemplate"]
    container = task["ContainerSpec"]
    variables = dict(each.split("=", 1) for each in container.get("Env", ())) | NO_GPU | dict(env or {})
    labels = {
        STACK_LABEL: stack,
        names.LABEL_JOB: model["Spec"]["Labels"].get(names.LABEL_JOB, ""),
        names.LABEL_ROLE: ROLE,
    }
    return [
        *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--with-registry-auth"),
        *("--name", service_name(stack, words[0], node)),
        *(word for key, value in labels.items() for word in ("--label", f"{key}={value}")),
        *("--constraint", f"node.id=={node.id}", "--restart-condition", "none", "--no-healthcheck"),
        *("--user", container.get("User", "0:0"), "--endpoint-mode", "dnsrr"),
        *(word for network in task.get("Networks", ()) for word in ("--network", network["Target"])),
        *("--mount", f"type=volume,source={names.VOLUME},target={names.STORAGE}"),
        *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
        *_references("config", container.get("Configs", ())),
        *_references("secret", container.get("Secrets", ())),
        *("--entrypoint", shlex.join(container["Command"])),
        container["Image"],
        *words,
    ]


def _references(kind: str, references: Sequence[Mapping[str, Any]]) -> list[str]:
    flags = []
    for each in references:
        source, file = each[f"{kind.capitalize()}Name"], each["File"]
        flags += [f"--{kind}", f"source={source},target={file['Name']},mode=0{file['Mode']:o}"]
    return flags
