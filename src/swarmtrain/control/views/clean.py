"""What strangers wrote, as a terminal may show it: nothing in it drives the terminal of who reads. Pure.

Workers, nodes and journals may hold anything, also sequences that move the cursor, name the window, fill the clipboard
or change the character set. Colours are kept, less what hides text. Everything else that a terminal would obey is left
out; what would only turn letters about, or stands for no character, is written out (``\\u202e``).

Each line is looked at by itself. So a sequence of which only a part is there is none: its letters are shown.
"""

from __future__ import annotations

import re

_CONTROL = r"\x00-\x08\x0a-\x1f\x7f-\x9f"
# ECMA-48: CSI parameters intermediates final; OSC, DCS, SOS, PM and APC with a string up to ST (xterm: or BEL); ESC
# intermediates final. Each has its form in one character of C1, too. A string is looked for up to the next control
# character only, so that many beginnings without an end are looked through once.
_TOKEN = re.compile(
    r"(?:\x1b\[|\x9b)(?P<colours>[0-9;:]*)m"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^{_CONTROL}]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
    rf"|[{_CONTROL}]"
    # What turns the order of letters, begins lines or annotations; bytes that an 8-bit terminal obeys; no characters.
    r"|(?P<odd>[\u202a-\u202e\u2066-\u2069\u2028\u2029\ufff9-\ufffb\ud800-\udc9f])"
)
_LONGEST = 64  # characters of a colour
_CONCEAL = 8
_EXTENDED = (38, 48, 58)  # a colour follows: 5;INDEX or 2;RED;GREEN;BLUE
_SUBPARAMETERS = (4, *_EXTENDED)  # that are written with colons: 4:3 is a wavy underline
_PLAIN = "\x1b[0m"


def clean(text: str, *, colour: bool = True) -> str:
    """One line as a terminal may show it; what it colours, it colours up to its own end.

    Args:
        colour: keep colours.
    """
    if not _TOKEN.search(text):
        return text
    shown = _TOKEN.sub(_colours if colour else _written, text)
    _, coloured, end = shown.rpartition("\x1b")
    return shown + _PLAIN if coloured and not end.startswith(("[0m", "[m")) else shown


def clean_lines(text: str, *, colour: bool = True) -> str:
    """Several lines."""
    return "\n".join(clean(line, colour=colour) for line in text.split("\n"))


def _written(token: re.Match[str]) -> str:
    odd = token["odd"]
    if not odd:
        return ""
    code = ord(odd)
    if code >= 0xDC80 and code <= 0xDC9F:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"


def _colours(token: re.Match[str]) -> str:
    codes = token["colours"]
    if codes is None or len(codes) > _LONGEST:
        return _written(token)
    kept = _visible(codes.split(";"))
    return f"\x1b[{';'.join(kept)}m" if kept else ""


def _visible(codes: list[str]) -> list[str]:
    """The parameters of a colour less those that hide text."""
    kept: list[str] = []
    while codes:
        head, *rest = codes[0].split(":")
        number, length = int(head or 0), 1
        if number in _EXTENDED and not rest:
            length = {"5": 3, "2": 5}.get(codes[1] if len(codes) > 1 else "", 1)
        if number in _SUBPARAMETERS if rest else number != _CONCEAL:
            kept += codes[:length]
        codes = codes[length:]
    return kept
