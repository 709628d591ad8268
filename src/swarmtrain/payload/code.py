"""The user's code: which files of the job's directory are sent to the nodes, as one zip, split over several configs.

`of` is what launchers call. What is left out, and why, comes back with it: to be printed before a run, and listed by a
dry run. What lies there is read by `payload.tree`; what may hold keys is known to `payload.keys`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob
from swarmtrain.job.problems import did_you_mean
from swarmtrain.job.units import say_size
from swarmtrain.payload import keys, tree, zips
from swarmtrain.payload.patterns import (
    Pattern,
    compile_pattern,
    ignored,
    is_plain,
    read_ignore_file,
    with_parents,
)
from swarmtrain.payload.tree import Entry, LeftOut

PART_BYTES = 480 * 1024  # of one config; old engines take 500 KB
MAX_BYTES = 5_000_000  # of the whole archive: every node receives it through the managers' log
MAX_RAW_BYTES = 200_000_000  # beyond this, nobody waits for the compression

_MODEL_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_NAMES_TOLD = 3  # of what is left out for one reason
_ARGUMENTS = (
    "{} looks like a key among the arguments, which others can read where the run is; pass it under env:"
)
_TOKENS = "{} is sent, and looks as if there were a key in it, which others could read; pass keys under env:"


class Code(NamedTuple):
    """What is sent.

    Args:
        archive: a zip; empty when nothing is sent.
        files: their names, and sizes in bytes.
        directories: those that are empty, or have only what is left out; each ends in a slash.
        warnings: what is sent all the same and should be looked at.
    """

    archive: bytes = b""
    files: tuple[tuple[str, int], ...] = ()
    directories: tuple[str, ...] = ()
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
    return [f"left out of the code: {_listed(group, most)}; {reason.text}" for reason, group in order.items()]


def of(job: LoadedJob, limit: int | None = MAX_BYTES) -> Code:
    """The code of a job.

    Args:
        limit: the most bytes that the archive may have; None where it does not travel through configs.

    Raises:
        RequestError: too large, the script is not among the files, a pattern matches nothing, a file is unreadable.
    """
    suspicious = keys.suspicious_arguments((*(job.job.command or ()), *job.job.args))
    warnings = (_ARGUMENTS.format(", ".join(suspicious)),) if suspicious else ()
    if job.job.files == ():
        return Code(warnings=warnings)
    code = collect(job.directory, job.job.files, limit, job.job.script)
    if job.job.script is not None and job.job.script not in code.names:
        raise _no_script(job, code)
    return code._replace(warnings=(*code.warnings, *warnings))


def collect(
    directory: Path,
    files: Literal["auto"] | Sequence[str],
    limit: int | None = MAX_BYTES,
    script: str | None = None,
) -> Code:
    """The files of a directory: all that are no one's cache, key or weights, or those that patterns name.

    Args:
        script: what is run, which is a file that a person has named.
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
        if hides and (keys.is_key_name(entry.name) or keys.is_key_name(entry.real)):
            left_out.append(LeftOut(entry.name, tree.KEYS, entry.size))
        else:
            safe.append(entry)
    return _packed(safe, named, left_out, limit)


def _packed(
    chosen: Sequence[Entry], named: frozenset[str], left_out: list[LeftOut], limit: int | None
) -> Code:
    """The archive; files whose content gives them away are left out of it, too."""
    raw = sum(entry.size for entry in chosen)
    if limit is not None and raw > MAX_RAW_BYTES:
        raise _too_large(raw, "", [(entry.size, entry.name) for entry in chosen])
    members: list[zips.ZipMember] = []
    tokens: list[str] = []
    for entry in chosen:
        if entry.is_directory:
            continue
        member = _member(entry)
        head = member.data[: keys.HEAD_BYTES]
        if (
            entry.name not in named
            and len(member.data) == len(head)
            and keys.is_key_content(entry.name, head)
        ):
            left_out.append(LeftOut(entry.name, tree.KEYS, entry.size))
            continue
        if keys.is_source(entry.name) and keys.holds_token(head):
            tokens.append(entry.name)
        members.append(member)
    directories = _empty(chosen, members)
    archive = zips.pack([*members, *(zips.ZipMember(name, b"") for name in directories)])
    if limit is not None and len(archive) > limit:
        sizes = [(size, name) for name, size in zips.compressed_sizes(archive).items()]
        raise _too_large(len(archive), " compressed", sizes)
    files = tuple((member.name, len(member.data)) for member in sorted(members))
    warnings = (_TOKENS.format(", ".join(sorted(tokens))),) if tokens else ()
    return Code(archive, files, directories, tuple(left_out), warnings)


def _empty(chosen: Sequence[Entry], members: Sequence[zips.ZipMember]) -> tuple[str, ...]:
    """The directories that no file brings along, and no directory in them: a script may expect them."""
    names = [*(member.name for member in members), *(entry.name for entry in chosen if entry.is_directory)]
    brought = {f"{parent}/" for name in names for parent in with_parents(posixpath.dirname(name.rstrip("/")))}
    return tuple(sorted(entry.name for entry in chosen if entry.is_directory and entry.name not in brought))


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
    kept, left_out = [], []
    for entry in found:
        if ignored(entry.name.rstrip("/"), patterns):
            left_out.append(LeftOut(entry.name, tree.IGNORED, entry.size))
        elif entry.name.endswith(_MODEL_SUFFIXES) and entry.name not in named:
            left_out.append(LeftOut(entry.name, tree.MODELS, entry.size))
        else:
            kept.append(entry)
    return kept, left_out


def _listed(group: Sequence[LeftOut], most: int) -> str:
    names = ", ".join(each.name for each in group[:most])
    more = f" and {len(group) - most} more" if len(group) > most else ""
    size = sum(each.size for each in group)
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


def _member(file: Entry) -> zips.ZipMember:
    try:
        file.name.encode()
        data = file.path.read_bytes()
        executable = bool(file.path.stat().st_mode & 0o111)
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{file.name!r} has a name that is not UTF-8", "rename it, or leave it out"
        ) from error
    except OSError as error:
        raise RequestError(
            f"cannot read {file.path}: {error.strerror}", "leave it out by .dockerignore or files:"
        ) from error
    return zips.ZipMember(file.name, data, executable)


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


def _too_large(size: int, how: str, sizes: list[tuple[int, str]]) -> RequestError:
    largest = sorted(sizes, reverse=True)[:5]
    listing = "".join(f"\n  {say_size(size):>9}  {name}" for size, name in largest)
    return RequestError(
        f"the code is too large to be sent: {say_size(size)}{how}, at most {say_size(MAX_BYTES)}; "
        f"the largest files are{listing}",
        "leave data out by .dockerignore, name what is needed under files:, put data on the nodes (volumes:), "
        "or build an image that holds the code (files: [])",
    )
