"""A group that stands still although all of its ranks are there.

Whom it waits for, the coordinator has found out (coordinator/core/hang.py): it stands in the failure, or in the event
that tells of a stall. Here is why that rank stands, as far as its stack shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.frames import SourceLine, frames
from swarmtrain.diagnosis.measures import disk_waits
from swarmtrain.diagnosis.rule import Conclusion, Rule, logs_of, there, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy, Sureness
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.journal.events import GenerationFormed, Recovered
from swarmtrain.protocol.journal.remarks import StallSeen

Look = Callable[[Case], Conclusion | None]

_NO_STEP = re.compile(r"(?P<no_step>no step for [^:]+): (?P<what>.+)", re.DOTALL)
_STOPPED = re.compile(r"its process is stopped")
_APART = re.compile(
    r"not all ranks call the same collectives|: (?:the order differs|a call was (?:left out|added)"
    r"|the (?:shapes|types) differ)\b"
)
_MEETS = re.compile(r"/torch/distributed/(?!optim/|tensor/|checkpoint/)")
_LOADER = re.compile(r"/torch/utils/data/|in the data loader")
_LOCK = re.compile(
    r"/(?:threading|queue|selectors|subprocess|concurrent/futures/\w+|asyncio/\w+|multiprocessing/(?:connection|queues"
    r"|synchronize|popen_\w+|pool|managers)|filelock/\w+|portalocker/\w+)\.py$"
)
_FILES = re.compile(
    r"/(?:pathlib(?:/\w+)?|shutil|io|tempfile|zipfile(?:/\w+)?|gzip|tarfile|posixpath|genericpath|glob)\.py$"
    r"|<frozen (?:os|posixpath|genericpath|codecs)>|/torch/(?:serialization|storage)\.py$"
    r"|/(?:h5py|PIL|pyarrow|safetensors|fsspec|zarr)/"
)
_NETWORK = re.compile(
    r"/(?:socket|ssl|http/client|urllib/\w+|ftplib)\.py$|/(?:requests|urllib3|httpx|boto3?|botocore)/"
)


def standing(case: Case) -> Failure | None:
    """The rank that all wait for: the failure of a hang, or what is said of a stall that goes on."""
    if case.status.has_ended or case.causes:
        return next((each for each in case.causes if each.kind == "hang"), None) if _is_hang(case) else None
    stall = _stall(case)
    if stall is None:
        return None
    worker = next((each for each in case.status.workers if each.rank == stall.rank), None)
    stack = case.stacks.get(stall.rank, "") if stall.rank is not None else ""
    return Failure(
        "hang", worker.node if worker is not None else "", stall.time, stall.text, stall.rank, traceback=stack
    )


def _is_hang(case: Case) -> bool:
    return case.first is not None and case.first.kind == "hang"


def _stall(case: Case) -> StallSeen | None:
    """The newest word of a stand-still that has not ended, as far as it is known."""
    last: StallSeen | None = None
    for event in case.events:
        if isinstance(event, StallSeen):
            last = event
        elif isinstance(event, (GenerationFormed, Recovered)):
            last = None
    return last if case.stands else None


def _rank_stands(
    case: Case, why: str, sure: Sureness, remedies: Sequence[Remedy], *, unseen: Sequence[str] = ()
) -> Conclusion:
    failure = standing(case)
    assert failure is not None, "a rule has looked before"
    rest = [line for line in frames(failure.traceback) if line.is_users][:1]
    innermost = frames(failure.traceback)[:1]
    inside = [
        Observation(f"innermost in its stack: {line}", failure.rank, failure.node)
        for line in innermost
        if not line.is_users
    ]
    return Conclusion(
        verdict=_verdict(failure),
        cause=why,
        sure=sure,
        failure=failure,
        seen=[
            *inside,
            *disk_waits(case.measures, failure),
            *(Observation("stands there", failure.rank, failure.node, place=str(line)) for line in rest),
        ],
        remedies=[*remedies, logs_of(case, failure)],
        unseen=unseen,
        knows_who=failure.rank is not None,
    )


def _verdict(failure: Failure) -> str:
    """Who does what, and for how long there was no step, in this order."""
    text = failure.summary.partition(". The ")[0]
    if failure.rank is None or (match := _NO_STEP.match(text)) is None:
        return text
    what = match["what"].replace(f"rank {failure.rank} on {failure.node} ", "it ", 1).removeprefix("it ")
    return f"{who(failure)} {what}: {match['no_step']}"


def _innermost(case: Case) -> list[SourceLine]:
    """The frames between the user's innermost line and what really waits, innermost first."""
    failure = standing(case)
    if failure is None or failure.rank is None:
        return []
    found: list[SourceLine] = []
    for line in frames(failure.traceback):
        if line.is_users:
            break
        found.append(line)
    return found


def _stopped(case: Case) -> Conclusion | None:
    failure = standing(case)
    if failure is None or not _STOPPED.search(failure.summary):
        return None
    pid = next((each.pid for each in case.status.workers if each.rank == failure.rank), None)
    return _rank_stands(
        case,
        "its process was stopped by a signal (SIGSTOP, Ctrl-Z), by a debugger, or is frozen with its container",
        "certain",
        [Remedy("If nobody works on it there, let it go on.", f"{there(case, failure)}kill -CONT {pid}")]
        if pid and not case.status.has_ended
        else [Remedy("Go on where it was.", "swarmtrain run --resume")],
        unseen=["Who has stopped it: Linux does not tell."],
    )


def _apart(case: Case) -> Conclusion | None:
    failure = standing(case)
    if failure is None:
        return None
    # Of a rank that others wait for: it waits itself, in another group or another call.
    between = _innermost(case)
    if not _APART.search(failure.summary) and not (between and _MEETS.search(between[0].file)):
        return None
    return _rank_stands(
        case,
        "ranks wait in different collectives, so none of them can complete",
        "likely",
        [
            Remedy(
                "Is the line inside of `if rank == 0`, or of a branch on a rank's own data? Every rank must "
                "get there."
            )
        ],
    )


def _data(case: Case) -> Conclusion | None:
    failure = standing(case)
    if failure is None or failure.rank is None:
        return None
    if not (
        _LOADER.search(failure.summary)
        or any(_LOADER.search(line.file) for line in frames(failure.traceback))
    ):
        return None
    return _rank_stands(
        case,
        "it waits for its data: the loader, or the data set's own code, does not come back",
        "likely",
        [
            Remedy("Give the loader a timeout, so that it says what is late: DataLoader(..., timeout=60)."),
            Remedy("Load in the trainer itself (num_workers=0): then the stack shows the line."),
        ],
        unseen=["Where the loader's own processes are: their stacks were not asked for."],
    )


def _waits_in(pattern: re.Pattern[str], why: str, *remedies: Remedy, unseen: str = "") -> Look:
    def look(case: Case) -> Conclusion | None:
        between = _innermost(case)
        if not between or not pattern.search(between[0].file):
            return None
        return _rank_stands(case, why, "likely", remedies, unseen=[unseen] if unseen else [])

    return look


def _code(case: Case) -> Conclusion | None:
    """A rank is named, and it does not wait for others: it is in the user's own code, whatever that does."""
    failure = standing(case)
    if failure is None or failure.rank is None:
        return None
    known = bool(frames(failure.traceback))
    return _rank_stands(
        case,
        "it is in its own code, or in what that calls, while the others wait for it"
        if known
        else "the others wait for it",
        "likely" if known else "possible",
        [Remedy("Does that line wait for something, or take very long on this rank alone?")],
        unseen=[] if known else ["Where it is: its process has told no stack."],
    )


def _nobody(case: Case) -> Conclusion | None:
    failure = standing(case)
    if failure is None:
        return None
    return _rank_stands(
        case,
        "all ranks wait in the same place, or none tells where it is: the network between them, or a device, "
        "may be at fault",
        "unknown",
        [Remedy("Do the nodes still reach each other?", f"swarmtrain status {case.status.run}")],
        unseen=["For whom the ranks wait."],
    )


RULES = (
    Rule(
        code="stopped-process",
        title="A rank's process is stopped",
        about="A process that got SIGSTOP (Ctrl-Z, a debugger, a frozen container) does nothing until "
        "SIGCONT, and answers to nobody. The others wait for it in their collectives.",
        look=_stopped,
        produced=("stopped_process",),
    ),
    Rule(
        code="collective-apart",
        title="Ranks wait in different collectives",
        about="The stacks of all ranks were asked for when no step came: each waits in a collective, and not "
        "in the same one. The few have left the way of the many, or skipped a meeting: a collective inside of "
        "`if rank == 0`, an evaluation or a snapshot that only some ranks begin.",
        look=_apart,
        produced=("stuck_apart",),
    ),
    Rule(
        code="stuck-data",
        title="A rank waits for its data",
        about="The one rank that is in no collective is in its data loader, or in the code of its data set. "
        "Its source is slow or gone (a network disk, a download), a worker of the loader is stuck, or "
        "/dev/shm is full.",
        look=_data,
        produced=("stuck_in_data", "stuck_in_loader"),
    ),
    Rule(
        code="stuck-lock",
        title="A rank waits for a lock, a queue or another process",
        about="The innermost line of its stack waits for another thread or process of the same machine. One "
        "that was forked while a thread held a lock waits for ever.",
        look=_waits_in(
            _LOCK,
            "it waits for a thread or process of its own: a lock, an event, a queue, a child",
            Remedy("Who holds it? Give waits a timeout, so that they end with a traceback."),
            unseen="Who holds what it waits for.",
        ),
        produced=("stuck_in_lock",),
    ),
    Rule(
        code="stuck-files",
        title="A rank waits for a file",
        about="The innermost line of its stack opens, reads or writes a file. A network disk whose server is "
        "gone lets processes wait without an end; so does a pipe that nobody writes to.",
        look=_waits_in(
            _FILES,
            "it waits for a file or a disk",
            Remedy("Which file? The line is told above. Does `ls` of its directory come back on that node?"),
            unseen="Which file it is, and whether its disk answers.",
        ),
        produced=("stuck_in_files",),
    ),
    Rule(
        code="stuck-network",
        title="A rank waits for an answer from the network",
        about="The innermost line of its stack waits for a server: a download, a tracker of experiments, a "
        "data base. Libraries often wait without an end where no timeout is given.",
        look=_waits_in(
            _NETWORK,
            "it waits for a server to answer",
            Remedy("Give the request a timeout, and let it fail."),
            unseen="Which server it is.",
        ),
        test="test_who_stands_still_where_is_told",
    ),
    Rule(
        code="stuck-code",
        title="A rank is in its own code while the others wait",
        about="The one rank that is in no collective is at a line of the script, or in what that calls. Calls "
        "into C have no line of their own: time.sleep, a lock's acquire, a read all show the line that calls "
        "them.",
        look=_code,
        produced=("stuck_in_code",),
    ),
    Rule(
        code="stall",
        title="No rank makes steps, and nobody can be named",
        about="All ranks wait in the same place, or too little is known of them. With NCCL a rank that waits "
        "for its GPU may wait for a collective of another: its stack does not tell.",
        look=_nobody,
        test="test_who_stands_still_where_is_told",
    ),
)
