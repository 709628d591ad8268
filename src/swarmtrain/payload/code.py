"""The user's code: which files of the job's directory are sent to the nodes, as one zip, split over several configs.

`of` is what launchers call. What is left out, and why, comes back with it: to be printed before a run, and listed by a
dry run. What lies there is read by `payload.tree`; what may hold keys is known to `payload.credentials`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob
from swarmtrain.job.alerting.keys import Alerting
from swarmtrain.job.problems import did_you_mean
from swarmtrain.payload import credentials, models, packing, tree
from swarmtrain.payload.patterns import (
    Pattern,
    compile_pattern,
    ignored,
    is_plain,
    read_ignore_file,
)
from swarmtrain.payload.tree import Entry, LeftOut
from swarmtrain.wire.plural import say_size

PART_BYTES = 480 * 1024  # of one config; old engines take 500 KB
MAX_BYTES = 5_000_000  # of the whole archive: every node receives it through the managers' log
_NAMES_TOLD = 3  # of what is left out for one reason
_ARGUMENTS = (
    "{} looks like a key among the arguments, which others can read where the run is; pass it under env:"
)
_IN_PLACE = "used where it lies, not copied: {}; {}"
_COPIED_FIRST = (
    "before Python opens such a file for writing, its node gets a copy; "
    "what libraries write past Python goes into the file itself"
)
_WRITTEN_TO = "what the command writes to such a file goes into the file itself"
_TOKENS = "{} is sent, and looks as if there were a key in it, which others could read; pass keys under env:"


class Code(NamedTuple):
    """What is sent.

    Args:
        archive: a zip; empty when nothing is sent.
        files: their names, and sizes in bytes.
        directories: those that are empty, or have only what is left out; each ends in a slash.
        in_place: files that are used where they lie, with their sizes; the archive has links to them.
        warnings: what is sent, or used, all the same and should be looked at.
    """

    archive: bytes = b""
    files: tuple[tuple[str, int], ...] = ()
    directories: tuple[str, ...] = ()
    in_place: tuple[tuple[str, int], ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The files that are sent."""
        return tuple(name for name, _ in self.files)

    @property
    def notices(self) -> tuple[str, ...]:
        """What is said before a run."""
        return (*said((each for each in self.left_out if each.reason.told), _NAMES_TOLD), *self.warnings)

    def parts(self) -> list[bytes]:
        """The archive in pieces that fit into configs."""
        return [self.archive[start : start + PART_BYTES] for start in range(0, len(self.archive), PART_BYTES)]


def said(left_out: Iterable[LeftOut], most: int) -> list[str]:
    """What is left out, a sentence for each reason, with the names of at most so many."""
    order: dict[tree.Reason, list[LeftOut]] = {}
    for each in left_out:
        order.setdefault(each.reason, []).append(each)
    return [
        f"left out of the code: {_listed([(each.name, each.size) for each in group], most)}; {reason.text}"
        for reason, group in order.items()
    ]


def of(job: LoadedJob, limit: int | None = MAX_BYTES) -> Code:
    """The code of a job.

    Args:
        limit: the most bytes that the archive may have; None where all nodes are on this machine: then there is none,
            and what is large is used where it lies.

    Raises:
        RequestError: too large, the script is not among the files, a pattern matches nothing, a file is unreadable.
    """
    suspicious = credentials.suspicious_arguments((*(job.job.command or ()), *job.job.args))
    warnings = [_ARGUMENTS.format(", ".join(suspicious))] if suspicious else []
    if job.job.files == ():
        return Code(warnings=tuple(warnings))
    code = collect(job.directory, job.job.files, limit, job.job.script, address_files(job.job.alerts))
    if job.job.script is not None and job.job.script not in code.names:
        raise _no_script(job, code)
    if code.in_place:
        written = _WRITTEN_TO if job.job.command else _COPIED_FIRST
        warnings.append(_IN_PLACE.format(_listed(code.in_place, _NAMES_TOLD), written))
    return code._replace(warnings=(*code.warnings, *warnings))


def collect(
    directory: Path,
    files: Literal["auto"] | Sequence[str],
    limit: int | None = MAX_BYTES,
    script: str | None = None,
    secrets: Collection[str] = (),
) -> Code:
    """The files of a directory: all that are no one's cache, key or weights, or those that patterns name.

    Args:
        script: what is run, which is a file that a person has named.
        secrets: files that are not sent, whatever names them.
    """
    if not directory.is_dir():
        raise RequestError(f"there is no directory {directory}")
    patterns = [] if files == "auto" else _patterns(files)
    exact = {pattern.path for pattern in patterns if is_plain(pattern.text) and not pattern.exception}
    named = frozenset({script} if files == "auto" and script else exact)
    found, left_out = tree.read(directory, named)
    if files == "auto":
        chosen, without = _automatic(found, _ignore_patterns(directory), named)
        left_out = [*without, *left_out]
    else:
        left_out = [each for each in left_out if any(_matches(pattern, each) for pattern in patterns)]
        chosen = _named(found, left_out, patterns, directory)
    safe = []
    for entry in chosen:
        hides = not entry.is_directory and entry.name not in named
        is_key = hides and any(map(credentials.is_key_name, {entry.name, entry.real}))
        if is_key or entry.name in secrets:
            left_out.append(LeftOut(entry.name, tree.KEYS, entry.size))
        else:
            safe.append(entry)
    packed = packing.pack(safe, named, limit, script)
    warnings = (_TOKENS.format(", ".join(packed.tokens)),) if packed.tokens else ()
    return Code(
        packed.archive,
        packed.files,
        packed.directories,
        packed.in_place,
        (*left_out, *packed.left_out),
        warnings,
    )


def address_files(alerts: Alerting) -> list[str]:
    """The files below the job's directory that hold addresses of webhooks: the coordinator alone is given these."""
    return [os.path.normpath(each) for each in (*alerts.slack, *alerts.webhook) if "/" in each]


def _ignore_patterns(directory: Path) -> list[Pattern]:
    path = directory / ".dockerignore"
    try:
        return read_ignore_file(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {path}: {error}") from error


def _automatic(
    found: list[Entry], patterns: list[Pattern], named: frozenset[str]
) -> tuple[list[Entry], list[LeftOut]]:
    kept, left_out, checkpoint_bytes = [], [], dict[str, int]()
    checkpoints = models.checkpoints(entry.name for entry in found if not entry.is_directory)
    for entry in found:
        checkpoint = models.outermost(entry.name, checkpoints)
        if ignored(entry.name.rstrip("/"), patterns):
            left_out.append(LeftOut(entry.name, tree.IGNORED, entry.size))
        elif entry.name in named:
            kept.append(entry)
        elif checkpoint:
            checkpoint_bytes[checkpoint] = checkpoint_bytes.get(checkpoint, 0) + entry.size
            if entry.name == checkpoint and models.is_collection(checkpoint):
                kept.append(entry)
        elif not entry.is_directory and models.is_model(entry.name):
            left_out.append(LeftOut(entry.name, tree.MODELS, entry.size))
        else:
            kept.append(entry)
    left_out += [LeftOut(name, tree.MODELS, size) for name, size in checkpoint_bytes.items()]
    return kept, left_out


def _listed(group: Sequence[tuple[str, int]], most: int) -> str:
    """Names, at most so many, with the size of all."""
    names = ", ".join(name for name, _ in group[:most])
    more = f" and {len(group) - most} more" if len(group) > most else ""
    size = sum(size for _, size in group)
    return f"{names}{more}" + (f" ({say_size(size)})" if size else "")


def _patterns(texts: Iterable[str]) -> list[Pattern]:
    try:
        return [compile_pattern(text) for text in texts]
    except ValueError as error:
        raise RequestError(f"files: {error}") from None


def _matches(pattern: Pattern, what: Entry | LeftOut) -> bool:
    return pattern.matches(what.name.rstrip("/"))


def _named(
    found: list[Entry], left_out: list[LeftOut], patterns: Iterable[Pattern], directory: Path
) -> list[Entry]:
    chosen: dict[str, Entry] = {}
    for pattern in patterns:
        matching = [entry for entry in found if _matches(pattern, entry)]
        if pattern.exception:
            for entry in matching:
                chosen.pop(entry.name, None)
        elif matching:
            chosen.update((entry.name, entry) for entry in matching)
        elif not any(_matches(pattern, each) for each in left_out):
            near = did_you_mean(pattern.text, [entry.name for entry in found])
            raise RequestError(f"files: {pattern.text} matches no file in {directory}{near}")
    return list(chosen.values())


def _no_script(job: LoadedJob, code: Code) -> RequestError:
    script = job.job.script or ""
    if (job.directory / script).is_file():
        keys = "files:" if job.job.files != "auto" else ".dockerignore"
        return RequestError(
            f"{script} is not among the files that are sent", f"see {keys} in {job.directory}"
        )
    return RequestError(
        f"there is no {script} in {job.directory}{did_you_mean(script, code.names)}",
        "the script's path is relative to the job file's directory",
    )
