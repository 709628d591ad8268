"""A plan of faults out of a YAML file or out of flags, with every mistake at once and the line that it is in.

Called by ``swarmtrain chaos``; `control.chaos` has the words of a plan.

    seed: 7
    for: 15m
    faults:
      - {at: step 120, do: kill-worker, rank: random}
      - {at: 30s, do: freeze, node: lab-2, for: 10s}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swarmtrain.control.chaos.faults import KINDS, LEAVE, LIMIT, MIX, RANDOM, SECONDS, Fault, FaultPlan, Kind
from swarmtrain.job import document
from swarmtrain.job.problems import JobError, KeyPath, Mistakes, Problem, did_you_mean, shown
from swarmtrain.job.units import parse_duration, parse_size

_KEYS = ("seed", "for", "faults")
_WHEN = ("at", "every")
_STEP = re.compile(r"step +(\d+)")
_RATE = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?[kmgt]?bit")


class PlanError(Mistakes):
    """A plan is wrong."""

    noun = "plan"


def read_plan(path: Path) -> FaultPlan:
    """The plan in a file.

    Raises:
        PlanError: with every mistake, ``chaos.yaml:7: faults[2].rank: ...``.
    """
    if path.is_dir():
        raise PlanError([Problem((), "is a directory, not a plan of faults", str(path))])
    try:
        found = document.read(path)
    except JobError as error:
        raise PlanError(error.problems) from None
    problems = list(found.problems)
    draft = _PlanDraft(found.values, ())
    draft.refuse_unknown(_KEYS)
    seed = draft.take("seed", _whole, 0)
    length = draft.take("for", parse_duration, None)
    entries = found.values.get("faults")
    faults: list[Fault | None] = []
    if isinstance(entries, list) and entries:
        for index, entry in enumerate(entries):
            faults.append(_fault(entry, ("faults", index), draft.problems))
    else:
        draft.problem("faults", f"must be a list of faults, not {shown(entries)}")
    problems += [problem.at(place=found.place(problem.path)) for problem in draft.problems]
    if problems:
        raise PlanError(sorted(problems, key=_line), _hint(problems))
    return FaultPlan(tuple(fault for fault in faults if fault is not None), seed, length)


def fault_from_flags(values: Mapping[str, object]) -> Fault:
    """One fault out of flags.

    Args:
        values: as an entry of a plan file; what is None was not given.

    Raises:
        PlanError: with every mistake, ``--rank: ...``.
    """
    problems: list[Problem] = []
    fault = _fault({key: value for key, value in values.items() if value is not None}, (), problems)
    if problems or fault is None:
        raise PlanError(
            [
                each.at(flag=f"--{each.path[0]}" if each.path and each.path != ("do",) else "")
                for each in problems
            ],
            _hint(problems),
        )
    return fault


def parse_kinds(text: str) -> tuple[str, ...]:
    """``kill-worker,freeze``: what a random plan is made of.

    Raises:
        PlanError: it names something that such a plan cannot hold.
    """
    kinds = tuple(filter(None, (word.strip() for word in text.split(","))))
    wrong = [kind for kind in kinds if kind not in MIX]
    if wrong or not kinds:
        words = [f"{word!r} is nothing that a random plan holds{did_you_mean(word, MIX)}" for word in wrong]
        problems = [Problem((), word, flag="--only") for word in words or ["names nothing"]]
        raise PlanError(problems, f"it holds {', '.join(MIX)}")
    return kinds


class _PlanDraft:
    """One mapping of a plan as it is read, with the mistakes in it."""

    def __init__(
        self, values: Mapping[str, Any], path: KeyPath, problems: list[Problem] | None = None
    ) -> None:
        self.values, self.path = values, path
        self.problems = [] if problems is None else problems

    def problem(self, key: str, text: str) -> None:
        self.problems.append(Problem((*self.path, key) if key else self.path, text))

    def refuse_unknown(self, known: Sequence[str], why: str = "") -> None:
        for key in self.values:
            if key not in known:
                self.problem(key, why or "unknown key" + did_you_mean(str(key), known))

    def take(self, key: str, read: Callable[[Any], Any], default: Any) -> Any:
        """The value of a key as ``read`` gives it, which raises a ValueError for what it does not take."""
        if key not in self.values:
            return default
        try:
            return read(self.values[key])
        except ValueError as error:
            self.problem(key, f"{shown(self.values[key])} {error}")
            return default


def _fault(entry: object, path: KeyPath, problems: list[Problem]) -> Fault | None:
    """A fault as a plan has it; None where it is not even clear which one is meant."""
    if not isinstance(entry, dict):
        problems.append(
            Problem(path, f"must be a fault, as {{at: 30s, do: kill-worker}}, not {shown(entry)}")
        )
        return None
    draft = _PlanDraft(entry, path, problems)
    name = entry.get("do")
    if not isinstance(name, str) or name not in KINDS:
        text = "is missing" if name is None else f"{shown(name)} is no fault" + did_you_mean(str(name), KINDS)
        draft.problem("do", text)
        return None
    kind = KINDS[name]
    _refuse_unfitting(draft, name, kind)
    step, after = draft.take("at", _moment, (None, None))
    every = draft.take("every", _period, None)
    if every is not None and step is not None:
        draft.problem("every", "goes with a time, not with a step")
    seconds = draft.take("for", parse_duration, SECONDS if kind.lasts else None)
    if name == "slow-link" and "rate" not in entry:
        draft.problem("rate", "is missing: write it like 200mbit")
    return Fault(
        name,
        _target(draft, name, kind),
        step,
        after,
        every,
        seconds,
        draft.take("leave", parse_size, LEAVE),
        draft.take("limit", parse_size, LIMIT),
        draft.take("rate", _rate, ""),
    )


def _target(draft: _PlanDraft, name: str, kind: Kind) -> str:
    target: str = (
        draft.take(kind.target, _rank if kind.target == "rank" else _node, RANDOM) if kind.target else ""
    )
    if name == "power-on" and target == RANDOM:
        draft.problem("node", "names the node that is powered on")
    return target


def _refuse_unfitting(draft: _PlanDraft, name: str, kind: Kind) -> None:
    """Keys that nobody knows, and keys that other faults have."""
    mine = {"do", *_WHEN, *kind.keys, *filter(None, [kind.target])} | ({"for"} if kind.end else set())
    every = {"for", *_WHEN, "do", "rank", "node", *(key for each in KINDS.values() for key in each.keys)}
    for key in draft.values:
        if key not in every:
            draft.problem(key, "unknown key" + did_you_mean(str(key), sorted(mine)))
        elif key not in mine:
            draft.problem(key, f"{name} has none (it takes {', '.join(sorted(mine - {'do'}))})")


def _moment(value: object) -> tuple[int | None, float | None]:
    if isinstance(value, str):
        if found := _STEP.fullmatch(value.strip()):
            return int(found[1]), None
        if value.strip().startswith("step"):
            raise ValueError("is no step (write step 120)")
    try:
        return None, parse_duration(value)
    except ValueError:
        raise ValueError("is no moment (write 30s, 5m or step 120)") from None


def _period(value: object) -> float:
    seconds = parse_duration(value)
    if seconds < 0.1:
        raise ValueError("is too often (0.1s at least)")
    return seconds


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is no whole number")
    return value


def _rank(value: object) -> str:
    text = str(value)
    if text != RANDOM and not text.isdecimal():
        raise ValueError("is no rank (write a number, or random)")
    return text


def _node(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("is no node's name (write one as `swarmtrain status` shows it, or random)")
    return value


def _rate(value: object) -> str:
    text = str(value).lower()
    if not _RATE.fullmatch(text):
        raise ValueError("is no rate of a link (write 200mbit or 1gbit)")
    return text


def _hint(problems: Iterable[Problem]) -> str:
    is_unclear = any("is no fault" in problem.text or problem.path[-1:] == ("do",) for problem in problems)
    return f"the faults are {', '.join(KINDS)}" if is_unclear else ""


def _line(problem: Problem) -> int:
    number = problem.place.rpartition(":")[2]
    return int(number) if number.isdigit() else 0
