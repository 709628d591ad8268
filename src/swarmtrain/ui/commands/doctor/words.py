"""What the doctor found, as a person reads it: a paragraph a finding, the worst first, in 80 columns. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from swarmtrain.doctor.check import ORDER, Check, CheckFinding, Severity
from swarmtrain.ui.terminal import CYAN, GREEN, RED, YELLOW
from swarmtrain.wire.plural import counted

STYLES = {Severity.ERROR: RED, Severity.WARNING: YELLOW, Severity.NOTE: CYAN, Severity.OK: GREEN}
_INDENT = " " * 9  # the longest severity and two blanks


def paragraph(finding: CheckFinding, width: int = 80) -> list[str]:
    """The lines of one finding: where and what it is, the sentence, what was seen, what to do."""
    name = finding.severity.value
    if finding.severity is Severity.OK:
        return _wrapped(f"{name:9}", finding.sentence, width)
    about = f"{finding.subject}  [{finding.code}]" if finding.subject else f"[{finding.code}]"
    lines = [*_wrapped(f"{name:9}", about, width), *_wrapped(_INDENT, finding.sentence, width)]
    for seen in finding.evidence:
        lines += _wrapped(f"{_INDENT}- ", seen, width)
    if finding.mend:
        lines += _wrapped(f"{_INDENT}do: ", finding.mend, width)
    return lines


def row(check: Check[Any], width: int = 80) -> list[str]:
    """A check in a list of them."""
    return _wrapped(f"  {check.code:18} {check.severity.value:8} ", check.looks, width)


def summary(findings: Sequence[CheckFinding]) -> str:
    """How many there are of each kind."""
    counts = Counter(finding.severity for finding in findings)
    parts = [counted(counts[each], each.value) for each in ORDER if each is not Severity.OK and counts[each]]
    fine = f"{counted(counts[Severity.OK], 'check')} fine" if counts[Severity.OK] else ""
    if not parts:
        return f"nothing is wrong: {fine}" if fine else "nothing is wrong"
    return ", ".join([*parts, *([fine] if fine else [])])


def _wrapped(start: str, text: str, width: int) -> list[str]:
    """Text behind a start, its later lines below its first; a word that is longer than a line stays whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
