"""A warm worker is on trial until its program imports torch, so that it cannot be told from a fresh interpreter.

A fork of the warm parent has torch as it was imported there: under the parent's variables, from the parent's path. A
program may set OMP_NUM_THREADS, TORCH_LOGS and the like, or put directories first on ``sys.path``, before it imports
torch. So the import is compared with what it was in the parent: with the variables that were read then, by Python code
as recorded and by libraries by their prefixes, and with where each module is found now. Where something differs, the
process executes Python anew, with the program from its beginning.

That is invisible only as long as nothing that others could see has been done. So whatever the program does before it
imports torch that leaves the process (it writes, to its output or to a file; it connects; it starts a process) ends
the trial, too, just before it is done. A guess from the source could be wrong in both ways; this costs a cold start at
worst, and the reason is in the journal. Output is not kept back until the import either, to be let go or taken back
then: a program may work for minutes before it, and what it prints is to be seen at once, also where it never gets
there. What is seen of a program are the audit events of Python (PEP 578), the writes to its standard streams, and
those functions of ``os`` of whose effects Python says nothing. What none of these shows, such as output of the C
library, is taken back.

What the program sets after it has imported torch still counts for parts of torch that it imports later (the compiler).
By then it is too late to start anew, so a program that names such a variable is started cold as it imports torch.
"""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

from swarmtrain.worker.warm import shelf
from swarmtrain.worker.warm.recorder import ImportRecord

# Variables that numeric libraries and the C++ side of torch read once, as they are loaded.
READ_BY_LIBRARIES = (
    *("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "DNNL_", "ONEDNN_"),
    *("TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "PYTORCH_", "ATEN_", "C10_"),
)
_LOADED_WITH = ("torch", "numpy")  # modules with which these libraries come
HEARD_IN = __file__  # its frames are none of the program's

# Events before something happens that can be seen from outside, and how to say so.
_EFFECTS = {
    "os.": "changes files or processes",
    "shutil.": "changes files",
    "tempfile.": "makes temporary files",
    "socket.connect": "opens a connection",
    "socket.bind": "opens a socket",
    "socket.sendto": "sends to a socket",
    "socket.sendmsg": "sends to a socket",
    "subprocess.Popen": "starts a process",
    "pty.spawn": "starts a process",
    "fcntl.flock": "locks a file",
    "fcntl.lockf": "locks a file",
    "sqlite3.connect": "opens a database",
    "resource.": "sets limits",
    "signal.pthread_kill": "sends a signal",
    "socket.sethostname": "names the machine",
    "syslog.": "writes to the system's log",
}
_HARMLESS = (
    *("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.listxattr", "os.getxattr"),
    *("os.putenv", "os.unsetenv", "os.chdir", "os.fchdir", "os.add_dll_directory"),
)
# Functions of ``os`` with effects of which no event tells (CPython 3.10 to 3.13), beside those on open files.
_SILENT = {
    **dict.fromkeys(("mkfifo", "mknod"), "makes a file"),
    **dict.fromkeys(
        ("setuid", "seteuid", "setreuid", "setresuid", "setgroups", "initgroups"), "changes its user"
    ),
    **dict.fromkeys(("setgid", "setegid", "setregid", "setresgid"), "changes its group"),
    **dict.fromkeys(("setsid", "setpgid", "setpgrp", "tcsetpgrp", "login_tty"), "changes its session"),
    **dict.fromkeys(("chroot", "unshare", "setns"), "changes what it sees of the machine"),
    **dict.fromkeys(("sched_setparam", "sched_setscheduler", "setpriority"), "changes its priority"),
}
# Those that replace, close or write to the file whose number is in this place of their arguments.
_ON_FILES = {
    **dict.fromkeys(
        ("close", "closerange", "write", "writev", "pwrite", "pwritev", "sendfile", "posix_fallocate"), 0
    ),
    **dict.fromkeys(("dup2", "splice", "copy_file_range"), 1),
}
_UNHEARD = "multiprocessing.shared_memory"  # what it makes has a name and stays, and no event tells of it
_EARLY = ", and has not imported torch by then"  # it may never do so
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TrialNote:
    """A line from a worker to its spawner, through memory that both have: the program is to see no descriptor."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._spawner = os.getpid()

    def leave(self, text: str) -> None:
        """In the worker: say something, and wake the spawner."""
        data = text.encode(errors="replace")[:4000]
        self._memory[2 : 2 + len(data)] = data
        self._memory[0:2] = len(data).to_bytes(2, "little")
        os.kill(self._spawner, signal.SIGCHLD)

    def read(self) -> str | None:
        """In the spawner: what was said."""
        length = int.from_bytes(self._memory[0:2], "little")
        return self._memory[2 : 2 + length].decode(errors="replace") if length else None


class Trial:
    """One warm worker before its program has imported torch.

    Args:
        record: of the parent's imports.
        then: the variables as they were in the parent when it imported.
        command: executes the same program in a fresh interpreter.
        remark: tells the spawner why.
    """

    def __init__(
        self, record: ImportRecord, then: Mapping[str, str], command: list[str], remark: TrialNote | None
    ) -> None:
        self._record, self._then, self._command, self._remark = record, then, command, remark
        self._before = _State()
        self._code: CodeType | None = None
        self._shelf = shelf.Shelf(record.imports, self._compare)
        self._wrapped: list[tuple[ModuleType, str, Any, Any]] = []
        self.on = False

    def begin(self) -> None:
        """From here on the program runs."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            setattr(sys, name, _stream(getattr(sys, name), descriptor, self))
            setattr(sys, f"__{name}__", getattr(sys, name))
        sys.addaudithook(self._audit)
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            self._hear_of(util, "spawnv_passfds", "starts a process")
        for module in (os, sys.modules["posix"]):
            for name, words in _SILENT.items():
                self._hear_of(module, name, words)
            for name, place in _ON_FILES.items():
                self._hear_of(module, name, "changes its output", place)
        self._shelf.hide()
        self.on = True

    def of(self, code: CodeType) -> None:
        """The program's own code."""
        self._code = code

    def end(self) -> None:
        """The program has come to its end."""
        if self.on:
            self._settle()
            self._shelf.put_back()

    def writes(self, descriptor: int) -> None:
        """Something is about to be written to a standard stream."""
        if self.on:
            self._start_cold(f"it writes output{_EARLY}")

    def _settle(self) -> None:
        """It has stood the trial."""
        self.on = False
        for module, name, function, told in self._wrapped:
            if vars(module).get(name) is told:
                setattr(module, name, function)
        for known in _capabilities():
            known.difference_update([told for *_, told in self._wrapped])
        self._wrapped.clear()

    def _hear_of(self, module: ModuleType, name: str, words: str, place: int | None = None) -> None:
        """Hear of a function before it acts, of which Python itself says nothing.

        Args:
            place: of the argument that is a file's number: it matters for the standard streams alone.
        """
        function = vars(module).get(name)
        if function is None:
            return

        @functools.wraps(function)
        def told(*args: Any, **named: Any) -> Any:
            if self.on and (place is None or _is_standard(args[place : place + 1])):
                self._start_cold(f"it {words} ({name}){_EARLY}")
            return function(*args, **named)

        setattr(module, name, told)
        self._wrapped.append((module, name, function, told))
        for known in _capabilities():
            if function in known:
                known.add(told)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = args
            # An open file that is opened once more can be written to only if that was heard before.
            opened = isinstance(path, int) and not _is_standard([path])
            if isinstance(flags, int) and flags & _WRITING and not opened and not _is_harmless(path):
                self._start_cold(f"it opens {path!r} for writing{_EARLY}")
        elif event == "import":
            if args[0] == _UNHEARD:
                self._start_cold(f"it imports {_UNHEARD}{_EARLY}")
        elif event not in _HARMLESS and not (args and _is_harmless(args[0])):
            for prefix, words in _EFFECTS.items():
                if event.startswith(prefix):
                    self._start_cold(f"it {words} ({event}){_EARLY}")

    def _compare(self, names: set[str], replaced: set[str]) -> None:
        """Compare what is about to be handed out with what a fresh interpreter would import now."""
        if not any(each.partition(".")[0] in _LOADED_WITH for each in names):
            return
        why = self._difference(names, replaced)
        if why and self.on:
            self._start_cold(why)
        if why:
            os.write(2, f"swarmtrain: too late for a cold start: {why}\n".encode(errors="backslashreplace"))
        for name in names:
            os.environ.update(self._record.sets.get(name, {}))
        if "torch" in names:
            if self.on and (named := self._named(names)):
                self._start_cold(f"its code names {named}, which torch reads later")
            self._settle()

    def _difference(self, names: set[str], replaced: set[str]) -> str | None:
        if replaced:
            return f"what it has put first on sys.path has its own {', '.join(sorted(replaced))}"
        read = {variable for name in names for variable in self._record.reads.get(name, ())}
        libraries = READ_BY_LIBRARIES if not names.isdisjoint(_LOADED_WITH) else ()
        for variable in sorted(os.environ.keys() | self._then.keys()):
            counts = variable in read or variable.startswith(libraries)
            if counts and os.environ.get(variable) != self._then.get(variable):
                return f"it sets {variable}, which is read as {_package(names)} is imported"
        return None

    def _named(self, names: set[str]) -> str | None:
        later = {
            variable
            for name in self._record.reads.keys() - names
            if name in self._shelf
            for variable in self._record.reads[name]
            if variable.startswith(READ_BY_LIBRARIES)
        }
        return min((each for each in _constants(self._code) if each in later), default=None)

    def _start_cold(self, why: str) -> NoReturn:
        """Execute Python anew, in this process, which leaves nothing of the program's first lines."""
        self.on = False
        if self._remark is not None:
            self._remark.leave(why)
        for number in signal.valid_signals():
            if signal.getsignal(number) == signal.SIG_IGN:  # an execution resets all others
                with contextlib.suppress(ValueError):  # only the main thread may
                    signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
            if not _is_standard([descriptor]):
                with contextlib.suppress(OSError):  # that of the listing itself
                    os.set_inheritable(descriptor, False)
        self._before.restore()
        os.execve(self._command[0], self._command, self._before.environment)


class _State:
    """What of a process an execution keeps, as it is now."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self._directory = str(Path.cwd())
        self._mask = os.umask(0)
        os.umask(self._mask)
        self._processors = os.sched_getaffinity(0)
        self._priority = os.getpriority(os.PRIO_PROCESS, 0)
        self._output = os.fstat(1)

    def restore(self) -> None:
        """Have it so again. The output ends where it did: what was written unheard will be written once more."""
        os.umask(self._mask)
        os.chdir(self._directory)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        with contextlib.suppress(OSError):  # a processor has been taken away
            os.sched_setaffinity(0, self._processors)
        with contextlib.suppress(OSError):  # only root may lower what it was raised to
            os.setpriority(os.PRIO_PROCESS, 0, self._priority)
        with contextlib.suppress(OSError):  # it was closed
            now, before = os.fstat(1), self._output
            if stat.S_ISREG(now.st_mode) and os.path.samestat(now, before) and now.st_size > before.st_size:
                os.ftruncate(1, before.st_size)


def _is_harmless(path: object) -> bool:
    """What the import system writes for itself, and what nobody reads."""
    return isinstance(path, str) and ("__pycache__" in path or path == os.devnull)


def _is_standard(descriptors: Sequence[object]) -> bool:
    """Whether these are the numbers of standard streams; taken to be so if they are not told."""
    return all(isinstance(each, int) and each < 3 for each in descriptors)


def _capabilities() -> Iterator[set[Any]]:
    """What ``os`` says of its functions, by which programs ask whether one of them can do something."""
    for name in ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks"):
        yield vars(os)[name]


def _package(names: set[str]) -> str:
    return "torch" if "torch" in names else "numpy" if "numpy" in names else min(names, key=len)


def _constants(code: CodeType | None) -> Iterator[str]:
    for constant in code.co_consts if code else ():
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (each for each in constant if isinstance(each, str))
        elif isinstance(constant, CodeType):
            yield from _constants(constant)


class _Stream(io.FileIO):
    """The file under a standard stream."""

    trial: Trial

    def write(self, data: Any, /) -> Any:
        """As a file's, but the trial is told first."""
        self.trial.writes(self.fileno())
        return super().write(data)


def _stream(old: Any, descriptor: int, trial: Trial) -> Any:
    """A standard stream like the one there is."""
    if not isinstance(old, io.TextIOWrapper):
        return old
    raw = _Stream(descriptor, "w", closefd=False)
    raw.trial, raw.name = trial, old.name
    buffer: Any = io.BufferedWriter(raw) if isinstance(old.buffer, io.BufferedWriter) else raw
    stream = io.TextIOWrapper(
        buffer, old.encoding, old.errors, line_buffering=old.line_buffering, write_through=old.write_through
    )
    stream.mode = "w"  # type: ignore[misc]
    return stream
