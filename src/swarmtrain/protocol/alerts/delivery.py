"""One attempt to tell one target: a POST, or a command with the alert on its standard input.

Called in a process of its own (``inside.py alert``), which whoever started it may kill: a name server or a webhook that
never ends its answer holds up nothing else, and only here `ssl` is imported. `swarmtrain alert test -f` calls it, too.

An address is a secret: no sentence here has a part of it, nor what a server or a proxy wrote.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from swarmtrain.errors import RequestError
from swarmtrain.protocol import codec
from swarmtrain.protocol.alerts.alert import AlertMessage, AlertOrder, AlertTarget, body
from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.machine import processes

SECONDS = 10.0  # for which a webhook may say nothing
COMMAND_SECONDS = 30.0  # that a command may take
_SWEEP_SECONDS = 2.0
_MOST_SAID = 64 << 10  # bytes of what a command writes that are passed on: they go to the coordinator's log
LIMIT_SECONDS = 45.0  # after which the process of an attempt is over, whatever it does
_AGAIN = (408, 425, 429)  # refusals that another attempt may change
_LONGEST_WAIT = 3600.0  # seconds that a webhook may ask us to wait


def main(argv: list[str]) -> int:
    """``inside.py alert``: read an `AlertOrder`, carry it out, and print its `AlertAnswer`."""
    signal.alarm(int(LIMIT_SECONDS))  # whoever started this may be gone
    processes.become_subreaper()
    order = codec.load(AlertOrder, json.loads(sys.stdin.buffer.read()))
    answer = attempt(order.target, order.message, order.environment)
    _sweep()
    print(json.dumps(codec.dump(answer)), flush=True)
    return 0


def attempt(
    target: AlertTarget, message: AlertMessage, environment: Mapping[str, str] | None = None
) -> AlertAnswer:
    """Tell a target once.

    Args:
        environment: what a command has besides this process's own.
    """
    said = (
        _run(target, message, os.environ | dict(environment or {}))
        if target.kind == "command"
        else _post(target, message)
    )
    return AlertAnswer(
        target=target.name, delivered=said.delivered, said=said.text, final=said.final, after=said.after
    )


def check_address(address: str) -> None:
    """Whether an address can be one of a webhook.

    Raises:
        RequestError: it cannot. The sentence does not have it.
    """
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        whole = whole and parts.username is None  # which urllib would take for a part of the host's name
    except ValueError:
        whole = False
    if not whole or not address.isascii() or not address.isprintable() or " " in address:
        raise RequestError("holds no address of a webhook, which looks like https://HOST/PATH")


class _Said(Struct, kw_only=True):
    """What came of it."""

    text: str
    delivered: bool = False
    final: bool = False
    after: float = 0.0


# ---- webhooks --------------------------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A secret is sent to whom it was given, and to nobody that this one names."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none."""


def _post(target: AlertTarget, message: AlertMessage) -> _Said:
    head = {"Content-Type": "application/json", "User-Agent": "swarmtrain"}
    request = urllib.request.Request(target.address, body(target, message), head, method="POST")
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return _Said(text=f"answered {_status(answer.status)}", delivered=True)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error)
    except urllib.error.URLError as error:
        return _Said(text=_unreached(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _Said(text=_unreached(error))


def _refused(error: urllib.error.HTTPError) -> _Said:
    said = f"answered {_status(error.code)}"
    if 300 <= error.code < 400:
        return _Said(text=f"{said}: it leads elsewhere, and is not followed", final=True)
    final = 400 <= error.code < 500 and error.code not in _AGAIN
    return _Said(text=said, final=final, after=_wait(error.headers.get("Retry-After", "")))


def _status(code: int) -> str:
    return f"{code} {http.client.responses.get(code, '')}".rstrip()


def _wait(text: str) -> float:
    """Seconds that a Retry-After asks for: a number, or a date."""
    if text.strip().isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, IndexError):
            return 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _unreached(reason: object) -> str:
    """Why nobody answered."""
    import ssl

    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not trusted here: it is wrong, or this machine knows no authorities"
    if isinstance(reason, TimeoutError):
        return f"did not answer within {SECONDS:.0f} s"
    if isinstance(reason, OSError) and reason.strerror:
        return f"cannot be reached: {reason.strerror}"
    return f"cannot be reached: {type(reason).__name__}"


# ---- commands --------------------------------------------------------------------------------------------------------


def _run(target: AlertTarget, message: AlertMessage, environment: Mapping[str, str]) -> _Said:
    """Run a command with its output on our standard error, in a session of its own, which ends with it."""
    said, output = os.pipe()
    try:
        process = subprocess.Popen(
            target.argv,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        os.close(said)
        return _Said(text=f"cannot be started: {error.strerror}", final=True)
    except ValueError as error:
        os.close(said)
        return _Said(text=f"cannot be started: {error}", final=True)
    finally:
        os.close(output)
    passing = threading.Thread(target=_pass_on, args=(said,), daemon=True)
    passing.start()
    try:
        process.communicate(body(target, message), COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        return _Said(text=f"was ended after {COMMAND_SECONDS:.0f} s")
    finally:
        _end(process)
        passing.join(1.0)  # its end may be held by what has left its session
    code = process.returncode
    return _Said(
        text=f"ended with exit status {code}" if code >= 0 else f"was ended by signal {-code}",
        delivered=code == 0,
    )


def _pass_on(said: int) -> None:
    """Write the beginning of what a command says on our standard error, and take the rest, so that it goes on."""
    left = _MOST_SAID
    with open(said, "rb", buffering=0) as pipe:
        while piece := pipe.read(1 << 16):
            sys.stderr.write(piece[:left].decode(errors="replace"))
            sys.stderr.flush()
            left -= len(piece[:left])


def _sweep() -> None:
    """End what a command has put into a session of its own. What even that does not end holds up no answer."""
    until = time.monotonic() + _SWEEP_SECONDS
    while (left := processes.descendants(os.getpid())) and time.monotonic() < until:
        processes.kill_all(left)
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever it has started and left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    process.wait()
