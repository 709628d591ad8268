"""Lines that go on stay at the bottom of a terminal, whatever is written above them."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from screen_fake import Screen

from swarmtrain.ui import below, terminal
from swarmtrain.ui.below import Below, fitted


class Sink(io.BytesIO):
    """A stream's buffer that shows at once."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._screen.write(data.decode())
        return len(data)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal that both streams lead to."""
    screen = Screen()
    streams = [io.TextIOWrapper(Sink(screen), "utf-8", write_through=True) for _ in range(2)]
    for stream in streams:
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdout=streams[0], stderr=streams[1]))
    monkeypatch.setattr(terminal, "_BELOW", Below())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 6)))
    yield screen


def test_bars_of_several_ranks_stay_below_what_is_written(screen: Screen) -> None:
    terminal.data(b"[0] begin\n")
    terminal.below(["[0] 10%", "[1] 12%"])
    assert screen.shown() == ["[0] begin", "[0] 10%", "[1] 12%"]
    terminal.say("node0 joined")
    assert screen.shown() == ["[0] begin", "swarmtrain: node0 joined", "[0] 10%", "[1] 12%"]
    terminal.below(["[0] 50%"])
    terminal.data(b"[1] 100%\n")
    assert screen.shown() == ["[0] begin", "swarmtrain: node0 joined", "[1] 100%", "[0] 50%"]
    terminal.below([])
    terminal.data(b"[0] 100%\n")
    terminal.words("end")
    assert screen.shown()[2:] == ["[1] 100%", "[0] 100%", "end"]


def test_a_bar_wider_than_the_terminal_is_cut_and_too_many_are_counted(screen: Screen) -> None:
    terminal.below([f"[{rank}] {'#' * 50}" for rank in range(9)])
    assert screen.shown() == [f"[{rank}] {'#' * 15}" for rank in range(3)] + ["(6 more lines that go on)"]
    assert all(len(row) < 26 for row in screen.shown())
    terminal.below(["one"])
    assert screen.shown() == ["one"]


def test_what_a_worker_writes_moves_no_cursor_there() -> None:
    line = "\x1b[31m 5%\x1b[0m\x1b[2K\x1b[A\x07 a\tb \x1b]0;title\x07c \x1b[1;1H\x9b2J日本"
    assert fitted(line, 40) == " 5% a   b c 日本"
    assert fitted("日本日本", 5) == "日本"
    assert fitted("", 5) == ""
    assert below.fitted("x" * 9, 4) == "xxxx"


def test_nothing_is_drawn_anew_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, screen: Screen) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.can_redraw()
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.can_redraw()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(vars(terminal)["sys"].stdout, "isatty", lambda: False)
    assert not terminal.can_redraw()
