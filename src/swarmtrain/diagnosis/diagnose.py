"""What is wrong with a run: a pure function of what is known of it. Called by coordinators and by clients."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case, last_words
from swarmtrain.diagnosis.echoes import is_consequence
from swarmtrain.diagnosis.frames import place
from swarmtrain.diagnosis.rule import Conclusion, Rule, seen_at
from swarmtrain.diagnosis.rules.collectives import names
from swarmtrain.diagnosis.rules.endings import again
from swarmtrain.diagnosis.table import RULES
from swarmtrain.protocol.evidence.diagnosis import Diagnosis, Observation
from swarmtrain.protocol.facts import Failure
from swarmtrain.wire.plural import plural

_LETTERS = 300  # of what somebody says, in a line of evidence
_OTHERS = 8  # failures that are told one by one


def diagnose(case: Case) -> Diagnosis:
    """The diagnosis of the first rule that knows the case; the last one knows every case."""
    rule, found = next((each, found) for each in RULES if (found := each.look(case)) is not None)
    return _diagnosis(case, rule, found)


def _diagnosis(case: Case, rule: Rule, found: Conclusion) -> Diagnosis:
    failure, status = found.failure, case.status
    seen = [*found.seen, *_standard(case, found)]
    return Diagnosis(
        run=status.run,
        code=rule.code,
        verdict=_short(found.verdict),
        since=failure.time if failure is not None and failure.time else None,
        step=status.step if failure is not None else None,
        rank=failure.rank if failure is not None and found.knows_who else None,
        node=failure.node if failure is not None and found.knows_who else "",
        evidence=list({(each.text, each.rank, each.node): each for each in seen}.values()),
        cause=found.cause,
        sure=found.sure,
        remedies=list(found.remedies),
        unseen=[*found.unseen, *_unseen(case)],
    )


def _standard(case: Case, found: Conclusion) -> list[Observation]:
    """What is told of every failure: its own words, those of others, what followed, and that it was so before."""
    failure = found.failure
    told = {(each.rank, each.place) for each in found.seen if each.place}
    seen = [_words(each) for each in case.causes[:1] if (each.rank, place(each.traceback)) not in told]
    if failure is not None and failure in case.causes[1:]:
        seen.insert(0, _words(failure))
    others = [each for each in case.causes[1:] if each is not failure and not is_consequence(each)]
    others = [each for each in others if (each.rank, place(each.traceback)) not in told]
    same = [each for each in others if _like(each) == _like(case.causes[0]) and each.rank is not None]
    if same:
        ranks = sorted(each.rank for each in same if each.rank is not None)
        seen.append(
            Observation(f"{names(ranks)} failed in the same way", time=min(each.time for each in same))
        )
    seen += [_words(each) for each in others if each not in same][:_OTHERS]
    named = {each.rank for each in found.seen}
    echoes = [each for each in case.causes[1:] if is_consequence(each) and each.rank not in named]
    ranks = sorted({each.rank for each in echoes if each.rank is not None})
    if ranks and case.first is not None:
        later = max(0.0, min(each.time for each in echoes) - case.first.time)
        lost = plural(len(ranks), "lost", "lost")
        seen.append(Observation(f"{names(ranks)} {lost} touch with another rank, {later:.1f} s later"))
    if (repeated := again(case)) is not None:
        seen.append(repeated)
    elif case.attempts and case.causes:
        seen.append(
            Observation(
                f"{plural(len(case.attempts), 'a generation', f'{len(case.attempts)} generations')} before "
                f"failed, too: the last of {_short(case.attempts[-1].signature)}"
            )
        )
    return seen


def _like(failure: Failure) -> tuple[str, str]:
    """What equal failures have in common."""
    return re.sub(r"\d+", "#", failure.summary), place(failure.traceback)


def _words(failure: Failure) -> Observation:
    """A failure as it was told."""
    raised = last_words(failure)
    return seen_at(failure, _told(f"{failure.summary}: {raised}" if raised else failure.summary))


def _told(summary: str) -> str:
    """What is said, on one line; of what quotes another process's traceback, its first line and its last."""
    lines = [line for line in map(str.strip, summary.splitlines()) if line]
    return _short(
        summary if len(summary) <= _LETTERS else " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))
    )


def _short(text: str) -> str:
    """Text of several lines as one, not too long."""
    line = " / ".join(filter(None, map(str.strip, text.splitlines())))
    return line if len(line) <= _LETTERS else f"{line[:_LETTERS]}..."


def _unseen(case: Case) -> list[str]:
    """What is missing in any case of this kind."""
    first = case.first
    if first is None or first.rank is None or first.kind in ("exception", "hang"):
        return []
    if first.log or case.lines.get(first.rank):
        return []
    return [f"What rank {first.rank} wrote last: no line of it is here."]
