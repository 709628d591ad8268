"""The addresses of webhooks, which are secrets: found where the job names them, when it is submitted.

They travel in the run's secret alone (`payload.run_spec`). No problem that is told here has a part of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmtrain.errors import RequestError
from swarmtrain.job.alerting.keys import Alerting
from swarmtrain.job.problems import Problem

_LONGEST = 4096


@dataclass(frozen=True)
class Addresses:
    """What was found.

    Args:
        webhooks: by a name that may be shown, ``slack SLACK_URL``.
        problems: one of each that is not there.
    """

    webhooks: dict[str, str] = field(default_factory=dict, repr=False)
    problems: list[Problem] = field(default_factory=list)


def addresses(alerts: Alerting, directory: Path, environ: Mapping[str, str]) -> Addresses:
    """The addresses that a job's alerts name.

    Args:
        directory: what relative paths refer to.
        environ: where variables are taken from.
    """
    if not alerts.slack and not alerts.webhook:
        return Addresses()
    # Imported here: most jobs have none, and it speaks HTTP.
    from swarmtrain.protocol.alerts.delivery import check_address

    found = Addresses()
    for kind, sources in (("slack", alerts.slack), ("webhook", alerts.webhook)):
        for index, source in enumerate(sources):
            try:
                address = _read(source, directory, environ)
                check_address(address)
            except (RequestError, OSError) as error:
                why = (
                    error.message if isinstance(error, RequestError) else f"cannot be read: {error.strerror}"
                )
                found.problems.append(Problem(("alerts", kind, index), f"{source} {why}"))
            else:
                found.webhooks[f"{kind} {source}"] = address
    return found


def _read(source: str, directory: Path, environ: Mapping[str, str]) -> str:
    """What a variable or a file has. Raises RequestError, OSError."""
    if "/" in source:
        with (directory / Path(source).expanduser()).open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace").strip()
    if source not in environ:
        raise RequestError(
            "is taken from here, where it is not set: set it, or give a file that has the address"
        )
    return environ[source].strip()
