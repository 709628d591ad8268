"""A diagnosis: what is wrong with a run, in words that a person can check and act on.

`diagnosis.diagnose` makes it, of what a coordinator knows; every screen shows it.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from swarmtrain.protocol import codec
from swarmtrain.protocol.schema import OMITTED, Struct, WireKey

Sureness = Literal["certain", "likely", "possible", "unknown"]


class Observation(Struct):
    """One thing that was seen, and that the diagnosis rests on.

    Attributes:
        text: what was seen, quoted where somebody said it.
        rank, node: of whom; missing where it is of the whole run.
        time: Unix time by the run's clock.
        place: the line of the user's source, ``train.py:57 in step``.
        code: that line itself, where a traceback shows it.
    """

    text: str
    rank: Annotated[int | None, OMITTED] = None
    node: Annotated[str, OMITTED] = ""
    time: Annotated[float | None, WireKey("t"), OMITTED] = None
    place: Annotated[str, OMITTED] = ""
    code: Annotated[str, OMITTED] = ""


class Remedy(Struct):
    """Something that may help.

    Attributes:
        text: what to do, in a sentence.
        command: to copy; empty where no command does it.
    """

    text: str
    command: Annotated[str, OMITTED] = ""


class Diagnosis(Struct, kw_only=True):
    """What is wrong with a run, or that nothing is.

    Attributes:
        code: its kind; docs/diagnosis.md lists them, `swarmtrain explain CODE` tells more.
        verdict: who and what, in one line.
        since: when it began, Unix time by the run's clock; null where nobody knows.
        step: the last one that was made before.
        rank, node: to whom it leads; null and empty where it is nobody, or nobody knows.
        evidence: what was seen, the most telling first.
        cause: why it is so, in a sentence.
        sure: how sure the cause is. What the verdict says was seen.
        remedies: what to do, the most promising first.
        unseen: what could not be seen, in sentences.
    """

    run: str
    code: str
    verdict: str
    since: float | None = None
    step: int | None = None
    rank: int | None = None
    node: str = ""
    evidence: list[Observation] = field(default_factory=list)
    cause: str = ""
    sure: Sureness = "unknown"
    remedies: list[Remedy] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def dump(self) -> dict[str, object]:
        """As JSON, as `swarmtrain explain --json` prints it."""
        return codec.dump(self)
