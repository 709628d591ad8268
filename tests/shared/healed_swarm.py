"""Runs of `healed_script.py` on a lab: how they are started, what they wrote, and that nothing of them is left."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from healed import SCRIPT, Account, output_by_rank
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.lab import Lab
from swarmtrain.launchers.swarm import containers
from swarmtrain.wire import names


def start(directory: Path, image: str, name: str, **wanted: Any) -> RunHandle:
    """Start a run in the current directory; what is no setting of the script is a key of the job."""
    (directory / "train.py").write_text(SCRIPT.read_text())
    keys = {key: wanted.pop(key) for key in list(wanted) if key in Job.model_fields}
    job: dict[str, Any] = {"nodes": 3, "workers_per_node": 1, "env": {"OMP_NUM_THREADS": "1"}}
    job |= {"per_node": ("book-*",)} | keys  # they tell what ran on which node
    return Client(on="swarm").run(
        Job(name=name, script="train.py", args=(json.dumps(wanted),), image=image, **job)
    )


def account(lab: Lab, handle: RunHandle) -> Account:
    return Account(_files(lab, f"data/{handle.id}/*/work/book-*"), handle)


def check_output(lab: Lab, handle: RunHandle) -> None:
    """Every line that a rank wrote is there once, whole, and its own."""
    told = {key: text.rstrip("\n") for key, text in output_by_rank(handle).items()}
    written = {}
    for path, text in _files(lab, f"runs/{handle.id}/*/output/*.out").items():
        generation, rank = Path(path).stem[1:].split("-r")
        if text.rstrip("\n"):
            written[int(generation), int(rank)] = text.rstrip("\n")
    assert told.keys() == written.keys()
    for key, text in told.items():
        assert text == written[key], f"generation {key[0]}, rank {key[1]}"


def _files(lab: Lab, pattern: str) -> dict[str, str]:
    """The files of all nodes that fit a pattern below the storage root, each with its text."""
    found: dict[str, str] = {}
    for node in lab.nodes():
        (volume,) = node.docker.json("volume", "inspect", "swarmtrain")
        every = f'for f in {pattern}; do [ -e "$f" ] && echo "=====$f" && cat "$f"; done; true'
        text = node.exec("sh", "-c", f"cd {volume['Mountpoint']} && {every}")
        parts = re.split(r"^=====(.*)\n", text, flags=re.M)
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def saved_weights(lab: Lab, handle: RunHandle, step: int) -> str:
    """The hash of the weights in the snapshots of a step, which all nodes that hold one agree on."""
    manifests = _files(lab, f"data/{handle.id}/*/snapshots/g*-s{step:09d}.json")
    (digest,) = {json.loads(text)["weights"] for text in manifests.values()}
    return str(digest)


def left_on(lab: Lab, run: RunHandle) -> Sequence[str]:
    """What is left of a run that was removed."""
    left = []
    stack = run.run.stack
    for node in lab.nodes():
        for kind, words in (
            ("container", ("ps", "-a")),
            ("network", ("network", "ls")),
            ("volume", ("volume", "ls")),
        ):
            listed = node.docker.run(*words, "--filter", f"label=com.docker.stack.namespace={stack}", "-q")
            # The volume of all runs has the label of the first one on its node.
            left += [f"{kind} {each} on {node.name}" for each in listed.split() if each != names.VOLUME]
        files = _find(node, run.id)
        left += [f"{path} on {node.name}" for path in files.split()]
    return left


def remove(lab: Lab, handle: RunHandle) -> None:
    """Remove a run, whatever it is doing. Nothing of it may be left on any node."""
    if handle.id in {each.id for each in Client(on="swarm").runs()}:
        handle.remove(force=True)
    until(lambda: not left_on(lab, handle), what=f"{handle.id} leaving nothing")


def _find(node: Any, name: str) -> str:
    (volume,) = node.docker.json("volume", "inspect", "swarmtrain")
    return str(
        node.exec(
            "sh",
            "-c",
            f"find {volume['Mountpoint']} -name '{name}*'; ls -d /dev/shm/swarmtrain* 2>/dev/null; true",
        )
    )


def agents_on(lab: Lab, node: int | str, handle: RunHandle) -> list[str]:
    """The ids of a run's agent containers on a node."""
    return containers.running(lab.node(node).docker, handle.run.stack, "agent")
