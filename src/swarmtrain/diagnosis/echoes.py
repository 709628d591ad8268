"""What torch and the system say of a rank whose peer has gone, and of one that is itself at fault.

When one rank dies the others follow: their collectives break a moment later. What they raise then is an echo.
"""

from __future__ import annotations

import re
import signal

from swarmtrain.protocol.facts import Failure

# What gloo, NCCL and the store say when somebody else has gone (torch 2.4 to 2.13).
_CONSEQUENCE = re.compile(
    r"Connection (?:closed|reset) by peer|Connection was (?:likely )?closed|Broken pipe|Socket (?:Timeout|closed)"
    r"|recvValue failed|sendBytes failed|failed to (?:recv|send), (?:got|sent) 0 bytes|NCCL error|ncclRemoteError"
    r"|ncclSystemError|NCCL communicator was aborted|DistBackendError|DistNetworkError|DistStoreError"
    r"|Rank \d+ successfully reached monitoredBarrier|Timed out waiting \d+ms for (?:recv|send) operation"
    r"|Application timeout caused pair closure|gloo.*(?:EnforceNotMet|IoException)|Watchdog caught"
    r"|Gloo connectFullMesh failed",
    re.IGNORECASE,
)
# What they, CUDA and the system say of something that this rank, or all of them, do wrong.
_MISTAKE = re.compile(
    r"collective mismatch|mismatch between collectives|op\.preamble\.length <= op\.nbytes|Duplicate GPU detected"
    r"|ncclInvalidUsage|ncclInvalidArgument|ncclUnhandledCudaError|out of memory|No space left on device"
    r"|device-side assert|illegal memory access|invalid device ordinal|no kernel image is available",
    re.IGNORECASE,
)
_TIMEOUT = re.compile(r"Timed out waiting \d+ms for|Watchdog caught|Application timeout", re.IGNORECASE)
_WAITED = re.compile(r"Timed out waiting (?P<gloo>\d+)ms|Timeout\(ms\)=(?P<nccl>\d+)")
# Python's own words for a connection or a pipe that is not torch's: the script's affair.
_THE_SCRIPTS = re.compile(
    r"^(?:ConnectionError|Connection\w+Error|BrokenPipeError|OSError|TimeoutError|EOFError):"
)


def is_consequence(failure: Failure) -> bool:
    """Whether this failure only reports that another rank has gone."""
    if failure.signal != signal.SIGABRT and failure.kind not in ("exception", "exit"):
        return False
    said = failure.summary if failure.kind == "exception" else "\n".join((failure.summary, *failure.log))
    if _MISTAKE.search(said) or (failure.kind == "exception" and _THE_SCRIPTS.search(said)):
        return False
    return bool(_CONSEQUENCE.search(said))


def is_timeout(failure: Failure) -> bool:
    """Whether a rank has waited for another for as long as its process group lets it."""
    return is_consequence(failure) and bool(_TIMEOUT.search(failure.summary))


def waited(failure: Failure) -> float | None:
    """For how many seconds a rank has waited for another in vain; None where it does not say so."""
    match = _WAITED.search(failure.summary)
    return int(match["gloo"] or match["nccl"]) / 1000 if match else None
