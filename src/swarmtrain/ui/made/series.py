"""The tables of docs/metrics.md, made of the series that there are: `protocol/series/table.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from swarmtrain.protocol.series.table import NODE, TRAINING, SeriesKind

_MADE = re.compile(r"(<!-- series: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_series(page: str) -> str:
    """A page with what stands between its comments made anew."""
    tables = {"training": _table(TRAINING), "nodes": _table(NODE)}
    return _MADE.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n{match[3]}", page)


def _table(kinds: Iterable[SeriesKind]) -> str:
    lines = ["| series | unit | what |", "|---|---|---|"]
    for kind in kinds:
        labels = f"; also labelled {', '.join(f'`{each}`' for each in kind.labels)}" if kind.labels else ""
        lines.append(f"| `{kind.name}` | {kind.unit} | {kind.text}{labels} |")
    return "\n".join(lines) + "\n"
