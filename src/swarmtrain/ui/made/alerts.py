"""The table of docs/alerts.md, made of the events that a job can name: `protocol/alerts/kinds.py`."""

from __future__ import annotations

import re

from swarmtrain.protocol.alerts.kinds import WORDS

_MADE = re.compile(r"(<!-- alerts -->\n).*?(<!-- end -->)", re.DOTALL)


def with_alerts(page: str) -> str:
    """A page with what stands between its comments made anew."""
    lines = ["| event | when | it reads |", "|---|---|---|"]
    lines += [f"| `{kind}` | {words.when} | digits.3 {words.title} |" for kind, words in WORDS.items()]
    table = "\n".join(lines)
    return _MADE.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page)
