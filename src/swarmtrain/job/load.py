"""From a job file, variables and flags to a `LoadedJob`: the job and what this machine adds to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from swarmtrain.job.problems import JobError, Problem
from swarmtrain.job.spec import Job


class Override(NamedTuple):
    """A value that wins over the file's, and what messages call it (``--nodes``)."""

    value: Any
    flag: str


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
    """

    job: Job
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, job: Job, directory: Path | None = None, environ: Mapping[str, str] = os.environ
    ) -> LoadedJob:
        """A job that was made in Python, at home in ``directory`` (the current one by default)."""
        return cls(job, (directory or Path.cwd()).resolve(), environment(job, environ))


def environment(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """The job's variables, with those that were left empty taken from ``environ``."""
    missing = [name for name, value in job.env.items() if value is None and name not in environ]
    if missing:
        raise JobError(Problem(("env", name), "has no value here: set it, or give one") for name in missing)
    return {name: environ[name] if value is None else value for name, value in job.env.items()}


def load(path: Path | None = None, overrides: Mapping[str, Override] | None = None) -> LoadedJob:
    """Read the job."""
    raise NotImplementedError
