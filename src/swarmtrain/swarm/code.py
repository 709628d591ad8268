"""The user's code: which files of the job's directory are sent to the nodes, as one zip, split over several configs.

`of` is what launchers call. What is left out, and why, comes back as notices to print.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob
from swarmtrain.job.problems import did_you_mean
from swarmtrain.job.units import say_size
from swarmtrain.swarm import zips
from swarmtrain.swarm.patterns import Pattern, compile_pattern, ignored, read_ignore_file

PART_BYTES = 480 * 1024  # of one config; old engines take 500 KB
MAX_BYTES = 5_000_000  # of the whole archive: every node receives it through the managers' log
MAX_RAW_BYTES = 200_000_000  # beyond this, nobody waits for the compression
MAX_FILES = 20_000

PLAN_MARKER = ".swarmtrain-plan"  # a directory with this file was written by `plan -o`
_NEVER_DIRECTORIES = frozenset(
    [
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules"),
        *("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    ]
)
_DIRECTORY_MARKERS = ("pyvenv.cfg", PLAN_MARKER)
_NEVER_SUFFIXES = (".pyc", ".pyo")
_MODEL_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_KEY_FILES = (".env",)


class Code(NamedTuple):
    """What is sent."""

    archive: bytes = b""  # a zip; empty when nothing is sent
    names: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def parts(self) -> list[bytes]:
        """The archive in pieces that fit into configs."""
        return [self.archive[start : start + PART_BYTES] for start in range(0, len(self.archive), PART_BYTES)]


class _File(NamedTuple):
    name: str
    path: Path
    size: int


def of(job: LoadedJob, limit: int | None = MAX_BYTES) -> Code:
    """The code of a job.

    Args:
        limit: the most bytes that the archive may have; None where it does not travel through configs.

    Raises:
        RequestError: too large, the script is not among the files, a pattern matches nothing, a file is unreadable.
    """
    if job.job.files == ():
        return Code()
    code = collect(job.directory, job.job.files, limit)
    if job.job.script is not None and job.job.script not in code.names:
        raise _no_script(job, code)
    return code


def collect(directory: Path, files: Literal["auto"] | Sequence[str], limit: int | None = MAX_BYTES) -> Code:
    """The files of a directory: all that are no one's cache, key or weights, or those that patterns name."""
    if not directory.is_dir():
        raise RequestError(f"there is no directory {directory}")
    walk = _Walk(directory)
    found = list(walk.files())
    if files == "auto":
        chosen, notices = _automatic(found, _ignore_patterns(directory))
    else:
        chosen, notices = _named(found, files, directory), []
    raw = sum(file.size for file in chosen)
    if limit is not None and raw > MAX_RAW_BYTES:
        raise _too_large(raw, "", [(file.size, file.name) for file in chosen])
    archive = zips.pack(_member(file) for file in chosen)
    if limit is not None and len(archive) > limit:
        sizes = [(size, name) for name, size in zips.compressed_sizes(archive).items()]
        raise _too_large(len(archive), " compressed", sizes)
    return Code(archive, tuple(sorted(file.name for file in chosen)), tuple(notices + walk.notices))


class _Walk:
    """A walk over a tree, that leaves out what nobody ever means to send."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notices: list[str] = []
        self._real_root = root.resolve()
        self._count = 0

    def files(self) -> Iterator[_File]:
        yield from self._below(self.root, "", (self._real_root,))

    def _below(self, directory: Path, prefix: str, ancestors: tuple[Path, ...]) -> Iterator[_File]:
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            raise RequestError(
                f"cannot read {directory}: {error.strerror}", "name the files that are needed under files:"
            ) from error
        if prefix and any(entry.name in _DIRECTORY_MARKERS for entry in entries):
            return
        for entry in entries:
            name = prefix + entry.name
            try:
                status = entry.stat()
            except OSError:
                self.notices.append(f"left out of the code: {name}, a link that leads nowhere")
                continue
            if stat.S_ISDIR(status.st_mode):
                if entry.name in _NEVER_DIRECTORIES or not (inner := self._enter(entry, name, ancestors)):
                    continue
                yield from self._below(Path(entry.path), name + "/", inner)
            elif stat.S_ISREG(status.st_mode) and not entry.name.endswith(_NEVER_SUFFIXES):
                self._count += 1
                if self._count > MAX_FILES:
                    raise RequestError(
                        f"{self.root} holds more than {MAX_FILES} files, too many to be a job's code",
                        "put the job in a directory of its own, or name what it needs under files:",
                    )
                yield _File(name, Path(entry.path), status.st_size)

    def _enter(
        self, entry: os.DirEntry[str], name: str, ancestors: tuple[Path, ...]
    ) -> tuple[Path, ...] | None:
        """The directories that we are in when we go into this one; None where we do not."""
        real = Path(entry.path).resolve()
        if entry.is_symlink() and (real in ancestors or not real.is_relative_to(self._real_root)):
            why = "around in a circle" if real in ancestors else "out of the job's directory"
            self.notices.append(f"left out of the code: {name}, a link that leads {why}")
            return None
        return (*ancestors, real)


def _ignore_patterns(directory: Path) -> list[Pattern]:
    path = directory / ".dockerignore"
    try:
        return read_ignore_file(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {path}: {error}") from error


def _automatic(found: list[_File], patterns: list[Pattern]) -> tuple[list[_File], list[str]]:
    kept = [file for file in found if not ignored(file.name, patterns)]
    models = [file for file in kept if file.name.endswith(_MODEL_SUFFIXES)]
    keys = [file for file in kept if file.path.name in _KEY_FILES]
    notices = []
    if models:
        notices.append(
            f"left out of the code: {_listed(models)}; model files are usually what training makes, "
            "so they are sent only when files: names them"
        )
    if keys:
        notices.append(
            f"left out of the code: {_listed(keys)}; such files usually hold keys, which anyone on the cluster "
            "could read; pass variables under env:, or name the file under files:"
        )
    left_out = {*models, *keys}
    return [file for file in kept if file not in left_out], notices


def _listed(files: list[_File]) -> str:
    names = ", ".join(file.name for file in files[:3])
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{names}{more} ({say_size(sum(file.size for file in files))})"


def _named(found: list[_File], patterns: Sequence[str], directory: Path) -> list[_File]:
    chosen: dict[str, _File] = {}
    for text in patterns:
        try:
            pattern = compile_pattern(text)
        except ValueError as error:
            raise RequestError(f"files: {error}") from None
        matching = [file for file in found if pattern.matches(file.name)]
        if pattern.exception:
            for file in matching:
                chosen.pop(file.name, None)
        elif matching:
            chosen.update((file.name, file) for file in matching)
        else:
            near = did_you_mean(text, [file.name for file in found])
            raise RequestError(f"files: {text} matches no file in {directory}{near}")
    return list(chosen.values())


def _member(file: _File) -> zips.Member:
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
    return zips.Member(file.name, data, executable)


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
