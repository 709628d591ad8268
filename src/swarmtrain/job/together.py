"""What keys of a job are together: what one of them says of another, and what they contradict one another in.

Pure functions of values that `job.checks` has found right by themselves. Called by `job.spec`, once for all of a job.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swarmtrain.job.checks import made_name
from swarmtrain.job.problems import Problem
from swarmtrain.wire.plural import counted

TARGETS = ("script", "module", "command")


def target_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """That there is nothing to run, or more than one thing."""
    given = [key for key in TARGETS if data.get(key) is not None]
    if not given:
        yield Problem((), "nothing to run: give script, module or command")
    elif len(given) > 1:
        yield Problem(
            (given[-1],), f"only one of script, module and command can be run, not {' and '.join(given)}"
        )


def derived(data: Mapping[str, Any]) -> dict[str, str]:
    """The name that a job without one gets: from the script's or the module's."""
    command = data.get("command")
    first = command[0] if isinstance(command, (list, tuple)) and command else ""
    target = data.get("script") or str(data.get("module") or "").rpartition(".")[2] or first
    return {"name": made_name(posixpath.splitext(posixpath.basename(str(target)))[0])}


# Of keys that are right by themselves but not together: these keys, and what is wrong.
Contradiction = tuple[set[str | int], Problem]


def script_and_files(script: str | None, files: Sequence[str] | None) -> Iterator[Contradiction]:
    """That a script is to be in the image and to be sent, or neither."""
    if script is None:
        return
    if files == () and not script.startswith("/"):
        text = "files is empty, so nothing is sent: give the script's absolute path in the image"
        yield {"script", "files"}, Problem(("script",), text)
    if files != () and script.startswith("/"):
        text = "an absolute path is a script in the image, which takes files: [] (otherwise give a relative path)"
        yield {"script", "files"}, Problem(("script",), text)


def workers_and_gpus(workers: int | str, gpus: int, backend: str) -> Iterator[Contradiction]:
    """That there are more workers than GPUs, which NCCL does not take."""
    if isinstance(workers, int) and 0 < gpus < workers and backend != "gloo":
        shared = f"{workers} workers cannot share {counted(gpus, 'GPU')} with NCCL"
        text = f"{shared} (fewer workers, more GPUs, or backend: gloo)"
        yield {"workers_per_node", "resources", "backend"}, Problem(("workers_per_node",), text)
