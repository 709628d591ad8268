"""What an agent does for people who look in: commands (`exec`), files (`fetch`, `list`) and profiles of its workers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from swarmtrain.agent.services.profiling import Profiling
from swarmtrain.errors import ClusterError, SwarmtrainError
from swarmtrain.files import fetch, snapshots
from swarmtrain.files.listing import listing
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import Answer
from swarmtrain.protocol.replies import Done, ErrorReply, NodeReply
from swarmtrain.protocol.requests import TerminalInput
from swarmtrain.protocol.to_agent import (
    CommandOrder,
    NodeCancel,
    NodeExec,
    NodeFetch,
    NodeInput,
    NodeList,
    NodeMore,
    NodeProfile,
    NodeSnapshots,
    ProfileOrder,
    ToAgent,
)
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.disk.storage import Storage

if TYPE_CHECKING:
    from swarmtrain.agent.worker_group.workers import Workers

_AHEAD = 8  # pieces of a file that may be on their way to the client
# Seconds for which an agent that is about to go waits for the next piece of an answer: until it is read, which may
# begin with the packing of a large directory, or until the client has taken those before it.
_READING, _TAKING = 600.0, 30.0


class NodeServices:
    """Answers the coordinator's requests on behalf of clients; every request runs in a task of its own.

    Args:
        channel: to the coordinator.
    """

    def __init__(self, storage: Storage, node: str, channel: Channel) -> None:
        self._storage, self.node, self._channel = storage, node, channel
        self.lineage = ""
        self.env: Mapping[str, str] = {}
        self.workers: Callable[[], Workers] | None = None  # those of this node, where it has any
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._input: dict[int, asyncio.Queue[TerminalInput]] = {}
        self._credit: dict[int, asyncio.Semaphore] = {}
        self._due: dict[int, float] = {}  # of an answer that reads files: monotonic time by which it gets on
        self._finishing = False

    def hear(self, message: ToAgent) -> bool:
        """Take a message if it is one of ours."""
        match message:
            case (
                NodeExec(_, number)
                | NodeFetch(_, number)
                | NodeList(_, number)
                | NodeSnapshots(_, number)
                | NodeProfile(_, number)
            ) if self._finishing:
                self._begin(number, self._turn_away(number))
            case NodeExec(order, number):
                self._input[number] = asyncio.Queue()
                self._begin(number, self._exec(number, order))
            case NodeFetch(order, number):
                self._read(number, self._send_file(number, order.path))
            case NodeList(order, number):
                self._read(
                    number, self._reply(number, listing(self._storage, self.lineage, self.node, order))
                )
            case NodeSnapshots(order, number):
                replies = snapshots.answer(self._storage, self.lineage, self.node, order)
                self._read(number, self._reply(number, replies))
            case NodeProfile(profile, number):
                self._begin(number, self._profile(number, profile))
            case NodeInput(typed, number):
                if number in self._input:
                    self._input[number].put_nowait(typed)
            case NodeMore(number):
                if number in self._credit:
                    self._credit[number].release()
            case NodeCancel(number):
                task = self._tasks.get(number)
                if task is not None:
                    task.cancel()
            case _:
                return False
        return True

    @property
    def busy(self) -> bool:
        """Whether an answer that reads files gets on."""
        return any(due > time.monotonic() for due in self._due.values())

    async def finish(self) -> None:
        """Take no more requests, and finish the answers that read files, for as long as they get on."""
        self._finishing = True
        while self.busy:
            left = max(self._due.values()) - time.monotonic()
            reading = [self._tasks[number] for number in self._due]  # what has ended is in neither
            await asyncio.wait(reading, timeout=min(left, _TAKING), return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """The connection is gone, and with it everybody who asked."""
        self._due.clear()
        for task in self._tasks.values():
            task.cancel()

    def _read(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        self._due[number] = time.monotonic() + _READING
        self._begin(number, work)

    def _begin(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._guard(number, work))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._forget(number, work))

    def _forget(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        """Have done with a request that has ended, or that was taken back before it had begun."""
        work.close()
        for kept in (self._tasks, self._due, self._input, self._credit):
            kept.pop(number, None)

    async def _guard(self, number: int, work: Awaitable[None]) -> None:
        try:
            await work
        except ConnectionError:
            pass  # whoever asked has gone
        except SwarmtrainError as error:
            refusal = ErrorReply(error.message, error.hint, error.exit_code)
            await self._send(number, NodeReply(error=refusal))
        except OSError as error:
            await self._send(number, NodeReply(error=ErrorReply(f"{self.node}: {error}")))
        except Exception as error:  # whatever it is: whoever asked would wait for ever
            await self._send(number, NodeReply(error=ErrorReply(f"{self.node}: {error!r}")))

    async def _turn_away(self, number: int) -> None:
        gone = ErrorReply(f"the agent on {self.node} is about to go", gone=True)
        await self._send(number, NodeReply(error=gone))

    async def _send_file(self, number: int, path: str) -> None:
        found = fetch.locate(self._storage, self.lineage, self.node, path)
        await self._reply(number, fetch.send(found, self.node))

    async def _profile(self, number: int, order: ProfileOrder) -> None:
        if self.workers is None or not self.workers().states:
            raise ClusterError(f"no worker runs on {self.node} now")
        with Profiling(self.workers(), order) as profiling:
            async for news in profiling.news():
                await self._send(number, NodeReply(profile=news))
            await self._reply(number, fetch.send(profiling.trace, self.node))

    async def _reply(self, number: int, replies: Iterator[NodeReply]) -> None:
        """Read in a thread, so that a large directory stops no heartbeat, and no faster than the client takes it."""
        credit = self._credit[number] = asyncio.Semaphore(_AHEAD)
        while (reply := await asyncio.to_thread(next, replies, None)) is not None:
            self._due[number] = time.monotonic() + _TAKING
            await credit.acquire()
            await self._send(number, reply)
            self._due[number] = time.monotonic() + _READING

    async def _send(self, number: int, reply: NodeReply) -> None:
        await self._channel.send(dump(Answer(number, reply)))

    async def _exec(self, number: int, order: CommandOrder) -> None:
        work = self._storage.work(self.lineage, self.node)
        work.mkdir(parents=True, exist_ok=True)
        terminal = order.tty
        main, side = pty.openpty() if terminal else (-1, asyncio.subprocess.PIPE)
        try:
            try:
                if terminal:
                    _resize(main, order.rows or 24, order.columns or 80)
                process = await asyncio.create_subprocess_exec(
                    *order.argv,
                    cwd=work,
                    env=dict(self.env),
                    start_new_session=True,
                    stdin=side,
                    stdout=side,
                    stderr=side,
                )
            except OSError as error:
                words = f"{order.argv[0]}: {error.strerror}\n"
                await self._send(number, NodeReply(stderr=_base64(words.encode())))
                await self._send(number, NodeReply(done=Done(exit=127)))
                return
            finally:
                if terminal:
                    os.close(side)
            await self._attend(number, process, main)
        finally:
            if terminal:
                os.close(main)

    async def _attend(self, number: int, process: asyncio.subprocess.Process, main: int) -> None:
        """A command to its end, with what is typed for it; it ends with whoever asked for it.

        What it writes is read no faster than the client takes it, or the coordinator would have to keep it.
        """
        typing = asyncio.ensure_future(self._type(number, process, main))
        credit = self._credit[number] = asyncio.Semaphore(_AHEAD)

        async def tell(reply: NodeReply) -> None:
            await credit.acquire()
            await self._send(number, reply)

        try:
            if main >= 0:
                await self._copy_terminal(main, lambda data: tell(NodeReply(stdout=data)))
            else:
                assert process.stdout is not None and process.stderr is not None
                await asyncio.gather(
                    self._copy(process.stdout, lambda data: tell(NodeReply(stdout=data))),
                    self._copy(process.stderr, lambda data: tell(NodeReply(stderr=data))),
                )
            code = await process.wait()
            await self._send(number, NodeReply(done=Done(exit=code if code >= 0 else 128 - code)))
        finally:
            typing.cancel()
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            process._transport.close()  # type: ignore[attr-defined]  # its pipes, of which nobody reads the rest
            await process.wait()

    @staticmethod
    async def _copy(stream: asyncio.StreamReader, send: Callable[[str], Awaitable[None]]) -> None:
        while data := await stream.read(1 << 16):
            await send(_base64(data))

    @staticmethod
    async def _copy_terminal(main: int, send: Callable[[str], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        os.set_blocking(main, False)
        ready = asyncio.Event()
        while True:
            ready.clear()
            loop.add_reader(main, ready.set)
            try:
                await ready.wait()
            finally:  # or what waits there would wake the loop while the client does not read
                loop.remove_reader(main)
            try:
                data = os.read(main, 1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                return  # the last process on the terminal has gone
            if not data:
                return
            await send(_base64(data))

    async def _type(self, number: int, process: asyncio.subprocess.Process, main: int) -> None:
        """What is typed, as the command takes it; the client hears how much that is, and sends no faster."""
        queue = self._input[number]
        while True:
            typed = await queue.get()
            if typed.resize is not None and main >= 0:
                _resize(main, *typed.resize)
            elif typed.eof and process.stdin is not None:
                process.stdin.close()
            elif typed.stdin:
                data = base64.b64decode(typed.stdin)
                if process.stdin is not None:
                    await _write_pipe(process.stdin, data)
                else:
                    await _write_terminal(main, data)
                with contextlib.suppress(ConnectionError):  # whoever asked has gone
                    await self._send(number, NodeReply(taken=len(data)))


async def _write_pipe(pipe: asyncio.StreamWriter, data: bytes) -> None:
    """All of it, but for what fits between here and the command; nothing once it reads no more."""
    with contextlib.suppress(ConnectionError):
        if not pipe.is_closing():
            pipe.write(data)
            await pipe.drain()


async def _write_terminal(main: int, data: bytes) -> None:
    """All of it, as the command takes it: a terminal has room for little more than a line."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(main, data) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(main, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(main)
        except OSError:
            return  # the last process on the terminal has gone


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
