"""All checks of a stack file, and what they find as one list with the file's name and lines."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from swarmtrain.doctor.check import Check, CheckFinding, run
from swarmtrain.doctor.compose import deployment, keys, launching, networking, rendezvous, settings, storage
from swarmtrain.doctor.compose.source import read
from swarmtrain.doctor.compose.stack import HandWrittenStack, stack_of
from swarmtrain.swarm.cluster import Cluster

CHECKS: tuple[Check[HandWrittenStack], ...] = (
    *keys.CHECKS,
    *launching.CHECKS,
    *rendezvous.CHECKS,
    *settings.CHECKS,
    *deployment.CHECKS,
    *networking.CHECKS,
    *storage.CHECKS,
)


def examine(path: Path, cluster: Cluster | None = None) -> list[CheckFinding]:
    """What is wrong with a file, for a Swarm where one is given.

    Raises:
        RequestError: it cannot be read, or is no Compose file.
    """
    return findings(stack_of(read(path), cluster, _beside(path.parent)))


def _beside(directory: Path) -> dict[str, str]:
    """What an image is built of, where it lies beside the file."""
    texts = {}
    for name in ("Dockerfile", "requirements.txt"):
        with suppress(OSError):
            texts[name] = (directory / name).read_text(encoding="utf-8", errors="replace")
    return texts


def findings(stack: HandWrittenStack) -> list[CheckFinding]:
    """The same of a stack; what is wrong in several lines for one reason is one finding."""
    by_reason: dict[tuple[object, ...], list[CheckFinding]] = {}
    for each in run(CHECKS, stack):
        key = (each.code, each.severity, each.sentence, each.evidence, each.mend)
        by_reason.setdefault(key, []).append(each)
    merged = []
    for same in by_reason.values():
        lines = sorted({int(each.subject) for each in same})
        where = f"{stack.source.name}:{', '.join(map(str, lines))}"
        merged.append(replace(same[0], subject=where))
    return merged
