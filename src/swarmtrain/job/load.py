"""From a job file, variables and flags to a `LoadedJob`: the job and what this machine adds to it.

A flag wins over a variable, a variable over the job file, the job file over the default. Everything is checked before
anything is refused, and every mistake is named by where it came from: ``swarmtrain.yaml:7: nodes``, ``--nodes``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmtrain.job import checks, document, flags
from swarmtrain.job.alerting.addresses import addresses
from swarmtrain.job.document import Document
from swarmtrain.job.flags import Override
from swarmtrain.job.problems import JobError, KeyPath, Problem, unknown_key
from swarmtrain.job.spec import KEYS, NESTED, Job
from swarmtrain.job.together import TARGETS

DEFAULT_FILE = "swarmtrain.yaml"

# Below these keys, numbers and booleans are text, as written.
_AS_WRITTEN = [name for name, each in KEYS.items() if each.takes.as_written]

# Keys of which a flag can set a part: env.SEED, resources.gpus.
_MAPPINGS = ("env", *NESTED)

# Keys of which a word may stand for a mapping.
_WORDS = {"restart": checks.RESTART_WORDS}


@dataclass(frozen=True)
class LoadedJob:
    """A job with its place on this machine.

    Args:
        job: what was asked for.
        directory: what relative paths refer to, absolute; the code that is sent lies below it.
        environment: the job's variables, with those that were left empty taken from here.
        file: the job file, if one was read.
        sources: where a key's value came from, ``swarmtrain.yaml:7`` or ``--nodes``; a default is not listed.
        notices: what was decided for the user, a sentence each.
        webhooks: addresses of those who are told of alerts, by names that may be shown: ``slack SLACK_URL``.
        words: the words after ``swarmtrain run`` that ask for it; empty when it came from Python.
    """

    job: Job
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=(), repr=False)  # may hold values of variables
    webhooks: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, job: Job, directory: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> LoadedJob:
        """A job that was made in Python, at home in ``directory`` (the current one by default).

        Raises:
            JobError: its script is not there, or a variable that is taken from here has no value.
        """
        home = (directory or Path.cwd()).resolve()
        here = os.environ if environ is None else environ
        found = addresses(job.alerts, home, here)
        missing = [*_missing_script(job.script, home), *_missing_variables(job.env, here), *found.problems]
        if missing:
            raise JobError(missing)
        return cls(job, home, _environment(job, here), webhooks=found.webhooks)


def load(
    path: Path | None = None,
    overrides: Mapping[str, Override] | None = None,
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedJob:
    """Read the job.

    Args:
        path: the job file; by default ``swarmtrain.yaml`` in the current directory, where there is one. That one is
            left alone where the flags name something else to run than it does.
        overrides: what the flags say (`flags.overrides_from_flags`). A script, module or command replaces the file's,
            with its arguments and name; a relative script is looked for from the current directory.
        cwd: the current directory. environ: the environment. Both are the process's own by default.

    Raises:
        JobError: with every mistake at once.
    """
    cwd = (cwd or Path.cwd()).absolute()
    environ = os.environ if environ is None else environ
    file = _file(path, cwd)
    name = str(path) if path else DEFAULT_FILE
    read, home = (document.read(file, name, _AS_WRITTEN), file.parent) if file else (Document(), cwd)
    notices = [f"the job is in {name}"] if file else []
    if file and (theirs := _replaced_target(overrides or {}, read, home, cwd)):
        if path is None:
            file, read = None, Document()
            notices = [f"{name} is left alone, since it is for {theirs}; -f {name} takes the rest of it"]
        else:
            notices = [f"the job is in {name}, less what belongs to {theirs}: its args and name"]
            for key in (*TARGETS, "args", "name"):
                read.values.pop(key, None)
    draft = _Draft(read, home, cwd)
    draft.set_variables(environ)
    draft.set_flags(overrides or {})
    job, webhooks = draft.check(environ)
    return LoadedJob(
        job,
        draft.directory,
        _environment(job, environ),
        file,
        draft.sources(),
        (*notices, *draft.notices(job)),
        webhooks=webhooks,
    )


def _replaced_target(overrides: Mapping[str, Override], read: Document, home: Path, cwd: Path) -> str:
    """What the file runs, where the flags name something else; empty where they name nothing, or the same."""
    target = next((key for key in TARGETS if key in overrides), None)
    theirs = next((read.values[key] for key in TARGETS if read.values.get(key)), None)
    if target is None or theirs is None:
        return ""
    ours, same = overrides[target].value, read.values.get(target)
    if target == "script" and isinstance(ours, str) and isinstance(same, str):
        ours, same = _absolute(ours, cwd), _absolute(same, home)
    return "" if ours == same else " ".join(map(str, theirs)) if isinstance(theirs, list) else str(theirs)


class _Draft:
    """The values of a job as they come together, where each came from, and what is wrong so far."""

    def __init__(self, read: Document, directory: Path, cwd: Path) -> None:
        self.read = read
        self.directory = directory
        self.cwd = cwd
        self.values: dict[str, Any] = dict(read.values)
        self.flags: dict[KeyPath, str] = {}
        self.problems: list[Problem] = list(read.problems)

    def set_variables(self, environ: Mapping[str, str]) -> None:
        for key in (name for name, each in KEYS.items() if each.key.variable):
            variable = f"SWARMTRAIN_{key.upper()}"
            if value := environ.get(variable):
                parse = flags.FLAGS[key].parse
                self.values[key] = parse(value) if parse else value
                self.flags[key,] = variable

    def set_flags(self, overrides: Mapping[str, Override]) -> None:
        # a part after the whole
        for key, override in sorted(overrides.items(), key=lambda each: "." in each[0]):
            top, _, part = key.partition(".")
            if override.mistake:
                self.problems.append(Problem((top,), override.mistake, flag=override.flag))
            elif part and top not in _MAPPINGS:
                text = unknown_key(key, list(Job.model_fields))
                self.problems.append(Problem((key,), text, flag=override.flag))
            elif "." in key:
                self._set_part(top, part, override)
            elif (
                top in KEYS
                and KEYS[top].key.adds
                and isinstance(self.values.get(top), list)
                and isinstance(override.value, list)
            ):
                self._add(top, override)
            else:
                self.values[top] = override.value
                self.flags[top,] = override.flag
        if "script" in overrides and isinstance(self.values["script"], str):
            self._settle_script(self.values["script"])

    def _set_part(self, key: str, part: str, override: Override) -> None:
        present = self.values.get(key)
        if isinstance(present, str) and present in _WORDS.get(key, {}):
            present = dict(_WORDS[key][present])
            if part in present and (key,) in self.flags:
                text = f"cannot be combined with {self.flags[key,]}: both set {key}.{part}"
                self.problems.append(Problem((key, part), text, flag=override.flag))
        if present is not None and not isinstance(present, dict):
            return  # the file's value is wrong as a whole, and reported as that
        self.values[key] = {**(present or {}), part: override.value}
        self.flags[key, part] = override.flag

    def _add(self, key: str, override: Override) -> None:
        present = self.values[key]
        self.values[key] = [*present, *override.value]
        self.flags |= {(key, index): override.flag for index in range(len(present), len(self.values[key]))}

    def _settle_script(self, script: str) -> None:
        """Make the script of the command line, which refers to the current directory, refer to the job's."""
        if self.values.get("files") == [] or not script:
            return
        path = _absolute(script, self.cwd)
        if self.read.name == "" and not path.is_relative_to(self.directory):
            self.directory = path.parent
        self.values["script"] = os.path.relpath(path, self.directory)

    def check(self, environ: Mapping[str, str]) -> tuple[Job, Mapping[str, str]]:
        """The job and the addresses of its alerts, or a JobError with every mistake."""
        job, webhooks = None, dict[str, str]()
        try:
            job = Job.model_validate(self.values)
        except JobError as error:
            self.problems += [self._placed(problem) for problem in error.problems]
            hint = error.hint
        wrong = {problem.path[0] for problem in self.problems if problem.path}
        if "script" not in wrong:
            self.problems += map(self._placed, _missing_script(self.values.get("script"), self.directory))
        if "env" not in wrong:
            self.problems += map(self._placed, _missing_variables(self.values.get("env"), environ))
        if job is not None:
            found = addresses(job.alerts, self.directory, environ)
            webhooks = found.webhooks
            self.problems += map(self._placed, found.problems)
        if self.problems or job is None:
            raise JobError(sorted(self.problems, key=self._order), hint=hint if job is None else "")
        return job, webhooks

    def sources(self) -> dict[str, str]:
        """Where each top-level key's value came from."""
        return {key: self.flags.get((key,)) or self.read.place((key,)) for key in self.values}

    def notices(self, job: Job) -> tuple[str, ...]:
        """What was decided for the user."""
        if job.command is not None and self.values.get("start") == "warm":
            return ("a command is always started cold: only a Python script or module can be started warm",)
        return ()

    def _placed(self, problem: Problem) -> Problem:
        path = problem.path
        while path and path not in self.flags:
            path = path[:-1]
        if path:
            return problem.at(flag=self.flags[path])
        return problem.at(place=self.read.place(problem.path))

    def _order(self, problem: Problem) -> tuple[int, int]:
        """By line; then what has no line."""
        line = problem.place.rpartition(":")[2]
        return (0, int(line)) if line.isdigit() else (1, 0)


def _file(path: Path | None, cwd: Path) -> Path | None:
    if path is not None:
        return _absolute(path, cwd)
    default = cwd / DEFAULT_FILE
    return default if default.exists() else None


def _absolute(path: str | Path, directory: Path) -> Path:
    """Without following links: a script that is a link lies where the link lies."""
    return Path(os.path.normpath(directory / path))


def _environment(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] if value is None else value for name, value in job.env.items()}


def _missing_variables(env: object, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Variables that are taken from here and have no value here."""
    for name, value in env.items() if isinstance(env, Mapping) else ():
        if value is None and name not in environ:
            yield Problem(
                ("env", name), f"{name} is taken from here, where it is not set: set it or give a value"
            )


def _missing_script(script: object, directory: Path) -> Iterator[Problem]:
    """A script that is not below the job's directory, with what may have been meant."""
    if not isinstance(script, str) or script.startswith("/"):
        return
    path = directory / script
    if path.is_dir():
        yield Problem(("script",), f"{script} is a directory: name the script in it")
    elif not path.is_file():
        beside = {each.stem: each.name for each in sorted(path.parent.glob("*.py"))}
        near = difflib.get_close_matches(path.stem, beside, n=1)
        meant = (
            f"did you mean {beside[near[0]]}?" if near else f"there is {', '.join([*beside.values()][:5])}"
        )
        yield Problem(("script",), f"there is no {script} in {directory}" + (f" ({meant})" if beside else ""))
