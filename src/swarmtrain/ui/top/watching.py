"""The live screen goes round: a thread looks at the run, this one draws it and hears keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType

from swarmtrain.control.look.feed import OverviewFeed
from swarmtrain.control.look.overview import RunOverview
from swarmtrain.control.views.view import missing_ranks
from swarmtrain.errors import ClusterError, Refused, RequestError
from swarmtrain.ui.top.frame import FrameSize, TopView, frame, frame_of, names
from swarmtrain.ui.top.glyphs import Glyphs
from swarmtrain.ui.top.keys import pressed
from swarmtrain.ui.top.window import Painter, TopWindow, Wake, opened

_PATIENCE = 30.0  # seconds for a coordinator that has just been started to answer
_GOODBYE = 2.0  # for a look that is under way to end
_CLOCK = 1.0  # seconds after which the screen is drawn anew in any case


def watch(
    feed: OverviewFeed, run: str, view: TopView, *, interval: float, colour: bool, glyphs: Glyphs
) -> None:
    """Show a run until a person leaves, or the terminal is gone.

    Args:
        run: its id.
        interval: seconds from one look to the next.

    Raises:
        SwarmtrainError: the run cannot be looked at.
    """
    wake = Wake()
    try:
        with Looking(feed, interval, wake.wake) as looking, opened(wake, colour=colour) as window:
            _go_round(window, looking, run, view, glyphs)
    finally:
        wake.close()


def once(
    feed: OverviewFeed, ranks: Sequence[int], columns: int, *, colour: bool, glyphs: Glyphs
) -> list[str]:
    """The lines of the screen as it is now, without an end and without keys.

    Raises:
        RequestError: the run has no such ranks. SwarmtrainError: it cannot be looked at.
    """
    with contextlib.closing(feed):
        overview = feed.look()
    if missing := missing_ranks(overview.status, ranks):
        raise RequestError(missing)
    lines = frame(overview, TopView(tuple(ranks)), FrameSize(columns, None), glyphs)
    return list(map(Painter(colour=colour), lines))


def _go_round(window: TopWindow, looking: Looking, run: str, view: TopView, glyphs: Glyphs) -> None:
    paused_at = time.monotonic()
    while True:
        overview, size = looking.newest(), window.size()
        if overview is None:
            window.draw(frame_of(looking.said or f"asking {run} ...", size), size)
        else:
            if view.paused is not None:
                view = replace(view, paused=time.monotonic() - paused_at)
            window.draw(frame(overview, view, size, glyphs), size)
        keys = window.wait(_CLOCK)
        if keys is None:
            return
        for key in keys:
            was_paused = view.paused is not None
            ranks = [worker.rank for worker in overview.status.workers] if overview is not None else []
            there = names(overview, view.ranks, size, glyphs) if overview is not None else []
            if key == "redraw":
                window.redraw()
                continue
            if (changed := pressed(view, key, ranks, there)) is None:
                return
            view = changed
            if view.paused is not None and not was_paused:
                paused_at = time.monotonic()
            looking.choose(view)


class Looking:
    """Looks at a run in a thread of its own: again and again until it has ended, then when other ranks are chosen.

    Args:
        interval: seconds from the end of a look to the next.
        news: is called when there is something new, or an error.

    Attributes:
        said: what takes a while.
    """

    def __init__(self, feed: OverviewFeed, interval: float, news: Callable[[], None]) -> None:
        self._feed, self._interval, self._news = feed, interval, news
        self._overview: RunOverview | None = None
        self._error: BaseException | None = None
        self.said = ""
        self._is_over, self._is_paused = False, False
        self._stir = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="look", daemon=True)

    def __enter__(self) -> Looking:
        self._feed.hear(self._hear)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._stir.set()
        self._feed.close()
        self._thread.join(_GOODBYE)

    def newest(self) -> RunOverview | None:
        """The run as it was seen last; None before it was.

        Raises:
            SwarmtrainError: it cannot be seen any more.
        """
        if self._error is not None:
            raise self._error
        return self._overview

    def choose(self, view: TopView) -> None:
        """Look at what a person has chosen to see, now."""
        is_news = view.ranks != self._feed.ranks or (self._is_paused and view.paused is None)
        self._feed.ranks, self._is_paused = view.ranks, view.paused is not None
        if is_news:
            self._stir.set()

    def _look_on(self) -> None:
        try:
            self._look_until_over()
        except BaseException as error:
            self._error = error
        finally:
            self._feed.close()
            self._tell()

    def _hear(self, text: str) -> None:
        self.said = text
        self._tell()

    def _tell(self) -> None:
        if not self._is_over:  # else nobody listens any more
            self._news()

    def _look_until_over(self) -> None:
        patience = time.monotonic() + _PATIENCE
        while not self._is_over:
            try:
                self._overview = self._feed.look()
            except ClusterError as error:
                is_early = self._overview is None and time.monotonic() < patience
                if isinstance(error, Refused) or not is_early:
                    raise
            else:
                self._tell()
            has_ended = self._overview is not None and self._overview.status.has_ended
            self._stir.wait(None if has_ended else self._interval)  # then only what a person chooses is news
            while self._is_paused and not self._is_over:
                self._stir.clear()
                self._stir.wait()
            self._stir.clear()
