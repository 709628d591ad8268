"""What lies in a job's directory: files and directories, less what nobody ever means to send, with the reasons.

`payload.code` chooses among what `read` finds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swarmtrain.errors import RequestError
from swarmtrain.payload import credentials
from swarmtrain.payload.patterns import with_parents

MAX_FILES = 20_000
MAX_DEPTH = 100  # of directories: each is a call of a function that calls itself
PLAN_MARKER = ".swarmtrain-plan"  # a directory with this file was written by `plan -o`
RUNS_MARKER = ".swarmtrain-runs"  # and one with this holds the runs of this machine

_NEVER_DIRECTORIES = frozenset(
    [
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules"),
        *("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    ]
)
_DIRECTORY_MARKERS = ("pyvenv.cfg", PLAN_MARKER, RUNS_MARKER)
_NEVER_SUFFIXES = (".pyc", ".pyo")


class Reason(NamedTuple):
    """Why something is left out.

    Args:
        text: goes on from the names.
        told: it is said before every run, not only in a dry run: somebody may have meant to send it.
    """

    text: str
    told: bool = True


KEYS = Reason(
    "such files usually hold keys, which others could read where the run is; pass variables under env:, "
    "or name the file itself under files:"
)
MODELS = Reason(
    "model files and checkpoints are usually what training makes, so they are sent only when files: names them"
)
OUTSIDE = Reason("a link that leads out of the job's directory; it is followed where files: names it")
CIRCLE = Reason("a link that leads around in a circle")
NOWHERE = Reason("a link that leads nowhere")
IGNORED = Reason(".dockerignore names it", told=False)
CACHES = Reason("version control, environments, caches and runs are never sent", told=False)
DEEP = Reason(f"it lies deeper than {MAX_DEPTH} directories, as no code does")
SPECIAL = Reason("neither a file nor a directory", told=False)


class LeftOut(NamedTuple):
    """A file, or a directory (with a slash at its end) with all below it."""

    name: str
    reason: Reason
    size: int = 0  # bytes; 0 where nobody looked


class Entry(NamedTuple):
    """What is found.

    Args:
        name: relative, with slashes; a directory's ends in one.
        path: where it is read.
        real: the name of what it leads to below the root; the same where no link is on the way.
    """

    name: str
    path: Path
    size: int = 0
    real: str = ""

    @property
    def is_directory(self) -> bool:
        """Whether it is one; what lies in it are entries of their own."""
        return self.name.endswith("/")


def read(root: Path, named: frozenset[str]) -> tuple[list[Entry], list[LeftOut]]:
    """Everything below ``root``, by name.

    Args:
        named: paths that a person has written out: links that lead elsewhere are followed there, and nowhere else.

    Raises:
        RequestError: it cannot be read, or holds too much.
    """
    walk = _Walk(root, named)
    return list(walk.below(root, "", (root.resolve(),))), walk.left_out


class _Walk:
    def __init__(self, root: Path, named: frozenset[str]) -> None:
        self.root, self.named = root, named
        self.left_out: list[LeftOut] = []
        self._real_root = root.resolve()
        self._towards = {part for name in named for part in with_parents(name)}
        self._count = 0

    def below(self, directory: Path, prefix: str, ancestors: tuple[Path, ...]) -> Iterator[Entry]:
        """What is in a directory, which all of ``ancestors`` lead to; the last of these is the directory itself."""
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            if prefix and isinstance(error, FileNotFoundError):
                return  # it went at this moment, as temporary directories do
            raise RequestError(
                f"cannot read {directory}: {error.strerror}", "name the files that are needed under files:"
            ) from error
        if prefix and any(entry.name in _DIRECTORY_MARKERS for entry in entries):
            self._leave(prefix, CACHES)
            return
        if prefix:
            yield self._counted(Entry(prefix, directory))
        is_outside = not ancestors[-1].is_relative_to(self._real_root)
        # Most files are no links: of these it is known, without asking for each, what they lead to.
        within = "" if is_outside else f"{ancestors[-1].relative_to(self._real_root).as_posix()}/"
        within = within.removeprefix("./")
        for entry in entries:
            name, path = prefix + entry.name, Path(entry.path)
            if is_outside and not self._is_named(name):
                continue
            try:
                status = entry.stat()
            except OSError:
                if entry.is_symlink():
                    self._leave(name, NOWHERE)
                continue
            real = path.resolve() if entry.is_symlink() else None
            slash = "/" if stat.S_ISDIR(status.st_mode) else ""
            if reason := self._reason(entry, name, real, status, ancestors):
                self._leave(name + slash, reason, 0 if slash else status.st_size)
            elif slash:
                yield from self.below(path, name + "/", (*ancestors, real or ancestors[-1] / entry.name))
            else:
                leads = name
                if real is None and not is_outside:
                    leads = within + entry.name
                elif real is not None and real.is_relative_to(self._real_root):
                    leads = real.relative_to(self._real_root).as_posix()
                yield self._counted(Entry(name, path, status.st_size, leads))

    def _reason(
        self,
        entry: os.DirEntry[str],
        name: str,
        real: Path | None,
        status: os.stat_result,
        ancestors: tuple[Path, ...],
    ) -> Reason | None:
        """Why an entry is left out, by what it is and, of a link, where it really leads."""
        is_directory = stat.S_ISDIR(status.st_mode)
        if (is_directory and entry.name in _NEVER_DIRECTORIES) or entry.name.endswith(_NEVER_SUFFIXES):
            return CACHES
        if real is not None:
            if is_directory and real in ancestors:
                return CIRCLE
            if not real.is_relative_to(self._real_root) and not self._is_named(name):
                return OUTSIDE
        if is_directory and len(ancestors) > MAX_DEPTH:
            return DEEP
        if is_directory:
            return KEYS if credentials.is_key_directory(name) and name not in self._towards else None
        return None if stat.S_ISREG(status.st_mode) else SPECIAL

    def _is_named(self, name: str) -> bool:
        """Whether a person wrote it out, or a directory that it lies in, or something in it."""
        return name in self._towards or any(part in self.named for part in with_parents(name))

    def _leave(self, name: str, reason: Reason, size: int = 0) -> None:
        self.left_out.append(LeftOut(name, reason, size))

    def _counted(self, entry: Entry) -> Entry:
        self._count += 1
        if self._count > MAX_FILES:
            raise RequestError(
                f"{self.root} holds more than {MAX_FILES} files, too many to be a job's code",
                "put the job in a directory of its own, or name what it needs under files:",
            )
        return entry
