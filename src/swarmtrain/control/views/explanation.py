"""A diagnosis as people read it: verdict, evidence, cause, what to try, and what could not be seen. Pure."""

from __future__ import annotations

import textwrap

from swarmtrain.control.views.format import one_line
from swarmtrain.control.views.logs import clock_time
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation
from swarmtrain.protocol.status import Status

WIDTH = 80
_QUIET = ("healthy", "starting", "succeeded", "stopped-by-a-person")  # kinds that are no trouble


def is_trouble(diagnosis: Diagnosis) -> bool:
    """Whether something is wrong that a person should know of."""
    return diagnosis.code not in _QUIET


def render(diagnosis: Diagnosis, width: int = WIDTH) -> list[str]:
    """All of it. Commands are never broken: they are there to be copied."""
    lines = [*_wrapped("", one_line(diagnosis.verdict), width)]
    if since := _since(diagnosis):
        lines.append(f"  {since}")
    if diagnosis.evidence:
        lines += ["", *(line for each in diagnosis.evidence for line in _observation(each, width))]
    lines += advice(diagnosis, width)
    if is_trouble(diagnosis):
        lines += ["", f"more of this kind: swarmtrain explain {diagnosis.code}"]
    return lines


def verdict(diagnosis: Diagnosis) -> str:
    """One line: who, what, and since when."""
    since = _since(diagnosis)
    return one_line(diagnosis.verdict) + (f", {since}" if since else "")


def news(diagnosis: Diagnosis, status: Status) -> str:
    """The verdict for a screen that tells the failure besides; empty where it would only say the same again."""
    told = status.cause.summary if status.cause is not None else status.reason
    first = next(iter(told.strip().splitlines()), "")
    if not is_trouble(diagnosis) or (status.has_ended and first and first in diagnosis.verdict):
        return ""
    return verdict(diagnosis)


def advice(diagnosis: Diagnosis, width: int = WIDTH) -> list[str]:
    """Its cause, what to try, and what could not be seen; each after an empty line."""
    lines: list[str] = []
    if diagnosis.cause:
        sure = f"({diagnosis.sure})" if diagnosis.sure != "unknown" else "(not sure)"
        lines += ["", *_wrapped("cause: ", f"{one_line(diagnosis.cause)} {sure}", width)]
    if diagnosis.remedies:
        lines.append("")
    for number, remedy in enumerate(diagnosis.remedies):
        lines += _wrapped("try: " if number == 0 else "     ", remedy.text, width)
        if remedy.command:
            lines.append(f"       {remedy.command}")
    if diagnosis.unseen:
        lines.append("")
    for number, sentence in enumerate(diagnosis.unseen):
        lines += _wrapped("not seen: " if number == 0 else " " * 10, sentence, width)
    return lines


def _since(diagnosis: Diagnosis) -> str:
    parts = []
    if diagnosis.since is not None:
        parts.append(f"since {clock_time(diagnosis.since)}")
    if diagnosis.step is not None:
        parts.append(f"at step {diagnosis.step}")
    return ", ".join(parts)


def _observation(seen: Observation, width: int) -> list[str]:
    """Who, when and where in one line, and what was seen below it; in one line where nobody is named."""
    who = " on ".join(filter(None, (f"rank {seen.rank}" if seen.rank is not None else "", seen.node)))
    when = clock_time(seen.time)[-8:] if seen.time is not None else ""
    text = one_line(seen.text)
    if not who and not seen.place:
        return _wrapped("  ", "  ".join(filter(None, (when, text))), width)
    head = "  ".join(filter(None, (who, when, seen.place)))
    code = [f"    > {seen.code}"] if seen.code else []
    return [f"  {head}", *code, *_wrapped("    ", text, width)]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """Text after a head, its further lines below its first word."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
