"""Checks of a Swarm by its engines' versions and settings, and by the GPUs that they declare. Pure.

The known faults of engines were read in their release notes and issues; see `swarm.engines` and `docker.toolkit`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from swarmtrain.docker import toolkit
from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.cluster.facts import SwarmFacts, gpu_kinds, is_pretend, node_names
from swarmtrain.errors import ClusterError
from swarmtrain.swarm.cluster import Node
from swarmtrain.swarm.engines import (
    KEEPS_GPU_TASKS,
    check_encryption,
    has_few_files,
    is_before,
    version_of,
)

# From, before: API 1.44 at least (github.com/moby/moby/issues/52067).
_REFUSES_OLD = ((29, 0, 0), (29, 3, 0))


def _versions(swarm: SwarmFacts) -> Iterator[Flaw]:
    by_version: dict[str, list[Node]] = defaultdict(list)
    for node in swarm.nodes:
        if node.engine:
            by_version[node.engine].append(node)
    if len(by_version) > 1:
        majors = {(version_of(version) or (0, 0, 0))[0] for version in by_version}
        yield Flaw(
            "",
            "the nodes have different Docker engines",
            "the same version everywhere: what one engine gets wrong then is wrong everywhere, and found",
            tuple(f"{version}: {node_names(nodes)}" for version, nodes in sorted(by_version.items())),
            Severity.WARNING if len(majors) > 1 else None,
        )


def _versions_good(swarm: SwarmFacts) -> str:
    here = {node.engine for node in swarm.nodes}
    return f"Docker {', '.join(sorted(here))} on every node" if all(here) else ""


def _old_clients(swarm: SwarmFacts) -> Iterator[Flaw]:
    least, before = _REFUSES_OLD
    for node in swarm.nodes:
        version = version_of(node.engine)
        if version is not None and least <= version < before:
            yield Flaw(
                node.hostname,
                f"Docker {node.engine} refuses command lines and tools before Docker 25 (API 1.44)",
                'update it to 29.3; or "min-api-version": "1.40" in its daemon.json',
            )


def _api(swarm: SwarmFacts) -> Iterator[Flaw]:
    spoken = swarm.spoken_to
    ours, theirs = _api_of(spoken.client_api), _api_of(spoken.api)
    if ours and theirs and ours != theirs and abs(ours[1] - theirs[1]) > 10:
        yield Flaw(
            "",
            f"the docker command line here ({spoken.client}) and the engine ({spoken.engine}) are years "
            "apart",
            "update the older one: they agree on the older API, and what newer ones report is missing",
            (f"API {spoken.client_api} and {spoken.api}",),
        )


def _api_of(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if len(parts) == 2 and all(map(str.isdecimal, parts)) else ()


def _encryption(swarm: SwarmFacts) -> Iterator[Flaw]:
    try:
        check_encryption(swarm.nodes)
    except ClusterError as error:
        yield Flaw("", error.message, "update Docker to 29.2.1 or newer; until then no encrypted network")


def _open_files(swarm: SwarmFacts) -> Iterator[Flaw]:
    few = [node for node in swarm.nodes if has_few_files(node.engine)]
    if few:
        yield Flaw(
            node_names(few),
            "containers there have 1024 open files, where older engines give a million",
            "nothing: swarmtrain's stacks ask for more; stacks of your own need ulimits: {nofile: 524288}",
        )


def _gpu_tasks(swarm: SwarmFacts) -> Iterator[Flaw]:
    if any(gpu_kinds(node) for node in swarm.nodes):
        for node in swarm.managers:
            if is_before(node, KEEPS_GPU_TASKS):
                yield Flaw(
                    node.hostname,
                    f"a manager with Docker {node.engine} restarts tasks that reserve GPUs whenever their "
                    "node changes in any way",
                    "update it to 23 or newer (github.com/moby/moby/issues/44378)",
                )


def _firewall(swarm: SwarmFacts) -> Iterator[Flaw]:
    if swarm.spoken_to.firewall.startswith("nftables"):
        yield Flaw(
            swarm.cluster.this.hostname,
            "its engine uses the nftables firewall backend, which cannot run in a Swarm",
            'remove "firewall-backend" from its daemon.json, and restart Docker',
        )


def _live_restore(swarm: SwarmFacts) -> Iterator[Flaw]:
    if swarm.spoken_to.live_restore:
        yield Flaw(
            swarm.cluster.this.hostname,
            "live-restore is on, which Docker does not support in a Swarm",
            'remove "live-restore" from its daemon.json, and restart Docker',
        )


def _gpu_counts(swarm: SwarmFacts) -> Iterator[Flaw]:
    for node in swarm.nodes:
        if (kinds := swarm.counted.get(node.id)) and not is_pretend(node):
            yield Flaw(
                node.hostname,
                f"it declares {', '.join(kinds)} by a number: a task that reserves one then sees all of them",
                '"node-generic-resources": ["gpu=GPU-<uuid>", ...] in its daemon.json, as `nvidia-smi -L` shows them',
            )


def _gpu_names(swarm: SwarmFacts) -> Iterator[Flaw]:
    by_kind: dict[str, list[Node]] = defaultdict(list)
    for node in swarm.nodes:
        for kind in gpu_kinds(node):
            by_kind[kind].append(node)
    if len(by_kind) > 1:
        yield Flaw(
            "",
            "the nodes call their GPUs differently: a job that reserves one kind gets no others",
            "one name everywhere in node-generic-resources, and in swarm-resource",
            tuple(f"{kind}: {node_names(nodes)}" for kind, nodes in sorted(by_kind.items())),
        )


def _gpus_good(swarm: SwarmFacts) -> str:
    found = [
        f"{node.hostname} {sum(gpu_kinds(node).values())}{' (pretended)' if is_pretend(node) else ''}"
        for node in swarm.nodes
        if gpu_kinds(node)
    ]
    return f"GPUs declared: {', '.join(found)}" if found else "no node declares GPUs"


def _toolkit(swarm: SwarmFacts) -> Iterator[Flaw]:
    this = swarm.cluster.this
    if warning := toolkit.warning(swarm.spoken_to.toolkit, this.hostname):
        yield Flaw(
            this.hostname,
            warning.partition(":")[0],
            'update it to 1.19, or nvidia-container-runtime.mode = "legacy"',
        )


def _runtime(swarm: SwarmFacts) -> Iterator[Flaw]:
    this = swarm.cluster.this
    if gpu_kinds(this) and not is_pretend(this) and swarm.spoken_to.default_runtime not in ("nvidia", ""):
        yield Flaw(
            this.hostname,
            f"it declares GPUs, but its default runtime is {swarm.spoken_to.default_runtime}: a task that "
            "reserves one sees none",
            '"default-runtime": "nvidia" in its daemon.json',
        )


CHECKS: tuple[Check[SwarmFacts], ...] = (
    Check("engines", Severity.NOTE, "engines of different versions", _versions, _versions_good),
    Check(
        "old-clients", Severity.NOTE, "engines that refuse older command lines (29.0 to 29.2)", _old_clients
    ),
    Check("api", Severity.NOTE, "a docker command line of another time than the engine", _api),
    Check(
        "encryption",
        Severity.WARNING,
        "engines between which an encrypted network passes nothing",
        _encryption,
    ),
    Check("engine-files", Severity.NOTE, "engines that give containers 1024 open files (29)", _open_files),
    Check(
        "gpu-restarts",
        Severity.WARNING,
        "managers that restart GPU tasks without need (before 23)",
        _gpu_tasks,
    ),
    Check("firewall", Severity.ERROR, "the nftables backend, which a Swarm cannot use", _firewall),
    Check("live-restore", Severity.ERROR, "live-restore, which a Swarm cannot use", _live_restore),
    Check("gpu-count", Severity.ERROR, "GPUs that are declared by a number instead of by UUID", _gpu_counts),
    Check(
        "gpu-kind", Severity.WARNING, "GPUs with different names on different nodes", _gpu_names, _gpus_good
    ),
    Check(
        "toolkit",
        Severity.WARNING,
        "the NVIDIA Container Toolkit 1.18, which ignores what Swarm assigns",
        _toolkit,
    ),
    Check(
        "runtime",
        Severity.ERROR,
        "GPUs without nvidia as the default runtime (of the manager that is asked)",
        _runtime,
    ),
)
