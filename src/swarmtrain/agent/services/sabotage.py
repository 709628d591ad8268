"""``bundle.zip sabotage WHAT``: damage done on purpose from inside of a node, for `swarmtrain chaos`.

    kill PID                      SIGKILL for a worker
    stop PID SECONDS              SIGSTOP for a worker, SIGCONT after so long
    fill LEAVE LIMIT SECONDS      so few bytes left where the snapshots lie; refused beyond LIMIT bytes of ballast
    corrupt                       bits flipped in the middle of the newest snapshot

It is started by the node's agent, as `exec` starts any command, and from that it knows what it may touch: processes
below its parent, which is the agent, and the directory beside its own working directory. So whatever it is told, it
cannot reach another run. It prints what it did, in one line, or complains on stderr and ends with 1.

What lasts is undone when its time is over, when the input ends, and when this process is killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from swarmtrain.errors import ClusterError, RequestError, SwarmtrainError
from swarmtrain.wire.disk.snapshots import key_of
from swarmtrain.wire.machine.processes import descendants, kill_all

Undo = Callable[[], object]

_STRIDE = 256 << 20  # bytes of ballast asked for at a time
_BLOCK = 4096
_FLIPPED = 64  # bytes


def main(argv: list[str]) -> int:
    """Do what the arguments say; 0 when it was done."""
    agent = os.getppid()
    try:
        match argv:
            case ["kill", pid]:
                worker = _worker(agent, pid)
                kill_all([worker])
                print(f"killed process {worker}", flush=True)
            case ["stop", pid, seconds]:
                worker = _worker(agent, pid)
                return _hold(lambda: _stop(worker), float(seconds))
            case ["fill", leave, limit, seconds]:
                return _hold(lambda: _fill(_snapshots(), int(leave), int(limit)), float(seconds))
            case ["corrupt"]:
                print(f"flipped {_FLIPPED} bytes of {corrupt(_snapshots())}", flush=True)
            case _:
                raise RequestError(
                    "usage: sabotage kill PID|stop PID SECONDS|fill LEAVE LIMIT SECONDS|corrupt"
                )
    except (SwarmtrainError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def corrupt(directory: Path) -> str:
    """Flip bits in the middle of the newest snapshot, as a failing disk does: size and times stay. Its name.

    Raises:
        ClusterError: there is none. OSError: it cannot be written.
    """
    found = [path for path in directory.glob("*.pt") if path.is_file() and not path.is_symlink()]
    if not found:
        raise ClusterError(f"there is no snapshot in {directory}")
    newest = max(found, key=lambda path: (key_of(path.name) or (-1, -1), path.name))
    before = newest.stat()
    with newest.open("r+b") as file:
        file.seek(max(0, (before.st_size - _FLIPPED) // 2))
        piece = file.read(_FLIPPED)
        file.seek(-len(piece), os.SEEK_CUR)
        file.write(bytes(byte ^ 0xFF for byte in piece))
        file.flush()
        os.fsync(file.fileno())
    os.utime(newest, ns=(before.st_atime_ns, before.st_mtime_ns))
    return newest.name


def _snapshots() -> Path:
    """The node's snapshots, beside the working directory that the agent gives its commands (see wire.disk.storage)."""
    return Path.cwd().parent / "snapshots"


def _worker(agent: int, pid: str) -> int:
    number = int(pid)
    if number not in descendants(agent):
        raise ClusterError(f"process {number} is none of this node's workers (any more)")
    return number


def _stop(worker: int) -> tuple[str, Undo]:
    os.kill(worker, signal.SIGSTOP)
    return f"stopped process {worker}", lambda: kill_all([worker], signal.SIGCONT)


def _fill(directory: Path, leave: int, limit: int) -> tuple[str, Undo]:
    """The ballast is a file without a name: the kernel frees it as soon as nobody holds it, whatever happens to us."""
    place = directory if directory.is_dir() else Path.cwd()
    free = _free(place)
    size = free - leave
    if size <= 0:
        raise ClusterError(f"{place} has only {free} bytes left already")
    if size > limit:
        raise ClusterError(
            f"{place} has {free} bytes left: that would take {size} of ballast, more than {limit}"
        )
    ballast = tempfile.TemporaryFile(dir=place)  # noqa: SIM115
    written, stride = 0, _STRIDE
    while (piece := min(stride, size - written)) > 0:
        try:
            os.posix_fallocate(ballast.fileno(), written, piece)
            written += piece
        except OSError:
            if stride <= _BLOCK:
                break  # the file system keeps the rest for itself
            stride //= 2
    return f"wrote {written} bytes of ballast; {_free(place)} are left in {place}", ballast.close


def _free(directory: Path) -> int:
    """Bytes that this user can still write there."""
    found = os.statvfs(directory)
    return found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)


def _hold(act: Callable[[], tuple[str, Undo]], seconds: float) -> int:
    """Act in a child in a session of its own, which notices by a pipe when this process goes, however it goes."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(sink)
        os._exit(_keep(act, seconds, source))
    os.close(source)
    threading.Thread(target=_until_input_ends, args=(sink,), daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _keep(act: Callable[[], tuple[str, Undo]], seconds: float, source: int) -> int:
    try:
        words, undo = act()
    except (SwarmtrainError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    try:
        print(words, flush=True)
        select.select([source], [], [], seconds)
    except OSError:
        pass  # nobody reads any more: it is over
    undo()
    return 0


def _until_input_ends(sink: int) -> None:
    try:
        while os.read(0, 1 << 12):
            pass
    except OSError:
        pass
    os.close(sink)
