"""What keys do on the live screen: bytes of a terminal become keys, and a key changes what is seen. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from swarmtrain.control.views.logs import parse_ranks
from swarmtrain.errors import RequestError
from swarmtrain.ui.top.frame import TopView
from swarmtrain.ui.top.parts import NAMES

_PAGE = 10  # rows
# ECMA-48 and xterm: CSI or SS3, with parameters, and a final byte. One escape alone is the key of that name.
_KEY = re.compile(rb"\x1b[\[O][0-?]*[ -/]*([@-~])|\x1b\x1b?|[\x00-\x7f]|[\x80-\xff]+")
_LETTERS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}
_NAMED = {
    b"\x1b": "escape",
    b"\t": "tab",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b" ": "space",
    b"\x0c": "redraw",
}
_PAGES = {b"\x1b[5~": "page up", b"\x1b[6~": "page down"}
_ALONE = {name[0]: name for name in ("nodes", "gpus", "events", "output")} | {"k": "ranks", "c": "loss"}
_MOVES = {"up": -1, "down": 1, "page up": -_PAGE, "page down": _PAGE}


def keys_in(data: bytes) -> Iterator[str]:
    """The keys that were pressed, by name; what is none of them is left out."""
    for match in _KEY.finditer(data):
        text = match[0]
        name = _PAGES.get(text) or _NAMED.get(text) or _LETTERS.get(match[1] or b"", "")
        if name:
            yield name
        elif len(text) == 1 and text.isascii() and text.decode().isprintable():
            yield text.decode()


def pressed(view: TopView, key: str, ranks: Sequence[int], parts: Sequence[str] = NAMES) -> TopView | None:
    """What is seen after a key; None where it leaves.

    Args:
        ranks: that there are.
        parts: the names of those that there are.
    """
    if view.typed is not None:
        return _typed(view, view.typed, key)
    view = replace(view, complaint="")
    if key == "q":
        return None
    if view.help:
        return replace(view, help=False)
    match key:
        case "?" | "h":
            return replace(view, help=True)
        case "space" | "p":
            return replace(view, paused=0.0 if view.paused is None else None)
        case "r":
            return replace(view, typed="")
        case "escape":
            return replace(view, alone="", ranks=(), moved=0)
        case "tab":
            return replace(view, alone=_next(view.alone, parts), moved=0)
        case "left" | "right":
            return replace(view, ranks=_beside(view.ranks, ranks, 1 if key == "right" else -1), moved=0)
    if key in _ALONE:
        return replace(view, alone="" if view.alone == _ALONE[key] else _ALONE[key], moved=0)
    if key in _MOVES and view.alone:
        ends = view.alone in ("events", "output")  # whose newest rows are the last ones
        return replace(view, moved=max(0, view.moved + (-_MOVES[key] if ends else _MOVES[key])))
    return view


def _typed(view: TopView, text: str, key: str) -> TopView:
    if key == "escape":
        return replace(view, typed=None)
    if key == "backspace":
        return replace(view, typed=text[:-1])
    if key != "enter":
        return replace(view, typed=text + key) if key in "0123456789,-" else view
    try:
        ranks = parse_ranks(text) if text else ()
    except RequestError as error:
        return replace(view, typed=None, complaint=f"{error.message}: {error.hint}")
    return replace(view, typed=None, ranks=ranks, moved=0)


def _next(alone: str, parts: Sequence[str]) -> str:
    places = ("", *parts)
    return places[(places.index(alone) + 1) % len(places)] if alone in places else ""


def _beside(chosen: Sequence[int], there: Sequence[int], way: int) -> tuple[int, ...]:
    """The next rank, or the one before; from all ranks on the first, or the last."""
    if not there:
        return ()
    ordered = sorted(there)
    if not chosen or chosen[0] not in ordered:
        return (ordered[0 if way > 0 else -1],)
    return (ordered[(ordered.index(chosen[0]) + way) % len(ordered)],)
