"""Which files and directories are models and checkpoints, by their names. Pure; `payload.code` asks.

Training makes them, so they are sent only where a person names them. A directory that is itself a checkpoint is sent
whole or not at all: a loader that finds half of one (a ``config.json`` without weights, ``.metadata`` without shards, a
``latest`` that names what is not there) fails, or takes it for whole.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from swarmtrain.payload.patterns import with_parents

_SUFFIXES = (
    *(".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".distcp"),
    *(".onnx", ".gguf", ".tflite", ".keras"),
)
_FILE = re.compile(
    r".+\.(?:safetensors|bin)\.index\.json|(?:pytorch_model|adapter_model)[^/]*\.bin|(?:optimizer|scheduler)\.bin|"
    r".+\.onnx[._]data|flax_model[^/]*\.msgpack|tf_model[^/]*\.h5"
)
# What stands beside weights in a directory of one model: transformers, peft, diffusers, torch.distributed.checkpoint.
_DESCRIPTIONS = frozenset(
    ["config.json", "adapter_config.json", "model_index.json", "trainer_state.json", ".metadata"]
)
# What a run writes beside its weights, wherever they are: its arguments, what it has measured, how it went. Without the
# weights it is half of a result, unless the directory is for something else, too.
_WRITTEN = re.compile(
    r".+\.(?:json|ya?ml|toml|ini|cfg|md|log)|events\.out\.tfevents\..+|"
    r"(?:args|hparams|params|options?|config|logs?|metrics|results|history|summary)\.(?:txt|csv|jsonl|pkl)",
    re.IGNORECASE,
)
# Curves, as a run draws them. They tell nothing by themselves: such a file may be an input.
_DRAWN = re.compile(r".+\.(?:png|jpe?g|svg|pdf)", re.IGNORECASE)
_WEIGHTS = "weights"  # as ultralytics calls the directory in that of a run
_OF_SEVERAL_THINGS = re.compile(
    r"(?:.*[-_])?(?:conf(?:ig)?s?|cfgs?|data|datasets?|assets|resources|tests?|fixtures)", re.IGNORECASE
)
# checkpoint-60, global_step10, epoch=3
_NUMBERED = re.compile(r".*(?:checkpoint|ckpt|step|epoch|iter).*\d", re.IGNORECASE)
# checkpoints/, ckpts/, my-checkpoints/: of several, and of what is written about them
_COLLECTION = re.compile(r"(?:.*[-_])?(?:checkpoint|ckpt)s?", re.IGNORECASE)
_POINTERS = frozenset(["latest", "latest_checkpointed_iteration.txt"])  # DeepSpeed, Megatron
_WITH_CHECKPOINTS = frozenset(["zero_to_fp32.py"])  # code that DeepSpeed puts there


def is_model(path: str) -> bool:
    """Whether a file holds weights, or says in which files they are."""
    name = posixpath.basename(path)
    return name.endswith(_SUFFIXES) or _FILE.fullmatch(name) is not None


def checkpoints(files: Iterable[str]) -> frozenset[str]:
    """The directories that are each one checkpoint, with a slash at the end, and the files that point to one of them.

    A directory with code in it, or below it, is none: what it holds besides weights is the program's.

    Args:
        files: paths below the job's directory, which itself is never one.
    """
    held: dict[str, set[str]] = {}
    for path in files:
        directory, _, name = path.rpartition("/")
        held.setdefault(directory, set()).add(name)
    with_code = {parent for each, names in held.items() if _has_code(names) for parent in with_parents(each)}
    apart = {posixpath.dirname(each) for each, names in held.items() if _is_all_weights(each, names)}
    found = {
        each
        for each in held.keys() - with_code
        if each and _is_checkpoint(each, held[each], weights_below=each in apart)
    }
    beside = {posixpath.dirname(directory) for directory in found}
    pointers = {
        posixpath.join(directory, name)
        for directory in beside & held.keys()
        for name in held[directory] & _POINTERS
    }
    return frozenset({f"{directory}/" for directory in found} | pointers)


def is_collection(directory: str) -> bool:
    """Whether a directory is where checkpoints are put, by its name: a script expects it, also with nothing in it."""
    return _COLLECTION.fullmatch(posixpath.basename(directory.rstrip("/"))) is not None


def outermost(path: str, checkpoints: frozenset[str]) -> str:
    """The checkpoint that a path lies in, or is; the outermost, if one holds another; empty where there is none.

    Args:
        checkpoints: as `checkpoints` gives them.
    """
    inside = path if path in checkpoints else ""
    for parent in with_parents(path.rstrip("/")):
        if f"{parent}/" in checkpoints:
            inside = f"{parent}/"
    return inside


def _has_code(names: set[str]) -> bool:
    return any(name.endswith(".py") for name in names - _WITH_CHECKPOINTS)


def _is_all_weights(directory: str, names: set[str]) -> bool:
    return posixpath.basename(directory) == _WEIGHTS and all(map(is_model, names))


def _is_checkpoint(directory: str, names: set[str], *, weights_below: bool) -> bool:
    others = {name for name in names if not is_model(name)}
    if len(others) == len(names) and not weights_below:
        return False
    written = {name for name in others if not _DRAWN.fullmatch(name)}
    name = posixpath.basename(directory)
    return bool(
        names & _DESCRIPTIONS
        or any(each.endswith((".index.json", ".distcp")) for each in names)
        or name.endswith(_SUFFIXES)
        or _NUMBERED.fullmatch(name)
        or is_collection(name)
        or (written and all(map(_WRITTEN.fullmatch, written)) and not _OF_SEVERAL_THINGS.fullmatch(name))
    )
