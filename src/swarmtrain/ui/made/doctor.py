"""The tables of docs/doctor.md, made of the doctor's own. `ui.made.pages` writes them.

Between two comments, ``<!-- checks: NAME -->`` and ``<!-- end -->``, stands what is made.
"""

from __future__ import annotations

import re

from swarmtrain.doctor.tables import TABLES

_MADE = re.compile(r"(<!-- checks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_checks(page: str) -> str:
    """A page with what stands between its comments made anew."""
    return _MADE.sub(lambda match: f"{match[1]}\n{_table(match[2])}\n{match[3]}", page)


def _table(name: str) -> str:
    table = next(each for each in TABLES if each.name == name)
    rows = [f"| `{check.code}` | {check.severity.value} | {check.looks} |" for check in table.checks]
    return "\n".join(["| check | finds | looks for |", "|---|---|---|", *rows, ""])
