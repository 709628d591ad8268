"""What happens to runs, as it comes: server-sent events, each with the name of its run.

A thread a run follows it (`Follower`, which bridges a coordinator that is away, and tells nothing twice), and puts what
it hears into a mailbox. The page is told in batches, no faster than it reads; who follows waits for it.

| event | data |
|---|---|
| `begin` | the runs; what was told on an earlier connection is void |
| `status` | how a run is (`documents.status_document`) |
| `happened` | some events of the journal |
| `lines` | some of what the workers wrote |
| `unfinished` | lines that go on, such as progress bars, in place of those before |
| `note` | a word about the connection to the coordinator |
| `over` | the run has ended, and everything was told; or it cannot be followed, and why |
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence

from swarmtrain.control.follow import Follower, Update
from swarmtrain.control.handle import RunHandle
from swarmtrain.errors import SwarmtrainError, in_short
from swarmtrain.ui.web.documents import Json, event_document, line_row, status_document

_WAITING = 64  # updates that wait to be told, after which who follows waits
_TEXT = 1 << 20  # characters of lines that do, likewise: a page that reads nothing shall fill no memory
_ROW = 64  # characters as which a line counts, however short it is
_PAGES = 32  # that are told at a time: each is followed anew, by a thread here and at the coordinator
_QUIET_SECONDS = 15.0  # after which a word is sent that says nothing, so that a page that has gone is noticed
_LINES = 5000  # in one batch at most, so that the page stays quick while many come

Told = tuple[str, Json]  # the name of an event, and its data


class Mailbox:
    """What threads put in and one task takes out, in order; a full one makes them wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._room = threading.Condition()
        self._items: list[Told] = []
        self._text = 0  # of their lines
        self.is_closed = False

    def put(self, *items: Told) -> None:
        """Leave something, when there is room for it."""
        with self._room:
            self._room.wait_for(lambda: self._has_room() or self.is_closed)
            if self.is_closed:
                return
            self._items += items
            self._text += sum(_text_of(data) for _, data in items)
            self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self) -> list[Told]:
        """All that lies there; nothing only after a long silence."""
        while True:
            try:
                await asyncio.wait_for(self._filled.wait(), _QUIET_SECONDS)
            except asyncio.TimeoutError:
                return []
            with self._room:
                items, self._items, self._text = self._items, [], 0
                self._filled.clear()
                self._room.notify_all()
            if items or self.is_closed:
                return items  # else what it was woken for was taken with what came before

    def _has_room(self) -> bool:
        return len(self._items) < _WAITING and self._text < _TEXT

    def close(self) -> None:
        """Nobody takes anything any more, and nobody waits to leave something."""
        with self._room:
            self.is_closed = True
            self._room.notify_all()
            self._filled.set()


class Live:
    """What pages are told at the moment: a stream each. For one loop.

    Args:
        most: of them at a time.
    """

    def __init__(self, most: int = _PAGES) -> None:
        self._most = most
        self._open: set[Mailbox] = set()

    def end(self) -> None:
        """End all streams: pages are told nothing more, and ask again."""
        for each in self._open:
            each.close()

    async def stream(self, handles: Sequence[RunHandle], tail: int | None) -> AsyncGenerator[bytes, None]:
        """Everything that happens to some runs, until all of them have ended.

        Args:
            handles: the lines of the first alone are told.
            tail: its last lines to begin with; all of them where it is None.
        """
        if len(self._open) >= self._most:
            for handle in handles:
                reason = f"{self._most} pages are told what happens already, and one more is not"
                yield _event("over", _over(handle.id, reason, "close one of them, and load this one again"))
            return
        mailbox = Mailbox()
        self._open.add(mailbox)
        followers = [
            Follower(handle.launcher, handle.run, tail=tail, unfinished=True)
            if handle is handles[0]
            else Follower(handle.launcher, handle.run, output=False)
            for handle in handles
        ]
        for handle, follower in zip(handles, followers, strict=True):
            threading.Thread(target=_follow, args=(handle.id, follower, mailbox), daemon=True).start()
        left = {handle.id for handle in handles}
        try:
            yield _event("begin", {"runs": [handle.id for handle in handles]})
            while left and not mailbox.is_closed:
                items = await mailbox.take()
                if not items:
                    yield b": \n\n"
                for name, data in gathered(items):
                    yield _event(name, data)
                    if name == "over":
                        left.discard(str(data["run"]))
        finally:
            self._open.discard(mailbox)
            mailbox.close()
            for follower in followers:
                follower.abandon()


def _follow(run: str, follower: Follower, mailbox: Mailbox) -> None:
    """Follow a run to its end, from a thread of its own."""
    reason, hint = "", ""
    try:
        for update in follower:
            mailbox.put(*told(run, update))
    except SwarmtrainError as error:
        reason, hint = in_short(error), error.hint
    mailbox.put(("over", _over(run, reason, hint)))


def _over(run: str, reason: str, hint: str) -> Json:
    return {"run": run, "reason": reason, "hint": hint}


def told(run: str, update: Update) -> list[Told]:
    """What the page hears of an update."""
    found: list[Told] = []
    if update.note:
        found.append(("note", {"run": run, "text": update.note}))
    if update.event is not None:
        found.append(("happened", {"run": run, "events": [event_document(update.event)]}))
    for start in range(0, len(update.lines), _LINES):
        rows = [line_row(line) for line in update.lines[start : start + _LINES]]
        found.append(("lines", {"run": run, "lines": rows}))
    if update.unfinished is not None:
        found.append(("unfinished", {"run": run, "lines": [line_row(line) for line in update.unfinished]}))
    if update.status is not None:
        found.append(("status", {"run": run, **status_document(update.status)}))
    return found


def gathered(items: Sequence[Told]) -> list[Told]:
    """The same in fewer pieces: events and lines of a run that come one after the other are told together."""
    found: list[Told] = []
    for name, data in items:
        last = found[-1] if found else ("", Json())
        key = {"happened": "events", "lines": "lines"}.get(name, "")
        before, now = last[1].get(key), data.get(key)
        is_more = last[0] == name and last[1].get("run") == data.get("run")
        if (
            is_more
            and isinstance(before, list)
            and isinstance(now, list)
            and len(before) + len(now) <= _LINES
        ):
            found[-1] = (name, {**data, key: [*before, *now]})
        else:
            found.append((name, data))
    return found


def _text_of(data: Json) -> int:
    """How much the lines of an update are."""
    lines = data.get("lines")
    return sum(_ROW + len(str(row[-1])) for row in lines) if isinstance(lines, list) else 0


def _event(name: str, data: Json) -> bytes:
    """As it travels: JSON has no line breaks of its own."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
