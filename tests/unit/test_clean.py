"""What strangers wrote drives no terminal."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtrain.control.views import format
from swarmtrain.control.views.clean import clean, clean_lines
from swarmtrain.wire import frames

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_DRIVES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")

# Pieces of sequences, whole ones, and what stands between them.
_PIECES = st.sampled_from(
    [
        *(
            "\x1b",
            "\x1b[",
            "\x1b]",
            "\x1bP",
            "\x1b_",
            "\x1b^",
            "\x1bX",
            "\x1b\\",
            "\x9b",
            "\x9c",
            "\x9d",
            "\x90",
        ),
        *("\x07", "\x08", "\r", "\n", "\x0e", "\x0f", "\x00", "\x7f", "\x85", "\t"),
        *(
            "52;c;aGk=",
            "0;title",
            "2J",
            "H",
            "1A",
            "?25l",
            "(0",
            "c",
            "m",
            "31",
            "8",
            ";",
            ":",
            "38;5;8",
            "\x18",
        ),
        *("\u202e", "\u2066", "\u2028", "\udc9b", "\udcc2", "\udce2\udc80\udcae", "\ud800", "\udc41"),
        *(
            "loss 0.1",
            "é",
            "█",
            "日本",
            "\U0001f469\u200d\U0001f52c",
            "\x1b[31m",
            "\x1b[0m",
            "\x1b[1;38;5;8m",
        ),
    ]
)
_TEXTS = st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=12).map("".join)


@given(_TEXTS)
def test_nothing_that_is_shown_drives_a_terminal(text: str) -> None:
    for colour in (True, False):
        shown = clean(text, colour=colour)
        assert not _DRIVES.search(_COLOUR.sub("", shown) if colour else shown)
        again = frames.raw(shown).decode("utf-8", "replace")  # as a terminal reads the bytes
        assert not _DRIVES.search(_COLOUR.sub("", again))


@given(_TEXTS)
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert clean(once, colour=False) == clean(text, colour=False)


@given(_TEXTS)
def test_colours_end_with_their_line(text: str) -> None:
    shown = clean(text)
    codes = _COLOUR.findall(shown)
    assert not codes or codes[-1] in ("\x1b[0m", "\x1b[m")
    assert not any("8" in code[2:-1].split(";") and "38;" not in code for code in codes)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp"))))
def test_letters_stay_what_they_are(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loss\t0.1 \x1b[1;31mbad\x1b[0m", "loss\t0.1 \x1b[1;31mbad\x1b[0m"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x9b32mgreen", "\x1b[32mgreen\x1b[0m"),
        ("\x1b]52;c;cm0gLXJm\x07clipboard", "clipboard"),
        ("\x1b]0;root@bank\x1b\\title", "title"),
        ("\x9d0;root@bank\x9ctitle", "title"),
        ("\x1b]0;never ends", "0;never ends"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[H\x1b[10Acursor\x1b[?1049h\x1b[6n", "cursor"),
        ("\x1b(0charset\x0e\x1bc\x1b#8", "charset"),
        ("a\x1b[3", "a3"),
        ("1mb", "1mb"),
        ("pass\x1b[8mword\x1b[28m", "password\x1b[28m\x1b[0m"),
        ("\x1b[1;08;4mx", "\x1b[1;4mx\x1b[0m"),
        ("\x1b[8:1mx", "x"),
        ("\x1b[38;5;8mgrey \x1b[48;2;8;8;8mground", "\x1b[38;5;8mgrey \x1b[48;2;8;8;8mground\x1b[0m"),
        ("\x1b[4:3;58:2::8:8:8mwavy", "\x1b[4:3;58:2::8:8:8mwavy\x1b[0m"),
        ("\x1b[mplain", "\x1b[mplain"),
        (f"\x1b[{'1;' * 40}mlong", "long"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("one\u2028two", r"one\u2028two"),
        ("\udcc2\x1b[K\udc9b2J", "\udcc2\\x9b2J"),  # joined they would be a control character
        ("caf\udce9", "caf\udce9"),
        ("\ud800", r"\ud800"),
        ("10%\x08\x08\x0820%\x07", "10%20%"),
    ],
)
def test_what_becomes_of(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_sequence_in_two_pieces_is_no_sequence() -> None:
    whole = "\x1b]52;c;cm0gLXJm\x07 and \x1b[2J"
    for cut in range(1, len(whole)):
        assert not _DRIVES.search(clean(whole[:cut]) + clean(whole[cut:]))


def test_several_lines_stay_several() -> None:
    assert clean_lines("a\x1b[2J\n\x1b[31mb\nc") == "a\n\x1b[31mb\x1b[0m\nc"


def test_a_sentence_of_an_event_drives_nothing() -> None:
    assert format.one_line("lab-2\x1b]0;x\x07 was lost\nfor \x1b[31mever") == "lab-2 was lost / for ever"


@pytest.mark.parametrize(
    "text", ["\x1b]" * 200_000, "\x9d" * 200_000, "\x1b[" * 200_000, "\x1b[31m" * 100_000]
)
def test_a_line_without_end_is_looked_through_once(text: str) -> None:
    began = time.process_time()
    clean(text)
    assert time.process_time() - began < 2.0
