"""Checks of a stack file: what `docker stack deploy` refuses, and what it reads and does nothing about. Pure.

Read in docker/cli (cli/compose/types, cli/compose/schema) and tried with ``docker stack config`` of 28.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.source import Written, variables_in
from swarmtrain.doctor.compose.stack import HandWrittenStack, StackService

_GPU_TEXT = (
    "deploy.resources.reservations.generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}], "
    "and each node "
    "declares its GPUs (swarmtrain doctor shows whether it does)"
)
_RESOURCES = "deploy.resources.limits and deploy.resources.reservations (cpus, memory, pids)"

# Keys of a service with which the whole file is refused, and what stands for them in a Swarm.
_REFUSED = {
    "extends": "an anchor (x-node: &node) and `<<: *node`",
    "volumes_from": "name the volumes in both services",
    "volume_driver": "driver: of the volume, under the file's own volumes:",
    **dict.fromkeys(("mem_limit", "memswap_limit", "mem_reservation", "cpus", "pids_limit"), _RESOURCES),
    **dict.fromkeys(("cpu_quota", "cpu_shares", "cpuset", "cpu_count", "cpu_percent"), _RESOURCES),
    "scale": "deploy.replicas",
    "profiles": "a second file, `docker stack deploy -c a.yml -c b.yml`",
    "platform": "deploy.placement.constraints: [node.platform.arch == x86_64]",
    "pull_policy": "leave it out: each node pulls a tag that it lacks",
    "develop": "leave it out: nothing is built by a Swarm",
}
# Keys that are read, and nothing comes of them.
_IGNORED = {
    "build": "build and push the image before, and name it with image:",
    "devices": "a Swarm gives no devices; GPUs are generic resources: " + _GPU_TEXT,
    "privileged": "leave it out; cap_add: works",
    "ipc": "a tmpfs at /dev/shm for shared memory",
    "pid": "leave it out",
    "security_opt": "leave it out, or set it in the nodes' daemon.json",
    "links": "leave it out: services of one network find each other by name",
    "external_links": "leave it out: services of one network find each other by name",
    "cgroup_parent": "leave it out, or set it in the nodes' daemon.json",
    "cgroupns_mode": "leave it out, or set it in the nodes' daemon.json",
    "userns_mode": "leave it out, or set it in the nodes' daemon.json",
    "domainname": "hostname:",
    "mac_address": "leave it out",
    "container_name": "hostname:, or the service's own name",
    "tmpfs": "volumes: [{type: tmpfs, target: PATH}]",
    "expose": "leave it out: services of one network reach every port",
}
# Written inside of a command these are the container's, but Docker looks for them where it is deployed.
_IN_CONTAINER = frozenset(
    [
        *(
            "HOSTNAME",
            "RANK",
            "LOCAL_RANK",
            "GROUP_RANK",
            "NODE_RANK",
            "WORLD_SIZE",
            "MASTER_ADDR",
            "MASTER_PORT",
        ),
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "DOCKER_RESOURCE_GPU", "PATH", "PWD"),
    ]
)
# What a template may hold: something of the task, or a text (which is how {{ itself is written).
_SWARMS_OWN = re.compile(r'\.(Node|Service|Task)\b|^\s*"')
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


def _refused_keys(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for key, instead in _REFUSED.items():
            if written := service.written.get(key):
                yield Flaw(str(written.line), f"`{key}:` is refused, and with it the whole file", instead)
    root = stack.source.root
    if name := root.get("name"):
        yield Flaw(
            str(name.line),
            "`name:` at the top is refused",
            "the name is given to `docker stack deploy` as its last word",
        )
    for section in ("configs", "secrets"):
        for each in root.entries(section).values():
            for key in ("content", "environment"):
                if written := each.get(key):
                    yield Flaw(
                        str(written.line), f"`{key}:` of {section} is refused", "file:, or external: true"
                    )


def _gpu_devices(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        devices = service.written.get("deploy", "resources", "reservations", "devices")
        for written, key in (
            (devices, "deploy.resources.reservations.devices"),
            (service.written.get("gpus"), "gpus"),
            (service.written.get("runtime"), "runtime"),
        ):
            if written is not None:
                sentence = (
                    f"`{key}:` is refused: a Swarm counts GPUs as generic resources, and knows no devices"
                )
                yield Flaw(str(written.line), sentence, _GPU_TEXT)


def _refused_values(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for path in (("environment",), ("labels",), ("deploy", "labels")):
            for key, each in _mapping(service.written.get(*path)).items():
                if each.kind == "bool":
                    text = each.text()
                    yield Flaw(
                        str(each.line),
                        f"{'.'.join(path)}.{key} is a boolean, for which the file is refused",
                        f'quotes: {key}: "{text}"',
                    )
        for section, path in (("ports", ("published",)), ("volumes", ("tmpfs", "size"))):
            listed = service.written.get(section)
            for item in listed.items() if listed is not None else ():
                value = item.get(*path)
                if value is not None and value.kind == "str" and "$" not in value.text():
                    sentence = f"{section}: {'.'.join(path)} must be a number, for which the file is refused"
                    yield Flaw(
                        str(value.line), sentence, "a number without quotes or unit: 4294967296 is 4 GiB"
                    )


def _mapping(written: Written | None) -> Mapping[str, Written]:
    return written.value if written is not None and isinstance(written.value, Mapping) else {}


def _version(stack: HandWrittenStack) -> Iterator[Flaw]:
    written = stack.source.root.get("version")
    if written is None:
        yield Flaw(
            "1", "without `version:` a docker command line of 20.10 refuses the file", 'version: "3.8"'
        )
    elif written.kind != "str":
        yield Flaw(
            str(written.line), "`version:` is a number, for which the file is refused", 'version: "3.8"'
        )
    elif not written.text().startswith("3"):
        yield Flaw(
            str(written.line),
            f'`version: "{written.text()}"` is no version that a Swarm takes',
            'version: "3.8"',
        )


def _depends_on(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if written := service.written.get("depends_on"):
            yield Flaw(
                str(written.line),
                "`depends_on:` does nothing in a Swarm: services start in no order",
                "leave it out: torchrun waits for the others by itself",
                severity=Severity.ERROR if isinstance(written.value, Mapping) else None,
                evidence=("as a mapping it is refused",) if isinstance(written.value, Mapping) else (),
            )


def _shm_size(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if written := service.written.get("shm_size"):
            yield Flaw(
                str(written.line),
                "`shm_size:` is ignored in a Swarm: /dev/shm has 64 MiB",
                "volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 4294967296}}]",
            )


def _restart_key(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if written := service.written.get("restart"):
            mend = "deploy: {restart_policy: {condition: on-failure, delay: 1s, max_attempts: 10}}"
            yield Flaw(
                str(written.line),
                "`restart:` is ignored in a Swarm, whose default is to start again for ever",
                mend,
            )


def _network_mode(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        if written := service.written.get("network_mode"):
            host = written.text() == "host"
            mend = "networks: [hostnet], and at the top networks: {hostnet: {external: true, name: host}}"
            yield Flaw(
                str(written.line),
                f"`network_mode: {written.text()}` is ignored in a Swarm",
                mend if host else "networks:",
            )


def _ignored_keys(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for key, instead in _IGNORED.items():
            if written := service.written.get(key):
                yield Flaw(str(written.line), f"`{key}:` is ignored in a Swarm", instead)


def _dollars(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for line, text in _command_lines(stack, service):
            for name in sorted(variables_in(text) & (_IN_CONTAINER | set(service.environment))):
                yield Flaw(
                    str(line),
                    f"${name} is replaced where the stack is deployed, not in the container",
                    f"$${name}, in a command that a shell runs",
                )


def _command_lines(stack: HandWrittenStack, service: StackService) -> Iterator[tuple[int, str]]:
    for key in ("command", "entrypoint"):
        if written := service.written.get(key):
            for number in range(written.line, max(written.last, written.line) + 1):
                if number <= len(stack.source.lines):
                    yield number, stack.source.lines[number - 1].partition(" #")[0]


def _templates(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for name, variable in service.environment.items():
            for inside in _TEMPLATE.findall(variable.value or ""):
                if not _SWARMS_OWN.search(inside):
                    yield Flaw(
                        str(variable.written.line),
                        f"{{{{{inside}}}}} in {name} is taken for a template of Swarm's, and refused when "
                        "a task starts",
                        '{{"{{"}} stands for {{',
                    )
        for key in ("command", "entrypoint"):
            written = service.written.get(key)
            words = [written.text(), *(item.text() for item in written.items())] if written else []
            if written is not None and any("{{." in word for word in words):
                yield Flaw(
                    str(written.line),
                    f"templates such as {{{{.Task.Slot}}}} are not expanded in `{key}:`",
                    "put it into environment:, and read the variable in the container ($$NAME in a shell)",
                )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check(
        "refused-key", Severity.ERROR, "keys for which `docker stack deploy` refuses the file", _refused_keys
    ),
    Check("gpu-devices", Severity.ERROR, "GPUs asked for in ways that a Swarm refuses", _gpu_devices),
    Check(
        "refused-value",
        Severity.ERROR,
        "booleans and quoted numbers for which the file is refused",
        _refused_values,
    ),
    Check("version-key", Severity.NOTE, "a version that every docker command line takes", _version),
    Check("depends-on", Severity.WARNING, "`depends_on`, which orders nothing in a Swarm", _depends_on),
    Check("shm-size", Severity.WARNING, "`shm_size`, which a Swarm ignores", _shm_size),
    Check("restart-key", Severity.WARNING, "`restart`, which a Swarm ignores", _restart_key),
    Check("network-mode", Severity.WARNING, "`network_mode`, which a Swarm ignores", _network_mode),
    Check(
        "ignored-key",
        Severity.WARNING,
        "other keys that a Swarm ignores: privileged, devices, ipc, links and more",
        _ignored_keys,
    ),
    Check("dollar", Severity.ERROR, "variables of the container that Docker replaces too early", _dollars),
    Check("template", Severity.ERROR, "`{{` that Swarm takes for a template, or does not expand", _templates),
)
