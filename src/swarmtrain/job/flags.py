"""From the command line's flags to overrides of the job's keys. Pure: values only, no command-line library.

The command line calls `overrides_from_flags` with what it parsed, whatever spelling the user chose: ours
(``--nodes a,b``), torchrun's (``--nnodes 2:4 --nproc-per-node 2``) or TorchX's (``-j 3x1``). Torchrun's flags that
have no key here are in `ui.torchrun`. What is wrong with a flag
travels as an override with a mistake, so that `job.load` can report it together with everything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from swarmtrain.job import document
from swarmtrain.job.problems import shown

_SHAPE = re.compile(r"(?P<nodes>[^x]+)x(?P<workers>[^x]+)")
_RANGE = re.compile(r"[0-9]+(\.\.|:)[0-9]+")


class Override(NamedTuple):
    """A value that wins over the job file's.

    Args:
        value: what the key is set to; added to what the file says where the key is a list of volumes or constraints.
        flag: what messages call it, ``--nodes``.
        mistake: why there is no value, as the end of a sentence that begins with the flag.
    """

    value: Any
    flag: str
    mistake: str = ""


def integer(text: Any) -> Any:
    """The number in ``text``; anything else as it is, for the job's own check to complain about."""
    return int(text) if isinstance(text, str) and re.fullmatch(r"[+-]?[0-9]+", text) else text


def number(text: Any) -> Any:
    """The same for a number with a fraction."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def node_choice(text: Any) -> Any:
    """``3``, ``2..4`` or ``a,b,c``."""
    if not isinstance(text, str) or ".." in text:
        return text
    number = integer(text.strip())
    return number if isinstance(number, int) else [name.strip() for name in text.split(",")]


def node_count(text: Any) -> Any:
    """Torchrun's ``--nnodes``: ``3`` or ``2:4``."""
    if not isinstance(text, str):
        return text
    low, colon, high = text.partition(":")
    count = f"{low}..{high}" if colon else text
    if not re.fullmatch(r"[0-9]+(\.\.[0-9]+)?", count):
        raise ValueError(f"{shown(text)} is no number of nodes, which looks like 3 or 2:4")
    return integer(count)


def worker_count(text: Any) -> Any:
    """Torchrun's ``--nproc-per-node``: ``auto``, ``gpu``, ``cpu`` or a number."""
    return "auto" if text == "gpu" else integer(text)


def join_seconds(configuration: str) -> Any:
    """What torchrun's ``--rdzv-conf`` says of the time to wait for nodes, in seconds; None where it says nothing of it.

    ``join_timeout`` is the elastic rendezvous', ``timeout`` the static one's; nothing else of it has a meaning here.

    Raises:
        ValueError: it is not ``KEY=VALUE,...``.
    """
    pairs = [pair.partition("=") for pair in configuration.split(",") if pair.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("is not KEY=VALUE,...")
    values = {key.strip(): value.strip() for key, _, value in pairs}
    return values.get("join_timeout", values.get("timeout"))


def shape(text: str) -> tuple[Any, Any]:
    """TorchX's ``-j``: nodes and workers on each, ``3x1`` or ``2..4x1``; a range alone is one of nodes.

    A number alone is refused: to TorchX it is workers, and most people mean nodes.
    """
    match = _SHAPE.fullmatch(text)
    if match is None and not _RANGE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not nodes x workers, which looks like 3x1, 2..4x1 or 2..4")
    nodes, workers = (match["nodes"], worker_count(match["workers"])) if match else (text, None)
    try:
        return node_count(nodes.replace("..", ":")), workers
    except ValueError:
        raise ValueError(f"{shown(nodes)} is no number of nodes, which looks like 3 or 2..4") from None


class Flag(NamedTuple):
    """One flag: its key in the job, its spelling, and how its text becomes the key's value; None: it sets nothing."""

    key: str
    spelling: str
    parse: Callable[[Any], Any] = lambda value: value


# By the names that the command line gives its parameters.
FLAGS = {
    "name": Flag("name", "--name"),
    "script": Flag("script", "SCRIPT"),
    "module": Flag("module", "--module"),
    "command": Flag("command", "COMMAND", list),
    "args": Flag("args", "ARGS", list),
    "image": Flag("image", "--image"),
    "nodes": Flag("nodes", "--nodes", node_choice),
    "nnodes": Flag("nodes", "--nnodes", node_count),
    "constraint": Flag("constraints", "--constraint", list),
    "workers_per_node": Flag("workers_per_node", "--workers-per-node", integer),
    "nproc_per_node": Flag("workers_per_node", "--nproc-per-node", worker_count),
    "backend": Flag("backend", "--backend"),
    "timeout": Flag("timeout", "--timeout"),
    "network": Flag("network", "--network"),
    "files": Flag("files", "--files", list),
    "no_files": Flag("files", "--no-files", lambda given: []),
    "volume": Flag("volumes", "--volume", list),
    "shm_size": Flag("shm_size", "--shm-size"),
    "cpus": Flag("resources.cpus", "--cpus", number),
    "memory": Flag("resources.memory", "--memory"),
    "gpus": Flag("resources.gpus", "--gpus", integer),
    "gpu_kind": Flag("resources.gpu_kind", "--gpu-kind"),
    "restart": Flag("restart", "--restart"),
    "max_restarts": Flag("restart.max", "--max-restarts", integer),
    "restart_window": Flag("restart.window", "--restart-window"),
    "node_timeout": Flag("restart.node_timeout", "--node-timeout"),
    "hang_timeout": Flag("restart.hang_timeout", "--hang-timeout"),
    "stop_grace": Flag("stop_grace", "--stop-grace"),
    "shutdown_timeout": Flag("stop_grace", "--shutdown-timeout"),
    "start": Flag("start", "--start"),
    "join_deadline": Flag("join_deadline", "--join-deadline"),
    "rdzv_conf": Flag("join_deadline", "--rdzv-conf", join_seconds),
    "linger": Flag("linger", "--linger"),
    "debug": Flag("debug", "--debug"),
    "coordinator": Flag("coordinator", "--coordinator"),
    "memlock": Flag("memlock", "--memlock"),
    "python": Flag("python", "--python"),
}


def overrides_from_flags(**flags: Any) -> dict[str, Override]:
    """The keys that the flags set: ``nodes``, or ``resources.gpus`` and ``env.SEED`` for a part of a key.

    Args:
        flags: any of `FLAGS` by name, ``j`` (text), ``env`` (texts ``K=V``, or ``K`` to take it from here) and
            ``settings`` (texts ``KEY=VALUE``, where the value is read as in a job file; the last word on a key).
            None, and an empty list, mean that the flag was not given.
    """
    given = {
        name: value for name, value in flags.items() if value is not None and value != () and value != []
    }
    settings = _read_settings(given.pop("settings", ()))
    overrides = _variables(given.pop("env", ()))
    for key, override in _from_flags(given):
        if key in overrides:
            first = overrides[key]
            mistake = first.mistake or f"cannot be combined with {override.flag}: both set {key}"
            override = first._replace(mistake=mistake)
        overrides[key] = override
    return overrides | settings


def without(before: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """What becomes of flags of an earlier command line where others set the same keys now, by their names.

    Args:
        before: the earlier ones; None, or empty, if not given.
        given: the names of those that are given now.
    """
    keys = {FLAGS[name].key for name in given if name in FLAGS}
    keys |= {"nodes", "workers_per_node"} if "j" in given else set()
    gone = {name: None for name, flag in FLAGS.items() if flag.key in keys and name in before}
    if (text := before.get("j")) and keys & {"nodes", "workers_per_node"}:
        nodes, _, workers = text.partition("x")
        gone |= {"j": None}
        if "nodes" not in keys:
            gone |= {"nodes": nodes.replace(":", "..")}
        if "workers_per_node" not in keys:
            gone |= {"nproc_per_node": workers or None}
    return gone


def _from_flags(given: dict[str, Any]) -> Iterable[tuple[str, Override]]:
    if (text := given.pop("j", None)) is not None:
        try:
            nodes, workers = shape(text)
        except ValueError as error:
            yield "nodes", Override(None, "-j", str(error))
        else:
            yield "nodes", Override(nodes, "-j")
            if workers is not None:
                yield "workers_per_node", Override(workers, "-j")
    for name, value in given.items():
        flag = FLAGS[name]
        try:
            parsed = flag.parse(value)
        except ValueError as error:
            yield flag.key, Override(None, flag.spelling, str(error))
        else:
            if parsed is not None:
                yield flag.key, Override(parsed, flag.spelling)


def _variables(texts: Iterable[str]) -> dict[str, Override]:
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        overrides[f"env.{name}"] = Override(value if equals else None, f"-e {name}")
    return overrides


def _read_settings(texts: Iterable[str]) -> dict[str, Override]:
    overrides = {}
    for text in texts:
        key, equals, value = text.partition("=")
        flag = f"--set {key}"
        try:
            overrides[key] = Override(document.parse_value(key.partition(".")[0], value), flag)
        except ValueError as error:
            overrides[key] = Override(None, flag, str(error))
        if not equals or not key:
            overrides[key] = Override(None, f"--set {text}", "is not KEY=VALUE")
    return overrides
