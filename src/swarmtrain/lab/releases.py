"""The engines that a lab's nodes can have: those of Debian's releases, old to new. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmtrain.errors import RequestError
from swarmtrain.wire.plural import counted, plural


@dataclass(frozen=True)
class Release:
    """A release of Debian, for the Docker Engine in it.

    Args:
        name: the release's own, as in ``debian:trixie-slim``.
        engine: how the version of its engine begins.
        packages: those that bring the engine and its command line.
        is_rolling: its package lists are only good for days, but a mirror may keep an older copy.
    """

    name: str
    engine: str
    packages: tuple[str, ...]
    is_rolling: bool = False


RELEASES = {
    release.name: release
    for release in (
        Release("bookworm", "20.10", ("docker.io",)),
        Release("trixie", "26.1", ("docker.io", "docker-cli")),
        Release("sid", "28.5", ("docker.io", "docker-cli"), is_rolling=True),
    )
}
DEFAULT = "trixie"


def parse(text: str) -> tuple[str, ...]:
    """The releases of a list as people write it: ``sid``, ``trixie,sid,bookworm``. Raises RequestError."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in RELEASES:
            known = ", ".join(f"{each.name} ({each.engine})" for each in RELEASES.values())
            raise RequestError(f"{name!r} is no release whose engine a lab can have", f"there are {known}")
    return names


def of_nodes(wanted: Sequence[str], nodes: int, before: dict[int, str]) -> dict[int, str]:
    """Which release each node is made of, by its number.

    Args:
        wanted: one for all nodes, or one for each; empty: as the nodes there are have it, new ones as the first.
        before: what the nodes there are were made of.

    Raises:
        RequestError: the list is as long as neither.
    """
    if len(wanted) not in (0, 1, nodes):
        engines = f"{counted(len(wanted), 'engine')} {plural(len(wanted), 'was', 'were')} named"
        raise RequestError(
            f"the lab has {counted(nodes, 'node')}, and {engines}",
            "name one for all nodes, or one for each",
        )
    first = before.get(1, DEFAULT)
    numbers = range(1, nodes + 1)
    if not wanted:
        return {index: before.get(index, first) for index in numbers}
    return {index: wanted[(index - 1) % len(wanted)] for index in numbers}
