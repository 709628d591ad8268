"""What a check is, and what it finds. Pure.

A check is a row of a table: its code, how bad it is, what it looks for, and a pure function from facts to what is
wrong. The facts are gathered elsewhere, by reading a file, asking Docker, or trying; the command line, the
documentation and ``--list`` are made of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

F = TypeVar("F")


class Severity(str, Enum):
    """How bad a finding is, the worst first."""

    ERROR = "error"  # training does not start, ends, or gives wrong results
    WARNING = "warning"  # it works until something happens, or is slow
    NOTE = "note"  # worth knowing
    OK = "ok"  # was looked at, and is as it should be


ORDER = tuple(Severity)


@dataclass(frozen=True)
class Flaw:
    """What the function of a check returns, one for each thing that is wrong.

    Args:
        subject: what it is about: a node, a pair of nodes, the line of a file; empty for all of it.
        sentence: what is wrong and what comes of it, without a trailing full stop.
        mend: the command or the text that mends it.
        evidence: what was seen, a line each.
        severity: where it differs from the check's.
    """

    subject: str
    sentence: str
    mend: str = ""
    evidence: tuple[str, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True)
class CheckFinding:
    """One thing that was found, as it is shown."""

    code: str
    severity: Severity
    subject: str
    sentence: str
    evidence: tuple[str, ...] = ()
    mend: str = ""

    def dump(self) -> dict[str, object]:
        """What ``--json`` prints of it."""
        return {**vars(self), "severity": self.severity.value, "evidence": list(self.evidence)}


@dataclass(frozen=True)
class Check(Generic[F]):
    """One row of a table of checks.

    Args:
        code: its name, also that of its findings.
        severity: of what it finds, unless that says otherwise.
        looks: what it looks for and why, for lists and pages.
        find: from facts to what is wrong; it raises nothing.
        good: what is said where it found nothing, from the same facts; empty where that is not worth a line.
    """

    code: str
    severity: Severity
    looks: str
    find: Callable[[F], Iterable[Flaw]]
    good: Callable[[F], str] = lambda _: ""


def run(checks: Sequence[Check[F]], facts: F) -> list[CheckFinding]:
    """Everything that these checks find in these facts, the worst first."""
    findings = [finding for check in checks for finding in _findings(check, facts)]
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def _findings(check: Check[F], facts: F) -> list[CheckFinding]:
    found = list(check.find(facts))
    if not found and (good := check.good(facts)):
        return [CheckFinding(check.code, Severity.OK, "", good)]
    return [
        CheckFinding(
            check.code, each.severity or check.severity, each.subject, each.sentence, each.evidence, each.mend
        )
        for each in found
    ]


def has_errors(findings: Iterable[CheckFinding]) -> bool:
    """Whether training would not work: warnings alone do not count."""
    return any(finding.severity is Severity.ERROR for finding in findings)
