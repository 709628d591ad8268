"""What keys do on the live screen."""

from __future__ import annotations

import pytest

from swarmtrain.ui.top.frame import TopView
from swarmtrain.ui.top.keys import keys_in, pressed

RANKS = (0, 1, 2, 3)


def after(keys: str, view: TopView | None = None) -> TopView | None:
    found: TopView | None = view or TopView()
    for key in keys_in(keys.encode()):
        assert found is not None
        found = pressed(found, key, RANKS)
    return found


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[A\x1bOB\x1b[C\x1b[1;5D", ["up", "down", "right", "left"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]),
        (b"\r\n\t \x7f\x0c", ["enter", "enter", "tab", "space", "backspace", "redraw"]),
        ("ä\x01".encode(), []),
        (b"\x1b[200~", []),
        (b"r0,2-3\r", ["r", "0", ",", "2", "-", "3", "enter"]),
    ],
)
def test_bytes_become_keys(data: bytes, keys: list[str]) -> None:
    assert list(keys_in(data)) == keys


def test_q_leaves_but_not_while_something_is_typed() -> None:
    assert after("q") is None
    assert after("rq") == TopView(typed="")
    assert after("?q") is None and after("?x") == TopView()


def test_space_pauses_and_goes_on() -> None:
    assert after(" ") == TopView(paused=0.0) and after(" p") == TopView()


def test_ranks_are_typed() -> None:
    assert after("r0,2-3") == TopView(typed="0,2-3")
    assert after("r0,2-3\r") == TopView(ranks=(0, 2, 3))
    assert after("r0\x7f1\r") == TopView(ranks=(1,))
    assert after("r1\x1b") == TopView() and after("r\r", TopView(ranks=(1,))) == TopView()
    wrong = after("r3-\r")
    assert wrong is not None and wrong.ranks == () and "'3-' is no list of ranks" in wrong.complaint
    assert after("x", wrong) == TopView(), "a complaint goes with the next key"


def test_arrows_go_through_the_ranks() -> None:
    assert after("\x1b[C") == TopView(ranks=(0,)) and after("\x1b[C\x1b[C") == TopView(ranks=(1,))
    assert after("\x1b[D") == TopView(ranks=(3,)) and after("\x1b[D\x1b[C") == TopView(ranks=(0,))
    assert after("\x1b[C\x1b") == TopView()


def test_parts_alone() -> None:
    assert (
        after("k") == TopView(alone="ranks")
        and after("kk") == TopView()
        and after("kn") == TopView(alone="nodes")
    )
    assert after("\t") == TopView(alone="advice") and after("\t" * 9) == TopView()
    assert after("k\x1b[B\x1b[B\x1b[A") == TopView(alone="ranks", moved=1)
    assert after("o\x1b[A\x1b[5~") == TopView(alone="output", moved=11), "up goes back in time"
    assert after("o\x1b[B") == TopView(alone="output") and after("\x1b[B") == TopView()


def test_tab_goes_through_the_parts_that_there_are() -> None:
    there = ("step", "ranks")
    seen = [TopView()]
    for _ in range(3):
        after_it = pressed(seen[-1], "tab", RANKS, there)
        assert after_it is not None
        seen.append(after_it)
    assert [each.alone for each in seen] == ["", "step", "ranks", ""]
    assert pressed(TopView(alone="gpus"), "tab", RANKS, there) == TopView(), "which have gone"
