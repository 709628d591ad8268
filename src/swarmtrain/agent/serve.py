"""What an agent does for people who look in: commands (`exec`) and files (`fetch`, `list`)."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from swarmtrain.errors import SwarmtrainError
from swarmtrain.wire import files, snapshots
from swarmtrain.wire.frames import Message
from swarmtrain.wire.storage import Storage

Send = Callable[[Message], Awaitable[None]]

_AHEAD = 8  # pieces of a file that may be on their way to the client
# Seconds for which an agent that is about to go waits for the next piece of an answer: until it is read, which may
# begin with the packing of a large directory, or until the client has taken those before it.
_READING, _TAKING = 600.0, 30.0


class Desk:
    """Answers the coordinator's requests on behalf of clients; every request runs in a task of its own.

    Args:
        send: carries one message to the coordinator.
    """

    def __init__(self, storage: Storage, node: str, send: Send) -> None:
        self._storage, self.node, self._send = storage, node, send
        self.lineage = ""
        self.env: Mapping[str, str] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._input: dict[int, asyncio.Queue[Message | None]] = {}
        self._credit: dict[int, asyncio.Semaphore] = {}
        self._due: dict[int, float] = {}  # of an answer that reads files: monotonic time by which it gets on
        self._finishing = False

    def hear(self, message: Message) -> bool:
        """Take a message if it is one of ours."""
        number = message.get("id")
        match message:
            case {"exec": _} | {"fetch": _} | {"list": _} | {"snapshots": _} if self._finishing:
                self._begin(message["id"], self._turn_away(message["id"]))
            case {"exec": request}:
                self._input[message["id"]] = asyncio.Queue()
                self._begin(message["id"], self._exec(message["id"], request))
            case {"fetch": {"path": path}}:
                self._read(message["id"], self._reply_file(message["id"], path, files.send))
            case {"list": {"path": path}}:
                self._read(message["id"], self._reply_file(message["id"], path, files.listing))
            case {"snapshots": order}:
                replies = snapshots.answer(self._storage, self.lineage, self.node, order)
                self._read(message["id"], self._reply(message["id"], replies))
            case {"input": typed}:
                if number in self._input:
                    self._input[number].put_nowait(typed)
            case {"more": number}:
                if number in self._credit:
                    self._credit[number].release()
            case {"cancel": number}:
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
            reading = [self._tasks[number] for number in self._due]
            await asyncio.wait(reading, timeout=min(left, _TAKING), return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """The connection is gone, and with it everybody who asked."""
        self._due.clear()
        for task in self._tasks.values():
            task.cancel()

    def _read(self, number: int, work: Awaitable[None]) -> None:
        self._due[number] = time.monotonic() + _READING
        self._begin(number, work)

    def _begin(self, number: int, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guard(number, work))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number, None) and None)

    async def _guard(self, number: int, work: Awaitable[None]) -> None:
        try:
            await work
        except ConnectionError:
            pass  # whoever asked has gone
        except SwarmtrainError as error:
            await self._send(
                {"reply": number, "error": error.message, "hint": error.hint, "exit": error.exit_code}
            )
        except OSError as error:
            await self._send({"reply": number, "error": f"{self.node}: {error}", "hint": "", "exit": 3})
        finally:
            self._input.pop(number, None)
            self._credit.pop(number, None)
            self._due.pop(number, None)

    async def _turn_away(self, number: int) -> None:
        error = f"the agent on {self.node} is about to go"
        await self._send({"reply": number, "error": error, "hint": "", "exit": 3, "gone": True})

    async def _reply_file(
        self, number: int, path: str, answer: Callable[[Path, str], Iterator[Message]]
    ) -> None:
        found = files.locate(self._storage, self.lineage, self.node, path)
        await self._reply(number, answer(found, self.node))

    async def _reply(self, number: int, messages: Iterator[Message]) -> None:
        """Read in a thread, so that a large directory stops no heartbeat, and no faster than the client takes it."""
        credit = self._credit[number] = asyncio.Semaphore(_AHEAD)
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            self._due[number] = time.monotonic() + _TAKING
            await credit.acquire()
            await self._send({"reply": number, **message})
            self._due[number] = time.monotonic() + _READING

    async def _exec(self, number: int, request: Message) -> None:
        terminal = bool(request.get("tty"))
        main, side = -1, asyncio.subprocess.PIPE
        if terminal:
            main, side = pty.openpty()
            _resize(main, request.get("rows", 24), request.get("columns", 80))
        work = self._storage.work(self.lineage, self.node)
        work.mkdir(parents=True, exist_ok=True)
        try:
            process = await asyncio.create_subprocess_exec(
                *request["argv"],
                cwd=work,
                env=dict(self.env),
                start_new_session=True,
                stdin=side,
                stdout=side,
                stderr=side,
            )
        except OSError as error:
            await self._send(
                {"reply": number, "stderr": _base64(f"{request['argv'][0]}: {error.strerror}\n".encode())}
            )
            await self._send({"reply": number, "done": {"exit": 127}})
            return
        finally:
            if terminal:
                os.close(side)
        try:
            typing = asyncio.ensure_future(self._type(number, process, main))
            if terminal:
                await self._copy_terminal(number, main)
            else:
                assert process.stdout is not None and process.stderr is not None
                await asyncio.gather(
                    self._copy(number, "stdout", process.stdout), self._copy(number, "stderr", process.stderr)
                )
            code = await process.wait()
            typing.cancel()
            await self._send({"reply": number, "done": {"exit": code if code >= 0 else 128 - code}})
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            if terminal:
                os.close(main)

    async def _copy(self, number: int, name: str, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(1 << 16):
            await self._send({"reply": number, name: _base64(data)})

    async def _copy_terminal(self, number: int, main: int) -> None:
        loop = asyncio.get_running_loop()
        os.set_blocking(main, False)
        ready = asyncio.Event()
        loop.add_reader(main, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                try:
                    data = os.read(main, 1 << 16)
                except BlockingIOError:
                    continue
                except OSError:
                    return  # the last process on the terminal has gone
                if not data:
                    return
                await self._send({"reply": number, "stdout": _base64(data)})
        finally:
            loop.remove_reader(main)

    async def _type(self, number: int, process: asyncio.subprocess.Process, main: int) -> None:
        queue = self._input[number]
        while (typed := await queue.get()) is not None:
            if "resize" in typed and main >= 0:
                _resize(main, *typed["resize"])
            elif "stdin" in typed and main >= 0:
                os.write(main, base64.b64decode(typed["stdin"]))
            elif process.stdin is not None and "stdin" in typed:
                process.stdin.write(base64.b64decode(typed["stdin"]))
            elif process.stdin is not None and "eof" in typed:
                process.stdin.close()


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
