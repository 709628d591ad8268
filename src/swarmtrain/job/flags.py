"""From the command line's flags to overrides of the job's keys. Pure: values only, no command-line library.

The command line calls `overrides_from_flags` with what it parsed, whatever spelling the user chose: ours
(``--nodes a,b``), torchrun's (``--nnodes 2:4 --nproc-per-node 2``) or TorchX's (``-j 3x1``). Torchrun's flags that
have no key here are in `ui.torchrun`. What is wrong with a flag travels as an override with a mistake, so that
`job.load` can report it together with everything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from swarmtrain.job import document
from swarmtrain.job.keys import shape
from swarmtrain.job.spec import KEYS


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


# By the names that the command line gives its parameters.
FLAGS = {flag.name: flag for each in KEYS.values() for flag in each.key.flags or () if flag.key != "env"}


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
            parsed = flag.parse(value) if flag.parse else value
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
            overrides[key] = Override(document.parse_value(value, as_written=_is_text(key)), flag)
        except ValueError as error:
            overrides[key] = Override(None, flag, str(error))
        if not equals or not key:
            overrides[key] = Override(None, f"--set {text}", "is not KEY=VALUE")
    return overrides


def _is_text(key: str) -> bool:
    """Whether numbers and booleans in a key, or in the one that it is a part of, are text."""
    known = KEYS.get(key.partition(".")[0])
    return known is not None and known.takes.as_written
