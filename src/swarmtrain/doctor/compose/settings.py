"""Checks of a stack file: variables that crash, slow, do nothing, or tell everybody a secret. Pure.

What is said of NCCL's variables is read in NCCL's documentation, "Environment Variables"; DETAIL's crash on gloo was
seen with torch 2.12 and 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmtrain.doctor.check import Check, Flaw, Severity
from swarmtrain.doctor.compose.stack import HandWrittenStack, Variable

_DEBUG_TEXT = "leave it out; swarmtrain run --debug sets what does no harm"
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)$")
_NCCL_MOST_CONNECTIONS = 64


def _set(stack: HandWrittenStack, *names: str) -> Iterator[tuple[str, str, Variable]]:
    """The services' variables of these names: name, value, where."""
    for service in stack.services:
        for name in names:
            variable = service.environment.get(name)
            if variable is not None and variable.value is not None:
                yield name, variable.value.strip("\"'"), variable


def _detail(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, value, variable in _set(stack, "TORCH_DISTRIBUTED_DEBUG"):
        if value.upper() == "DETAIL":
            yield Flaw(
                str(variable.written.line),
                "TORCH_DISTRIBUTED_DEBUG=DETAIL crashes DDP's constructor on gloo, and makes small "
                "all-reduces several times slower",
                "leave it out; INFO where something is searched for",
            )


def _verbose(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, value, variable in _set(stack, "NCCL_DEBUG"):
        if value.upper() in ("INFO", "TRACE"):
            sentence = (
                f"NCCL_DEBUG={value} floods the log of every run, in which the first error is then hard to "
                "find"
            )
            yield Flaw(
                str(variable.written.line),
                sentence,
                "NCCL_DEBUG=WARN, or leave it out; INFO while something is searched for",
            )
    for _, value, variable in _set(stack, "CUDA_LAUNCH_BLOCKING"):
        if value not in ("", "0"):
            yield Flaw(
                str(variable.written.line),
                "CUDA_LAUNCH_BLOCKING makes every kernel wait: training is several times slower",
                _DEBUG_TEXT,
            )


def _threads(stack: HandWrittenStack) -> Iterator[Flaw]:
    for _, value, variable in _set(stack, "NCCL_NTHREADS"):
        least = value == "64"
        sentence = f"NCCL_NTHREADS={value} " + (
            "is the least that NCCL takes: it can only slow things"
            if least
            else "replaces what NCCL finds out by itself"
        )
        yield Flaw(
            str(variable.written.line), sentence, "leave it out", severity=None if least else Severity.NOTE
        )


def _does_nothing(stack: HandWrittenStack) -> Iterator[Flaw]:
    for name, value, variable in _set(stack, "NCCL_NET_GDR_LEVEL", "NCCL_IB_DISABLE"):
        if name == "NCCL_NET_GDR_LEVEL":
            sentence = f"NCCL_NET_GDR_LEVEL={value} does nothing on sockets: GPU Direct is InfiniBand's"
            yield Flaw(str(variable.written.line), sentence, "leave it out")
        elif value == "1":
            sentence = (
                "NCCL_IB_DISABLE=1 does nothing without InfiniBand, and turns it off where there is some"
            )
            yield Flaw(str(variable.written.line), sentence, "leave it out: NCCL finds out by itself")


def _unmeasured(stack: HandWrittenStack) -> Iterator[Flaw]:
    for name, value, variable in _set(
        stack, "NCCL_BUFFSIZE", "NCCL_SOCKET_NTHREADS", "NCCL_NSOCKS_PERTHREAD"
    ):
        yield Flaw(
            str(variable.written.line),
            f"{name}={value} is worth what was measured: on 1 to 10 Gb/s one stream usually fills the link",
            "leave it out, or measure with and without it",
        )


def _sockets(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        threads, each = (
            service.environment.get(name) for name in ("NCCL_SOCKET_NTHREADS", "NCCL_NSOCKS_PERTHREAD")
        )
        numbers = [variable.value or "" for variable in (threads, each) if variable is not None]
        if len(numbers) == 2 and threads is not None and all(number.isdecimal() for number in numbers):
            product = int(numbers[0]) * int(numbers[1])
            if product > _NCCL_MOST_CONNECTIONS:
                sentence = (
                    f"NCCL_SOCKET_NTHREADS x NCCL_NSOCKS_PERTHREAD is {product}, and at most "
                    f"{_NCCL_MOST_CONNECTIONS} is allowed"
                )
                yield Flaw(str(threads.written.line), sentence, "leave both out")


def _differs(stack: HandWrittenStack) -> Iterator[Flaw]:
    """NCCL's settings must be the same on all ranks."""
    names = {name for service in stack.training for name in service.environment if name.startswith("NCCL_")}
    for name in sorted(names - {"NCCL_SOCKET_IFNAME", "NCCL_DEBUG", "NCCL_IB_HCA"}):
        values = [service.environment.get(name) for service in stack.training]
        texts = {variable.value if variable is not None else None for variable in values}
        if len(texts) > 1:
            where = next(variable for variable in values if variable is not None)
            shown = ", ".join(sorted("unset" if text is None else text for text in texts))
            yield Flaw(
                str(where.written.line),
                f"{name} differs between the nodes ({shown})",
                "the same on every node: an anchor that all services use",
            )


def _interfaces(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.training:
        for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
            variable = service.environment.get(name)
            if variable is None or not variable.value:
                continue
            where, value = str(variable.written.line), variable.value
            if len(service.networks) > 1:
                sentence = (
                    f"{name}={value}: in a container with several networks the interfaces come in any order"
                )
                yield Flaw(
                    where,
                    sentence,
                    "one network; from Docker 28 a network can name its interface "
                    "(com.docker.network.endpoint.ifname)",
                )
            elif name.startswith("NCCL") and not value.startswith(("=", "^")):
                sentence = (
                    f"{name}={value} means every interface whose name begins so, and is luck in a "
                    "container: its overlay may be another one"
                )
                yield Flaw(
                    where,
                    sentence,
                    f"={value} is exactly that one; leave it out on an internal network, where there is "
                    "one only",
                )


def _gloo(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service, launch in stack.launches:
        several = launch.nodes not in (None, (1, 1))
        names = list(service.networks) or ["default"]
        if (
            several
            and "GLOO_SOCKET_IFNAME" not in service.environment
            and not all(map(stack.is_internal, names))
        ):
            yield Flaw(
                str(service.line_of("environment")),
                "without GLOO_SOCKET_IFNAME gloo takes the address of the host name, and loopback, "
                "silently, where that has none",
                "GLOO_SOCKET_IFNAME: the name that the nodes have for it"
                if stack.on_host(service)
                else "GLOO_SOCKET_IFNAME: eth0 on one overlay network; or internal: true, with which "
                "there is no other interface",
            )


def _secrets(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for name, variable in service.environment.items():
            if _SECRET.search(name.upper()) and variable.value and not variable.value.startswith("$"):
                yield Flaw(
                    str(variable.written.line),
                    f"{name} is a secret in plain sight: in the file, and in `docker service inspect` for "
                    "everybody with Docker",
                    "secrets:, read from /run/secrets/NAME (swarmtrain run -e NAME sends it as a secret)",
                )


def _quotes(stack: HandWrittenStack) -> Iterator[Flaw]:
    for service in stack.services:
        for name, variable in service.environment.items():
            value = variable.value or ""
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                yield Flaw(
                    str(variable.written.line),
                    f"the quotes are part of {name}'s value",
                    f"{name}={value[1:-1]}",
                )


CHECKS: tuple[Check[HandWrittenStack], ...] = (
    Check("debug-detail", Severity.ERROR, "TORCH_DISTRIBUTED_DEBUG=DETAIL", _detail),
    Check("debug-verbose", Severity.WARNING, "debugging variables that flood or slow every run", _verbose),
    Check("nccl-threads", Severity.WARNING, "NCCL_NTHREADS, of which 64 is the least", _threads),
    Check("nccl-nothing", Severity.NOTE, "NCCL's variables that do nothing on sockets", _does_nothing),
    Check("nccl-unmeasured", Severity.NOTE, "NCCL's buffers and sockets by hand", _unmeasured),
    Check("nccl-sockets", Severity.ERROR, "more NCCL connections than are allowed", _sockets),
    Check("nccl-differs", Severity.WARNING, "NCCL's variables that differ between nodes", _differs),
    Check("interface", Severity.WARNING, "interfaces by name, where names are luck", _interfaces),
    Check("gloo-interface", Severity.NOTE, "which interface gloo takes", _gloo),
    Check("secret", Severity.WARNING, "tokens and passwords in the environment", _secrets),
    Check("quotes", Severity.WARNING, "quotes that become part of a value", _quotes),
)
