"""What a job can have people told of: one line each, of which the job's key and docs/alerts.md are made."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

AlertKind = Literal[
    "failed",
    "finished",
    "healed",
    "node_lost",
    "hung",
    "slow",
    "disk_low",
    "nan",
    "diverging",
    "gpu_hot",
]
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)


class AlertWords(NamedTuple):
    """What is said of a kind.

    Attributes:
        title: the end of a sentence that begins with the run's name.
        when: what has happened then, for the page.
    """

    title: str
    when: str


WORDS: dict[AlertKind, AlertWords] = {
    "failed": AlertWords(
        "failed", "the run is over and has not succeeded; with its diagnosis, as `swarmtrain explain` has it"
    ),
    "finished": AlertWords("has ended", "the run has succeeded, or was stopped by a person"),
    "healed": AlertWords("was healed", "every rank makes steps again after something had befallen the run"),
    "node_lost": AlertWords("has lost a node", "a node with ranks on it is gone"),
    "hung": AlertWords(
        "makes no steps", "the group stands still, and for whom it waits as far as that shows"
    ),
    "slow": AlertWords("is slowed down", "a rank's own work takes longer than that of the others"),
    "disk_low": AlertWords(
        "is short of disk",
        "less than 5 % is free for a minute where a node keeps the run's files, a snapshot found no space, or the "
        "coordinator's disk takes no more",
    ),
    "nan": AlertWords(
        "trains with a loss that is no number", "a rank reports a loss that is NaN or infinite"
    ),
    "diverging": AlertWords(
        "may be diverging", "in 200 reports the loss is far above where it was, and above all from before"
    ),
    "gpu_hot": AlertWords("has a hot GPU", "a GPU has had low clocks for half a minute as it is too hot"),
}
