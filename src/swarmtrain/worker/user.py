"""Runs the user's script or module as ``python script.py`` or ``python -m module`` would.

Shared by warm workers, which are forks of a process that has done other things before, and cold ones, where only
our own entrance has run. What must come out the same is what user code can see: ``__main__``, ``sys.argv``,
``sys.path``, the working directory, tracebacks that begin with the user's first frame, and the exit status.
"""

# These strings follow Python's own rules, which pathlib's normal forms would break:
# ruff: noqa: PTH109, PTH118

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import io
import os
import runpy
import sys
from dataclasses import dataclass
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from swarmtrain.protocol.spawner import Program
from swarmtrain.wire.pulse import opened
from swarmtrain.worker import copy_on_write, ending, error_file, processes
from swarmtrain.worker.instruments import stacks, torch_setup
from swarmtrain.worker.warm import module_path
from swarmtrain.worker.warm.shelf import Shelf
from swarmtrain.worker.warm.trial import HEARD_IN, Trial

_HEARD_IN = (HEARD_IN, copy_on_write.HEARD_IN)


@dataclass(frozen=True)
class _Main:
    """What ``__main__`` is to be."""

    code: CodeType
    attributes: dict[str, object]


class _NotAModule(Exception):
    """``python -m`` finds nothing to run under this name.

    Outside of the tree: it never leaves this module.
    """


class _CannotStart(Exception):
    """Python itself would print this and exit with this status, without a traceback.

    Outside of the tree: it never leaves this module.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def run_user(program: Program, trial: Trial | None = None) -> int:
    """Run a script or a module in this process; the caller should then let the interpreter exit.

    Args:
        trial: of a warm worker.

    Returns:
        the exit status. SystemExit is passed on, and KeyboardInterrupt too once its traceback is printed: the
        interpreter knows best what to do with them.
    """
    os.chdir(program.cwd)
    _forget_the_launcher(program)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # people watch; into a file, Python would wait for 8 KiB
    try:
        stacks.answer()
        torch_setup.set_up()
        if trial is None:
            Shelf().hide()
        else:
            trial.begin()
        copy_on_write.protect(program.cwd)
        main = _load_script(program) if program.kind == "script" else _load_module(program)
        module = ModuleType("__main__")
        vars(module).update(main.attributes)
        sys.modules["__main__"] = module
        if trial is not None:
            trial.of(main.code)
        exec(main.code, vars(module))
        _unname(program)
    except SystemExit as request:
        if trial is not None:
            trial.end()
        if request.code is not None and not isinstance(request.code, int):
            error_file.record_words(request.code)
        raise
    except _CannotStart as refusal:
        print(f"{sys.executable}: {refusal.message}", file=sys.stderr)
        return refusal.status
    except BaseException as error:
        failure = error
    else:
        return 0
    finally:
        if trial is not None:
            trial.end()
        flush()
    try:
        # outside of the except clause, where sys.excepthook would find itself handling it
        return _fail(failure)
    finally:
        _unname(program)


def _unname(program: Program) -> None:
    """A script's module is no longer named by a file once its code has run: atexit handlers see that."""
    if program.kind == "script":
        for name in ("__file__", "__cached__"):
            vars(sys.modules["__main__"]).pop(name, None)


def run_and_end(program: Program, trial: Trial | None = None) -> NoReturn:
    """:func:`run_user`, and then the end of this process: by the interpreter, or with torch by ending.py."""
    worker, interrupted = os.getpid(), False
    try:
        status = run_user(program, trial)
        _tell_the_end(status, worker)
    except (SystemExit, KeyboardInterrupt) as request:
        status, interrupted = ending.status(request), isinstance(request, KeyboardInterrupt)
        _tell_the_end(status, worker)
        if not ending.is_needed():
            raise
        ending.say(request)
    if ending.is_needed():
        ending.end(status, interrupted=interrupted)
    sys.exit(status)


def _tell_the_end(status: int, worker: int) -> None:
    """Whatever becomes of the process now, the script has done its work. A fork of its own may come here, too."""
    if status & 0xFF == 0 and os.getpid() == worker and (pulse := opened()) is not None:
        pulse.ended = 1


def _forget_the_launcher(program: Program) -> None:
    """Make the interpreter's own state what it would be had it been started with the user's program."""
    flag = ["-m"] if program.kind == "module" else []
    sys.orig_argv[:] = [sys.executable, *flag, program.target, *program.args]
    processes.show(sys.orig_argv)
    sys.argv[:] = [*(flag or [program.target]), *program.args]
    sys.path[:] = module_path.of_program(program)
    importlib.invalidate_caches()  # the code may have been unpacked after this process first looked
    if multiprocessing := sys.modules.get("multiprocessing.process"):
        # Spawned children go to this directory before they import the script again.
        multiprocessing.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]


def _load_script(program: Program) -> _Main:
    path = os.path.join(os.getcwd(), program.target)  # not normalised: Python leaves it so
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise _CannotStart(f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}", 2) from None
    return _Main(
        compile(source, path, "exec", dont_inherit=True),
        {
            "__package__": None,
            "__loader__": importlib.machinery.SourceFileLoader("__main__", path),
            "__spec__": None,
            "__annotations__": {},
            "__builtins__": builtins,
            "__file__": path,
            "__cached__": None,
        },
    )


def _load_module(program: Program) -> _Main:
    try:
        # Private, but what ``python -m`` itself calls, with the same signature since Python 3.4.
        _, spec, code = runpy._get_module_details(program.target, error=_NotAModule)  # type: ignore[attr-defined]
    except _NotAModule as error:
        raise _CannotStart(str(error), 1) from None
    sys.argv[0] = spec.origin
    return _Main(
        code,
        {
            "__package__": spec.parent,
            "__loader__": spec.loader,
            "__spec__": spec,
            "__annotations__": {},
            "__builtins__": builtins,
            "__file__": spec.origin,
            "__cached__": spec.cached,
        },
    )


def flush() -> None:
    """Write out what was printed, as Python does when the code of a script has ended."""
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except Exception:
            pass  # None, or closed, or a full disk, of which the interpreter complains at its exit


def _fail(error: BaseException) -> int:
    """Report an exception that nobody caught, as the interpreter does at the end of a program."""
    frames = _from_the_user(error.__traceback__)
    error.__traceback__ = frames
    interrupted = isinstance(error, KeyboardInterrupt)
    if not interrupted:
        error_file.record(error, frames)
    _print_as_python(error, frames)
    if interrupted:
        # The interpreter is to die of SIGINT at its very end, so it must see the exception, but not print it again.
        sys.excepthook = lambda *_: None
        raise error
    return 1


def _from_the_user(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without our frames: those that lead to the user's first, and those of functions that are heard."""
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        if name not in (__file__, runpy.__file__, "<frozen runpy>") and not name.startswith(
            "<frozen importlib"
        ):
            break
        frames = frames.tb_next
    each = frames
    while each is not None:
        while each.tb_next is not None and each.tb_next.tb_frame.f_code.co_filename in _HEARD_IN:
            each.tb_next = each.tb_next.tb_next
        each = each.tb_next
    return frames


def _print_as_python(error: BaseException, frames: TracebackType | None) -> None:
    """By ``sys.excepthook``, which the user may have replaced."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, frames
    if sys.version_info >= (3, 12):
        sys.last_exc = error  # novm: behind a look at the version
    try:
        sys.excepthook(type(error), error, frames)
    except SystemExit:
        raise
    except BaseException as problem:
        print("Error in sys.excepthook:", file=sys.stderr)
        if problem.__traceback__ is not None:
            problem.__traceback__ = problem.__traceback__.tb_next  # less our frame
        sys.__excepthook__(type(problem), problem, problem.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, frames)
