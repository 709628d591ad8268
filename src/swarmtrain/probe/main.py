"""``bundle.zip probe PART``: one of the doctor's short-lived containers. `doctor.cluster` starts them.

``look`` looks at its node; ``answer`` does, and answers the others; ``ask`` tries the way to each that answers;
``ports`` tries, from the node's own network, the ports that Swarm needs; ``collect`` takes part in collectives of
torch's; ``gpus`` says which GPUs a task sees that has reserved some. Each says what it found on its standard output,
and ends by itself.

``bundle.zip probe PART NAME=VALUE...`` is for who cannot set variables: it is done beside the workers of a run, niced,
and `doctor.run` asks for it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from swarmtrain.probe import answering, asking, machine
from swarmtrain.probe.asking import AskingManner
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.probes import reports
from swarmtrain.protocol.probes.reports import ProbeDone, ProbePeer, ProbePort
from swarmtrain.protocol.schema import Struct

T = TypeVar("T")

_SECONDS = 300.0
_NICE = 10  # beside a training


def main(argv: list[str]) -> int:
    """Do one part; 2 where there is none of that name."""
    part = argv[0] if argv else ""
    if part not in _PARTS:
        print(f"usage: bundle.zip probe {'|'.join(_PARTS)} [NAME=VALUE...]", file=sys.stderr)
        return 2
    if variables := dict(word.split("=", 1) for word in argv[1:]):
        os.environ.update(variables)
        os.nice(_NICE)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    limit = threading.Timer(float(os.environ.get(reports.ENV_SECONDS, _SECONDS)), os._exit, [0])
    limit.daemon = True
    limit.start()
    node = os.environ.get(reports.ENV_NODE, "") or os.uname().nodename
    for report in _PARTS[part](node):
        _say(report)
    _say(ProbeDone(node, part))
    if part == "answer":
        limit.join()  # the others ask as long as they like
    return 0


def _answer(node: str) -> Iterable[Struct]:
    try:
        answering.serve(reports.PORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # Somebody else examines this run, or another one of this machine: those who answer him answer all.
    return _look(node)


def _look(node: str) -> Iterable[Struct]:
    return [machine.look(node, _manner().interface)]


def _ask(node: str) -> Iterable[Struct]:
    return asking.pairs(node, _told(ProbePeer), _manner())


def _ports(node: str) -> Iterable[Struct]:
    return asking.ports(node, _told(ProbePort))


def _collect(node: str) -> Iterable[Struct]:
    from swarmtrain.probe.collectives import collect

    return collect(node, _told(ProbePeer))


def _gpus(node: str) -> Iterable[Struct]:
    return [machine.gpus(node, os.environ)]


def _manner() -> AskingManner:
    usual = AskingManner()
    return AskingManner(
        os.environ.get(reports.ENV_INTERFACE, usual.interface),
        float(os.environ.get(reports.ENV_STREAM, usual.stream)),
    )


def _told(kind: type[T]) -> list[T]:
    """What the client has put into the environment."""
    return [load(kind, each) for each in json.loads(os.environ[reports.ENV_PEERS])]


def _say(report: Struct) -> None:
    print(reports.line_of(report), flush=True)


_PARTS: dict[str, Callable[[str], Iterable[Struct]]] = {
    "answer": _answer,
    "look": _look,
    "ask": _ask,
    "ports": _ports,
    "collect": _collect,
    "gpus": _gpus,
}
