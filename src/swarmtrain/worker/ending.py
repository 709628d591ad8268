"""The end of a program that has imported torch: what CPython completes at its end, without taking torch apart.

A process group that is still held somewhere (by DDP, by a device mesh) has threads that drop tensors while Python
finalizes, and some exits end in SIGABRT or in a deadlock after all work was done (torch 2.13, gloo). So the steps of
``Py_FinalizeEx`` are made here, in its order, as far as a program can see them: threads joined, atexit handlers,
streams flushed, signals back to their defaults, garbage collected, the program's own modules let go of, so that what
they hold is finalized (a gzip file gets its trailer, a zip file its directory), files closed. Modules of the library
and of installed packages stay until the process goes. Daemon threads, which CPython freezes, are only not heard.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import swarmtrain

_FLUSH_FAILED = 120  # CPython's status when standard output could not be written out
_LAST = ("last_exc", "last_type", "last_value", "last_traceback")  # hold the frames of an exception


def is_needed() -> bool:
    """Whether this process is to end here, rather than by the interpreter."""
    return "torch.distributed" in sys.modules


def end(status: int, *, interrupted: bool) -> NoReturn:
    """End this process, with a status or as one that was interrupted from the keyboard."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException as error:
        _tell_ignored(error, threading)
    atexit._run_exitfuncs()  # tells of exceptions itself
    threading.excepthook = lambda _: None
    _tell_without_us()
    flushed = _flush_streams()
    _default_signals()
    gc.collect()
    _let_go_of_modules()
    flushed = _flush_streams() and flushed
    _close_files()
    ctypes.CDLL(None).fflush(None)  # what extensions have printed by the C library
    if interrupted:
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF if flushed else _FLUSH_FAILED)


def status(request: SystemExit | KeyboardInterrupt) -> int:
    """The exit status that the interpreter reads from what a program raises to end itself."""
    if isinstance(request, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return int(request.code) if -(2**63) <= request.code < 2**63 else -1
    return 1


def say(request: SystemExit | KeyboardInterrupt) -> None:
    """Print what ``sys.exit`` was given in place of a number."""
    if isinstance(request, SystemExit) and not (request.code is None or isinstance(request.code, int)):
        try:
            if sys.stderr is None:
                os.write(2, f"{request.code}\n".encode(errors="backslashreplace"))
            else:
                print(request.code, file=sys.stderr)
        except Exception:
            pass  # it cannot be said; the interpreter goes on, too


def _tell_ignored(error: BaseException, where: object, said: str | None = None) -> None:
    """Have Python say ``Exception ignored in: ...``. Its hook takes only what Python itself has made for it."""
    kinds: list[type] = []

    class Fails:
        def __del__(self) -> None:
            raise RuntimeError

    hook, sys.unraisablehook = sys.unraisablehook, lambda told: kinds.append(type(told))
    Fails()
    sys.unraisablehook = hook
    hook(kinds[0]((type(error), error, error.__traceback__, said, where)))


def _tell_without_us() -> None:
    """Where a finalizer's exception has no frame of its own, Python puts in that of its caller: here, one of ours."""
    hook = sys.unraisablehook

    def tell(told: Any) -> None:
        frames = told.exc_traceback
        if frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            told = type(told)((told.exc_type, told.exc_value, frames.tb_next, told.err_msg, told.object))
        hook(told)

    sys.unraisablehook = tell


def _flush_streams() -> bool:
    """Write out the standard streams and put Python's own back; whether standard output could be written."""
    flushed = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException as error:
            flushed = False
            if name == "stdout":
                problem = error.with_traceback(None)
                if sys.version_info >= (3, 13):
                    _tell_ignored(problem, None, "Exception ignored on flushing sys.stdout")
                else:
                    _tell_ignored(problem, stream)
    return flushed


def _default_signals() -> None:
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) and not isinstance(signal.getsignal(number), signal.Handlers):
            signal.signal(number, signal.SIG_DFL)


def _let_go_of_modules() -> None:
    """Drop the program's own modules; clear the namespaces of those that something still holds, the last ones first."""
    for name in _LAST:
        if hasattr(sys, name):
            delattr(sys, name)
    for name in ("stdin", "stdout", "stderr"):  # a program may have put an object of its own in their place
        setattr(sys, name, getattr(sys, f"__{name}__"))
    names = [name for name, module in list(sys.modules.items()) if _is_programs(name, module)]
    order = {id(vars(sys.modules[name])): position for position, name in enumerate(names)}
    for name in names:
        del sys.modules[name]
    gc.collect()
    held = [
        each for each in gc.get_objects() if id(each) in order and type(each) is dict and "__name__" in each
    ]
    for namespace in sorted(held, key=lambda each: -order[id(each)]):
        _clear(namespace)
    del held
    gc.collect()


def _is_programs(name: str, module: ModuleType) -> bool:
    if name in ("__main__", "__mp_main__"):
        return True
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_INSTALLED)


def _clear(namespace: dict[str, object]) -> None:
    """First the names that begin with one underscore, then all others: Python's own order."""
    for private in (True, False):
        for name in list(namespace):
            if name != "__builtins__" and (not private or (name[:1] == "_" and name[1:2] != "_")):
                namespace[name] = None


def _close_files() -> None:
    """Close every file that is still open but the standard streams, as its finalizer would."""
    standard = {sys.__stdin__, sys.__stdout__, sys.__stderr__}
    standard |= {getattr(each, "buffer", None) for each in standard}
    for kind in (io.TextIOBase, io.BufferedIOBase):  # a text file before the buffer that it writes to
        for file in _all(kind):
            if file not in standard:
                try:
                    file.close()
                except Exception:
                    pass  # read only, or its other end has gone: nothing is left to write


def _all(kind: type) -> Iterable[io.IOBase]:
    # By type: isinstance would ask every object for its __class__, and some warn when they are asked anything.
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


_INSTALLED = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")),
        str(Path(swarmtrain.__file__).parent),
        "<",
    }
)
