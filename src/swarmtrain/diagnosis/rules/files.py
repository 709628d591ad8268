"""Files and disks, and the data that is read from them."""

from __future__ import annotations

import re

from swarmtrain.diagnosis import measures
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words, who
from swarmtrain.protocol.evidence.diagnosis import Remedy


def _not_sent(case: Case) -> Conclusion | None:
    """What only the client sees: the file lies on its machine (control/views/left_behind.py)."""
    failure = case.first
    if failure is None or not re.search(r"not sent|is sent|is a path of this machine", failure.hint):
        return None
    return Conclusion(
        verdict=f"{who(failure)} did not find a file that is here, and was not sent",
        cause=failure.hint,
        sure="certain",
        failure=failure,
        remedies=[
            Remedy("Which files were sent, and which not?", f"swarmtrain run --dry-run {case.status.target}")
        ],
    )


_FIRST_LETTERS = r"(?:\[Errno \d+\] )?"

RULES: tuple[Rule, ...] = (
    Rule(
        code="file-not-sent",
        title="A file is here, and did not travel",
        about="The script does not find a file that lies on the machine from which the run was started. Only "
        "that machine can see it: whoever asks from elsewhere is told of a missing file.",
        look=_not_sent,
        test="test_a_file_that_only_the_client_sees_is_told_of",
    ),
    by_words(
        "disk-full",
        "A disk is full",
        Words(
            pattern=r"No space left on device(?:: '(?P<path>[^']+)')?|Disk quota exceeded"
            r"|(?P<weak>unexpected pos \d+ vs \d+|PytorchStreamWriter failed)",
            verdict="{who} could not write: the disk is full",
            cause="the file system that it writes to has no room, or no quota, left",
            in_lines=True,
            measured=measures.disk,
            help=(
                Help("What is full?", "{there}df -h . /dev/shm /tmp"),
                Help("Remove what earlier runs have left.", "swarmtrain ps -a"),
                Help("Keep fewer snapshots.", "swarmtrain snapshots rm --help"),
            ),
        ),
        "On a node, a run's files lie in the volume `swarmtrain`, which is on the disk of Docker's own "
        "directory. Runs that have ended keep their files there until `swarmtrain rm`. Images and containers "
        "that nobody uses take room, too: `docker system df`.",
        ("disk_full", "disk_full_in_save"),
    ),
    by_words(
        "read-only",
        "A file system is read-only",
        Words(
            pattern=r"Read-only file system(?:: '(?P<path>[^']+)')?",
            verdict="{who} writes where nothing can be written {path}",
            cause="the file system is mounted read-only: a volume with :ro, or a disk that the kernel has "
            "taken out of use after an error",
            sure="certain",
            help=(
                Help("How is it mounted?", "{there}grep -w ro /proc/mounts"),
                Help("Write into the working directory, which is the run's own."),
            ),
        ),
        "A disk that was writable before and is read-only now has had an error: `dmesg` on the machine tells "
        "of it.",
        ("read_only",),
    ),
    by_words(
        "damaged-file",
        "A file is damaged, or not whole",
        Words(
            pattern=r"PytorchStreamReader failed[^\n]*|unexpected EOF, expected[^\n]*|file may be corrupted"
            r"|invalid magic number; corrupt file|not a ZIP archive|Ran out of input|SafetensorError: [^\n]*",
            verdict="{who} read a file that is damaged or not whole",
            cause="the file ends too early or is of another kind: whoever wrote it was ended meanwhile, or "
            "two wrote at once",
            sure="likely",
            help=(
                Help(
                    "Where does the traceback load it? Remove the file, and go on from an older one.",
                    "swarmtrain ls {run}",
                ),
                Help("Write aside and rename: torch.save(x, 'new.pt'); os.replace('new.pt', 'snapshot.pt')."),
                Help("Let rank 0 alone write, or each rank a file of its own."),
            ),
        ),
        "torch.save writes in place: a worker that is killed meanwhile leaves half a file. The Trainer's "
        "snapshots are written aside, checked by a sum, and the last good one is kept.",
        ("damaged_file",),
    ),
    by_words(
        "disk-error",
        "A disk does not give or take what is asked",
        Words(
            pattern=r"Input/output error|Stale file handle|Transport endpoint is not connected|\[Errno 5\]",
            verdict="{who}: a disk or a network file system fails",
            cause="the system could not read or write there: the disk is broken, or the file server is gone",
            sure="likely",
            help=(
                Help("On the machine, `dmesg | tail -50` tells of a disk's errors."),
                Help("Which file systems are there?", "{there}df -h"),
            ),
            unseen=("The kernel's log of the machine.",),
        ),
        "An NFS server that was started again gives a stale file handle to whoever had a file open; mount it "
        "anew.",
        test="test_what_python_and_the_system_say_is_known",
    ),
    by_words(
        "missing-file",
        "A file is not there",
        Words(
            pattern=r"FileNotFoundError: "
            + _FIRST_LETTERS
            + r"No such file or directory(?:: '(?P<path>[^']+)')?"
            r"|FileNotFoundError: (?P<words>[^\n]+)",
            verdict="{who} did not find {path}{words}",
            cause="there is no such file on {node}: it did not travel with the code, another node wrote it, "
            "or its path is that of another machine",
            sure="likely",
            help=(
                Help("Which files were sent, and which not?", "swarmtrain run --dry-run {target}"),
                Help("What lies in the working directories?", "swarmtrain ls {run}"),
                Help("Name it under files:, mount it with volumes:, or put it into the image."),
            ),
        ),
        "Workers begin in a directory of their own that holds the code which was sent: up to 5 MB, without "
        "what .dockerignore names, keys, checkpoints, and links that lead out. There is no shared file "
        "system: what one rank writes, the others have when they start again, and not before.",
        ("missing_file",),
    ),
    by_words(
        "not-permitted",
        "A file may not be used",
        Words(
            pattern=r"PermissionError: " + _FIRST_LETTERS + r"(?:Permission denied|Operation not permitted)"
            r"(?:: '(?P<path>[^']+)')?",
            verdict="{who} may not use {path}",
            cause="the user that the worker runs as may not read or write there",
            help=(
                Help("Whose is it?", "{there}ls -ld {path}"),
                Help("Write into the working directory, which is the run's own."),
            ),
        ),
        "In containers workers are who the image says (USER). What is mounted from a machine keeps its "
        "owners' numbers.",
        ("not_permitted",),
    ),
    by_words(
        "pickling",
        "Something cannot be sent to a data loader's process",
        Words(
            pattern=r"Can't (?:get local object|pickle)[^\n]*|cannot pickle '(?P<what>[^']+)' "
            r"object|PicklingError[^\n]*",
            verdict="{who} could not hand an object to another process",
            cause="what is sent to a process that is spawned must be importable by name: no lambda, no "
            "function inside of a function, no open file",
            help=(
                Help("Move the function or class to the top of a module."),
                Help("Or load in the trainer itself: num_workers=0."),
            ),
        ),
        "A DataLoader with num_workers and the start method spawn or forkserver (the default since Python "
        "3.14) sends the data set, the collate function and the sampler to each of its processes. With fork "
        "nothing is sent, so the same script may have worked before.",
        ("pickling",),
    ),
)
