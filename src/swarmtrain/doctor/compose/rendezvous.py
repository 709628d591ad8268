"""Checks of a stack file: whether torchrun's nodes can meet again when one of them fails or is lost. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack

_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_OWN_STORE = (
    "a service of its own that holds the store, as in `swarmtrain plan --plain`, and is_host=false in "
    "--rdzv_conf"
)


def _static_restarts(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch in stack.launches:
        restarts = launch.get("max_restarts")
        if (
            launch.is_static
            and launch.nodes not in (None, (1, 1))
            and restarts.isdecimal()
            and int(restarts) > 0
        ):
            yield Flaw(
                str(launch.where("max_restarts")),
                "with a static rendezvous nobody tells the other nodes that workers here start again, and "
                "a lost node is "
                "never waited for anew",
                "--rdzv_backend=c10d --rdzv_endpoint=... with a store of its own",
            )


def _no_restarts(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch in stack.launches:
        if (
            launch.is_static
            and launch.nodes not in (None, (1, 1))
            and launch.get("max_restarts") in ("", "0")
        ):
            yield Flaw(
                str(launch.line),
                "the first failure ends the training: a static rendezvous, and no restarts",
                "--rdzv_backend=c10d --max_restarts=10 with a store of its own (`swarmtrain plan --plain` "
                "writes it), or "
                "swarmtrain run",
            )


def _range_is_static(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch in stack.launches:
        if launch.is_static and launch.nodes is not None and launch.nodes[0] != launch.nodes[1]:
            yield Flaw(
                str(launch.where("nnodes")),
                "a range of nodes needs a rendezvous that gives ranks out",
                "--rdzv_backend=c10d",
            )


def _store_on_a_node(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch in stack.launches:
        host, _, line = launch.meeting
        server = stack.called(host)
        if not launch.is_static and server is not None and server.launch is not None:
            yield Flaw(
                str(line),
                f"the rendezvous is on {server.name}, which trains: when that node is lost, the others "
                "have nowhere to meet",
                _OWN_STORE,
            )


def _shared_store(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, launch in stack.launches:
        variable = service.environment.get(_SHARED_STORE)
        if (
            not launch.is_static
            and launch.get("rdzv_backend") == "c10d"
            and (variable is None or variable.value in ("0", ""))
        ):
            yield Flaw(
                str(service.line_of("environment")),
                f"without {_SHARED_STORE} survivors of a lost first node look for it at its old address "
                "until they time out",
                f'environment: {{{_SHARED_STORE}: "1"}}',
            )


def _keep_alive(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, launch in stack.launches:
        if launch.get("rdzv_backend") == "c10d" and "keep_alive_interval" not in launch.rdzv_conf:
            yield Flaw(
                str(launch.where("rdzv_conf")),
                "with torchrun's own keep-alive a lost node is noticed after 40 s or more",
                "--rdzv_conf=join_timeout=600,last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3",
            )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check("static-restarts", Severity.WARNING, "--max_restarts with a static rendezvous", _static_restarts),
    Check("no-restarts", Severity.WARNING, "whether a failure can be survived at all", _no_restarts),
    Check("range-static", Severity.ERROR, "--nnodes=MIN:MAX with a static rendezvous", _range_is_static),
    Check("store-on-node", Severity.WARNING, "the c10d rendezvous on a node that trains", _store_on_a_node),
    Check("shared-store", Severity.WARNING, f"{_SHARED_STORE} with c10d", _shared_store),
    Check("keep-alive", Severity.NOTE, "how soon torchrun notices a lost node", _keep_alive),
)
