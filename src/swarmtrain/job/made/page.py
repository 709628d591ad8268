"""The tables of docs/job-file.md, made of the job's keys. `ui.made.pages` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmtrain.job.spec import KEYS

_TABLE = re.compile(r"(?<=<!-- keys: )([^\n]+)( -->\n).*?(?=<!-- end of keys -->)", re.DOTALL)
_HEADING = "| key | type | default | meaning | example | flags |\n|---|---|---|---|---|---|\n"


def with_tables(page: str) -> str:
    """The page with the table of each section behind the mark that names it."""
    return _TABLE.sub(lambda mark: f"{mark[1]}{mark[2]}{_HEADING}{''.join(_rows(mark[1]))}", page)


def _rows(section: str) -> Iterator[str]:
    here = ""
    for each in KEYS.values():
        here = each.key.section or here
        if here == section:
            flags = [flag.spelling for flag in each.key.flags or () if not flag.hidden]
            cells = [
                *(f"`{each.name}`", each.takes.words, each.key.default or _code(each.written), each.key.text),
                *(_code(each.key.example), ", ".join(map(_code, flags))),
            ]
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
