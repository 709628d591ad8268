"""Which engines take part in the overlay networks' gossip, as one engine sees it, and bringing them together.

A Swarm has two planes, and ``docker node ls`` shows one of them. Which task has which address travels between the
engines themselves (moby's NetworkDB). While that is broken all nodes are Ready, and tasks on different nodes do not
find one another. Seen with Docker 20.10 after machines lost power, cable or time:

- An engine joins once as it starts and again once a minute: one that is up before its manager is alone till then.
- An engine that is back before its peers saw it go is told of its former self, which has its address. It takes itself
  for the one that is gone, forgets itself, and nothing but another start of it helps.

Engines show their peers on a port of their loopback, ``network-diagnostic-port`` of daemon.json:
https://github.com/moby/moby/tree/master/daemon/libnetwork/cmd/diagnostic
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from swarmtrain.docker.command import DockerFailed

DIAGNOSTIC_PORT = 2000
# In bash, because an engine's machine needs no other client of HTTP.
GET = r"""exec 3<>"/dev/tcp/127.0.0.1/$0" && printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3 && cat <&3"""

# What runs a command on the engine's machine and returns what it printed.
Exec = Callable[..., str]


def peers(run: Exec) -> set[str]:
    """The addresses of the engines that this one knows, with its own; empty where it takes no part yet."""
    details = _ask(run, "/clusterpeers?json").get("details") or {}
    return {entry["ip"] for entry in details.get("entries", ())}


def join(run: Exec, addresses: Iterable[str]) -> None:
    """Have an engine speak to the engines at these addresses now."""
    _ask(run, f"/join?json&members={','.join(sorted(addresses))}")


def _ask(run: Exec, path: str) -> dict[str, Any]:
    """What an engine's diagnostic server answers, empty where it has none yet."""
    try:
        answer = run("bash", "-c", GET, str(DIAGNOSTIC_PORT), path)
    except DockerFailed:
        # An engine reads this setting only when it is told to read its settings again.
        run("pkill", "-HUP", "-x", "dockerd")
        return {}
    body = answer.partition("\r\n\r\n")[2]
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError:  # words, from an engine that is no member of a Swarm yet
        return {}
    return found
