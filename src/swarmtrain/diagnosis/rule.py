"""A rule: a kind of fault, how it is known, and what is said of it. The rules themselves are in `rules`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

from swarmtrain.diagnosis.case import Case, said, written
from swarmtrain.diagnosis.frames import own
from swarmtrain.diagnosis.measures import Measures
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy, Sureness
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.schema import Struct


class Conclusion(Struct, kw_only=True):
    """What a rule says of a case that it knows.

    Attributes:
        verdict: who and what; by default what the failure says of itself.
        failure: whom it leads to; None where that is nobody.
        seen: what it rests on, besides what is told of every failure.
        knows_who: it can be told whom it leads to.
    """

    verdict: str = ""
    cause: str
    sure: Sureness
    failure: Failure | None = None
    seen: Sequence[Observation] = ()
    remedies: Sequence[Remedy] = ()
    unseen: Sequence[str] = ()
    knows_who: bool = True


class Rule(Struct, kw_only=True):
    """One kind.

    Attributes:
        code: its name: ``disk-full``.
        title: the kind in a sentence.
        about: more of it: what it means, how it comes about, what helps.
        look: what it says of a case; None where the case is of another kind.
        produced: the names of faults that produced it for real; without any, its words were read and not seen.
        test: what holds it to its words then, in tests/unit/test_diagnosis.py.
    """

    code: str
    title: str
    about: str
    look: Callable[[Case], Conclusion | None]
    produced: Sequence[str] = ()
    test: str = ""


class Help(Struct):
    """A remedy with blanks, as `by_words` fills them."""

    text: str
    command: str = ""

    def filled(self, facts: Mapping[str, object]) -> Remedy:
        """The remedy of one case."""
        return Remedy(self.text.format_map(facts), self.command.format_map(facts))


class Words(Struct, kw_only=True):
    """A kind that is known by what somebody says.

    In sentences and commands are blanks: ``{who}``, ``{rank}``, ``{node}``, ``{run}``, ``{target}``, ``{summary}``,
    ``{there}`` (before a command that is to run on the node),
    and what the pattern names.

    Attributes:
        pattern: in the failure's summary, or in what its traceback raises. What it names ``weak`` is less sure.
        where: a pattern of the traceback's lines, which counts as well, where it is less sure.
        verdict, cause: with blanks.
        kinds: of failures; by default those in which a program says something.
        in_lines: it counts in the last lines of a rank that has no traceback, too, where it is less sure.
        sure: of the cause, where the failure itself says it.
        anyone: the failure of any rank counts, not only the first.
        measured: what of the measurements of its node is evidence.
    """

    pattern: str
    verdict: str
    cause: str
    where: str = ""
    kinds: Sequence[str] = ("exception", "exit", "signal", "memory")
    in_lines: bool = False
    sure: Sureness = "certain"
    anyone: bool = False
    measured: Callable[[Measures, Failure], Iterable[Observation]] | None = None
    help: Sequence[Help] = ()
    unseen: Sequence[str] = field(default_factory=tuple)


_LESS: Mapping[Sureness, Sureness] = {"certain": "likely", "likely": "possible", "possible": "possible"}


def by_words(
    code: str, title: str, words: Words, about: str, produced: Sequence[str] = (), *, test: str = ""
) -> Rule:
    """A rule that knows its kind by what is said."""
    pattern = re.compile(words.pattern, re.IGNORECASE | re.MULTILINE)

    def look(case: Case) -> Conclusion | None:
        for failure in case.causes if words.anyone else case.causes[:1]:
            if failure.kind in words.kinds and (found := _found(pattern, failure, words)) is not None:
                match, sure, line = found
                if match.groupdict().get("weak"):
                    sure = _LESS[sure]
                facts = {**facts_of(case, failure), **match.groupdict("")}
                return Conclusion(
                    verdict=words.verdict.format_map(facts),
                    cause=words.cause.format_map(facts),
                    sure=sure,
                    failure=failure,
                    seen=[
                        *([Observation(line, failure.rank, failure.node)] if line else []),
                        *(words.measured(case.measures, failure) if words.measured is not None else ()),
                    ],
                    remedies=[each.filled(facts) for each in words.help],
                    unseen=[each.format_map(facts) for each in words.unseen],
                )
        return None

    return Rule(code=code, title=title, about=about, look=look, produced=produced, test=test)


def _found(
    pattern: re.Pattern[str], failure: Failure, words: Words
) -> tuple[re.Match[str], Sureness, str] | None:
    """Where it is said, how sure the cause is then, and the line that says it, where the failure itself does not."""
    if match := pattern.search(said(failure)):
        return match, words.sure, ""
    if words.where and (match := re.search(words.where, failure.traceback, re.MULTILINE)):
        return match, _LESS[words.sure], ""
    if words.in_lines and not failure.traceback:
        for line in reversed(failure.log):
            if match := pattern.search(line):
                return match, _LESS[words.sure], f"its last lines say: {line.strip()}"
    return None


def facts_of(case: Case, failure: Failure) -> dict[str, object]:
    """What the blanks of sentences become."""
    return {
        "who": who(failure),
        "there": there(case, failure),
        "summary": failure.summary,
        "rank": "" if failure.rank is None else failure.rank,
        "node": failure.node or "a node",
        "run": case.status.run,
        "job": case.status.job,
        "target": case.status.target or "train.py",
    }


def who(failure: Failure) -> str:
    """Whom a failure befell: ``rank 1 on lab-2``, or the whole node."""
    node = failure.node or "an unknown node"
    return node if failure.rank is None else f"rank {failure.rank} on {node}"


def there(case: Case, failure: Failure) -> str:
    """What stands before a command that is to run on a failure's node.

    After the end of a run nothing is left beside which it could: then it is run on the machine itself.
    """
    if not case.status.has_ended:
        return f"swarmtrain exec {case.status.run} {failure.node} -- "
    return f"ssh {failure.node} " if case.status.coordinator else ""


def seen_at(failure: Failure, text: str) -> Observation:
    """An observation of where a failure was, with the line of the user's source."""
    line = own(failure.traceback)
    at, code = (str(line), line.code) if line is not None else ("", "")
    return Observation(text, failure.rank, failure.node, failure.time or None, at, code)


def logs_of(case: Case, failure: Failure) -> Remedy:
    """Where more of it stands."""
    rank = "" if failure.rank is None else f" --rank {failure.rank}"
    return Remedy("Read what it wrote before.", f"swarmtrain logs {case.status.run}{rank} --tail 50")


def says(failure: Failure, pattern: str) -> bool:
    """Whether a failure, or what its rank wrote before its end, says something."""
    text = said(failure) if failure.traceback else f"{said(failure)}\n{written(failure)}"
    return re.search(pattern, text, re.IGNORECASE | re.MULTILINE) is not None
