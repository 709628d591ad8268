"""A command beside a worker: its input and output carried over the link, with or without a terminal."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from swarmtrain.errors import ClusterError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.requests import ExecRequest, TerminalInput, TerminalSize

if TYPE_CHECKING:
    from swarmtrain.wire.link import Link

_PIECE = 1 << 16
_AHEAD = 1 << 20  # bytes of input that may be on their way to the command
_PATIENCE = 5.0  # seconds after which a node that has said nothing of its input is one that never does


@dataclass(frozen=True)
class Streams:
    """Where a command's input comes from and where its output goes.

    Args:
        tty: give the command a terminal; ``stdin`` must be one too.
    """

    stdin: BinaryIO | None
    stdout: BinaryIO
    stderr: BinaryIO
    tty: bool = field(default=False, kw_only=True)

    @staticmethod
    def standard(*, tty: bool = False) -> Streams:
        """Those of this process."""
        return Streams(sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer, tty=tty)


@contextmanager
def ended(is_live: Callable[[], bool], run: str) -> Iterator[None]:
    """Say of a run that has ended why nothing can be done beside its workers.

    Raises:
        ClusterError: as what is done inside; of a run that has ended, with what can be done instead.
    """
    try:
        yield
    except ClusterError as error:
        if is_live():
            raise
        raise ClusterError(
            f"{run} has ended, and no process is left beside which a command could run",
            f"`swarmtrain fetch {run} PATH` brings its files, `swarmtrain logs {run}` its output",
        ) from error


class _Window:
    """How much input is on its way: no more is sent than the command takes, or all between here and it must hold it.

    Nodes of the first versions do not tell what was taken: to them it is sent as it comes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._on_its_way = 0
        self._told = self._open = False

    def send(self, size: int) -> None:
        """Wait until so much more may be sent."""
        with self._changed:
            while self._on_its_way >= _AHEAD and not self._open:
                if not self._changed.wait(_PATIENCE):
                    self._open = not self._told
            self._on_its_way += size

    def taken(self, size: int) -> None:
        """So much has come to the command."""
        with self._changed:
            self._told = self._told or size > 0
            self._on_its_way -= size
            self._changed.notify()

    def close(self) -> None:
        """Nothing is sent any more: whoever waits need not."""
        with self._changed:
            self._open = True
            self._changed.notify()


class ExecSession:
    """One command over one link."""

    def __init__(self, link: Link, streams: Streams) -> None:
        self._link = link
        self._streams = streams
        self._window = _Window()

    def run(self, request: ExecRequest) -> int:
        """Run the command of a request; return its exit status."""
        if self._streams.tty:
            size = shutil.get_terminal_size()
            request = replace(request, tty=True, rows=size.lines, columns=size.columns)
        replies = ask(self._link, request)
        with self._terminal():
            self._type()
            try:
                for reply in replies:
                    self._window.taken(reply.taken)
                    _write(self._streams.stdout, reply.stdout)
                    _write(self._streams.stderr, reply.stderr)
                    if reply.done is not None and reply.done.exit is not None:
                        return reply.done.exit
            finally:
                self._window.close()
        raise ClusterError("the connection broke, and with it the command")

    def _type(self) -> None:
        """Carry the input from a thread of its own; a blocked read ends with the process."""
        threading.Thread(target=self._carry_input, name="stdin", daemon=True).start()

    def _carry_input(self) -> None:
        source = self._streams.stdin
        try:
            while source is not None and (piece := _read(source)):
                self._window.send(len(piece))
                self._send(TerminalInput(stdin=base64.b64encode(piece).decode("ascii")))
            self._send(TerminalInput(eof=True))
        except (ClusterError, OSError, ValueError):
            pass  # the command has ended, and its link with it: nobody reads on

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """Give every key to the command, and tell it when the window changes; undone at the end."""
        if not self._streams.tty or self._streams.stdin is None:
            yield
            return
        import termios
        import tty

        number = self._streams.stdin.fileno()
        before = termios.tcgetattr(number)
        previous = signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        tty.setraw(number)
        try:
            yield
        finally:
            termios.tcsetattr(number, termios.TCSADRAIN, before)
            signal.signal(signal.SIGWINCH, previous)

    def _resize(self) -> None:
        size = shutil.get_terminal_size()  # also where the output goes elsewhere
        # Not from the handler itself: it may have interrupted a send, whose lock is taken.
        message = TerminalInput(resize=TerminalSize(size.lines, size.columns))
        threading.Thread(target=self._send, args=(message,), daemon=True).start()

    def _send(self, typed: TerminalInput) -> None:
        self._link.send(dump(typed))


def _read(source: BinaryIO) -> bytes:
    """What there is, without waiting for a full piece."""
    try:
        number = source.fileno()
    except (OSError, AttributeError):
        return source.read(_PIECE)
    return os.read(number, _PIECE)


def _write(sink: BinaryIO, data: str) -> None:
    if data:
        sink.write(base64.b64decode(data))
        sink.flush()
