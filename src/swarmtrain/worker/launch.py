"""One fork: from the spawner to a worker that is ready for its program, warm or cold."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import swarmtrain
from swarmtrain.protocol.spawner import Program, SpawnWorker
from swarmtrain.wire.machine.processes import die_with_parent
from swarmtrain.worker import processes
from swarmtrain.worker.user import flush
from swarmtrain.worker.warm.preload import adopt_environment

_ROOT = Path(swarmtrain.__file__).absolute().parents[1]  # the bundle, or the directory that holds the package


class CannotLaunch(Exception):
    """The worker could not be started; the message says why, for the user.

    Outside of the tree: the spawner catches it, and tells its agent.
    """


def launch(request: SpawnWorker, *, warm: bool, close: Callable[[], None]) -> int:
    """Start a worker.

    Args:
        request: the worker.
        warm: go on in the fork, rather than execute the program.
        close: closes, in the fork, what belongs to the spawner alone.

    Returns:
        the worker's pid; or 0 in a warm worker itself, which is then to run its program.

    Raises:
        CannotLaunch: a process, the output file, the working directory or the command is not to be had.
    """
    spawner = os.getpid()
    flush()  # or the worker would write it once more
    reading, writing = os.pipe()
    # A signal that reaches the worker before it has its own handlers must wait, not run the spawner's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = _fork()
    except OSError as error:  # a limit of processes or of memory is no end of the workers that are there
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(reading)
        os.close(writing)
        raise CannotLaunch(f"no process can be made for it: {error.strerror}") from error
    if pid == 0:
        try:
            os.close(reading)
            close()
            _prepare(request, spawner, warm=warm)
            if not warm:
                _execute(request.program, environment_of(request, os.environ))
            adopt_environment(environment_of(request, os.environ))
            _renew()
            os.close(writing)
            return 0
        except BaseException as error:
            _refuse(error, writing)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        problem = pipe.read()  # ends when the worker has closed its end: set up, executed or dead
    if problem:
        os.waitpid(pid, 0)
        raise CannotLaunch(problem.decode(errors="replace"))
    return pid


def environment_of(request: SpawnWorker, inherited: Mapping[str, str]) -> dict[str, str]:
    """All variables of a worker, given the spawner's."""
    environment = {**inherited, **request.env, processes.ENV_WORKER: request.key}
    python_path = [*request.program.path, environment.get("PYTHONPATH", "")]
    if joined := ":".join(entry for entry in python_path if entry):
        environment["PYTHONPATH"] = joined
    return environment


def cold_command(program: Program) -> list[str]:
    """The command line of a cold worker."""
    if program.kind == "command":
        return [program.target, *program.args]
    entrance = [str(_ROOT)] if _ROOT.is_file() else ["-m", "swarmtrain.inside"]
    return [sys.executable, *entrance, "start", program.cwd, program.kind, program.target, *program.args]


def _fork() -> int:
    """Fork without the warning of Python 3.12 that a numeric library's threads do not survive it.

    They are idle pools, and their libraries start them anew in the child (pthread_atfork).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _prepare(request: SpawnWorker, spawner: int, *, warm: bool) -> None:
    """What every worker has: a session, files, signals, a working directory, and a death with its spawner."""
    os.setsid()
    die_with_parent(spawner, signal.SIGKILL)
    output = os.open(request.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    os.close(nothing)
    os.close(output)
    _default_signals(warm=warm)
    if not Path(request.program.cwd).is_dir():
        raise NotADirectoryError(f"{request.program.cwd} is no directory to work in")
    if warm:
        processes.mark(request.key)


def _default_signals(*, warm: bool) -> None:
    """Signals as a Python program finds them (warm), or as any program does (cold)."""
    signal.set_wakeup_fd(-1)
    ignored_by_python = {signal.SIGPIPE, signal.SIGXFSZ} if warm else set()
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None) and number not in ignored_by_python:
            signal.signal(number, signal.SIG_DFL)
    if warm:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _execute(program: Program, environment: Mapping[str, str]) -> NoReturn:
    command = cold_command(program)
    if program.kind == "command":
        os.chdir(program.cwd)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise OSError(error.errno, error.strerror, command[0]) from None


def _renew() -> None:
    """Let differ between forks what differs between fresh processes; the ``random`` module sees to itself.

    Only torch's generator of the CPU: a device's is made when the worker first uses the device.
    """
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if process := sys.modules.get("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)


def _refuse(error: BaseException, pipe: int) -> NoReturn:
    """Tell the user, in the worker's output, and the spawner why there is no worker."""
    try:
        reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        os.write(2, f"swarmtrain: cannot start this worker: {reason}\n".encode(errors="replace"))
        os.write(pipe, reason.encode(errors="replace")[:4096])
    finally:
        os._exit(127)
