"""Memory: of the machine, of a container, shared, and what a process may have at once."""

from __future__ import annotations

from swarmtrain.diagnosis import measures
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words, who
from swarmtrain.protocol.evidence.diagnosis import Remedy


def _killed_for_memory(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind != "memory":
        return None
    return Conclusion(
        verdict=f"{who(failure)} was killed for want of memory",
        cause="the kernel's OOM killer ended a process of this node at that moment: its machine, or its "
        "container's limit, had no memory left",
        sure="likely",
        failure=failure,
        seen=list(measures.memory(case.measures, failure)),
        remedies=[
            Remedy("Let the data loaders have fewer workers, each of which may hold a copy of the data set."),
            Remedy("Make the batch smaller, and accumulate gradients over more of them."),
            Remedy(
                "Give it more: without a limit for the container, or with a higher one.",
                "swarmtrain run --memory 16GB ...",
            ),
        ],
        unseen=["The kernel counts whom it kills, and does not say who had the memory."],
    )


RULES = (
    Rule(
        code="oom-host",
        title="The kernel killed a worker for want of memory",
        about="A worker died of SIGKILL, and the kernel's count of kills for want of memory rose at that "
        "moment: that of its container, or that of the machine where there is no container. What asked for "
        "the last page is killed, which need not be what holds the most. Data sets that each worker of a "
        "loader copies, and results that are gathered in lists, are the usual reasons.",
        look=_killed_for_memory,
        test="test_what_came_from_outside_is_told_apart",
    ),
    by_words(
        "oom-shm",
        "/dev/shm is too small for the data loaders",
        Words(
            pattern=r"insufficient shared memory|unable to (?:write to|open|allocate) (?:file|shared memory)"
            r"[^\n]*(?:/torch_|shm|shared)|DataLoader worker \(pid[^)]*\) is killed by signal: Bus error"
            r"|No space left on device[^\n]*/dev/shm",
            verdict="{who} has no room left in /dev/shm",
            cause="/dev/shm is full: loaders put each batch there on its way to the trainer",
            in_lines=True,
            measured=measures.shared_memory,
            help=(
                Help("Give the containers a larger one.", "swarmtrain run --shm-size 8GB ..."),
                Help("Let the loaders have fewer workers, or prefetch fewer batches (prefetch_factor=1)."),
            ),
        ),
        "Workers of a DataLoader hand their batches over in shared memory, which is a file system in memory "
        "of fixed size: 4 GB in containers of swarmtrain, 64 MB in those of plain Docker, half of the memory "
        "outside. It holds prefetch_factor batches of each worker of each rank on the node.",
        ("shared_memory",),
    ),
    by_words(
        "loader-died",
        "A worker of a data loader died",
        Words(
            pattern=r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: "
            r"(?P<signal>\w[\w ]*)|exited unexpectedly)",
            # The trainer was about to fetch a batch from it.
            where=r"torch/utils/data/dataloader\.py[\s\S]* in rebuild_storage_fd$",
            verdict="a data loader's worker of {who} died",
            cause="a process that loads data ended without an error of its own: the kernel kills so "
            "for want of memory, and so do crashes in native code that decodes data",
            sure="possible",
            measured=measures.memory,
            help=(
                Help("Load in the trainer itself (num_workers=0): then the error is told where it happens."),
                Help("Let the loaders have fewer workers, if memory is short."),
            ),
            unseen=("What the process wrote, if anything, is among the rank's lines.",),
        ),
        "A DataLoader with num_workers loads in processes of its own. One of them is gone, and torch only "
        "knows by which signal. Killed: by the kernel for want of memory, or by a person. Segmentation fault: "
        "native code. Bus error: /dev/shm is full.",
        ("loader_killed",),
    ),
    by_words(
        "oom-refused",
        "An allocation of host memory was refused",
        Words(
            pattern=r"^MemoryError\b|DefaultCPUAllocator: (?:can't allocate memory|not enough memory)[^\n]*?"
            r"(?:tried to allocate (?P<bytes>\d+) bytes)?|Cannot allocate memory",
            verdict="{who} asked for more memory than it can get",
            cause="the allocation is larger than what the system, or a limit of the process, allows: a size "
            "that was computed wrongly, or a batch that does not fit",
            sure="likely",
            measured=measures.memory,
            help=(
                Help("Look at the size that is asked for where the traceback ends: is it what you meant?"),
                Help("Make the batch smaller, and accumulate gradients over more of them."),
            ),
        ),
        "Nobody was killed: the system refused a single request. A tensor of a wrong shape is the usual "
        "reason, since Linux grants what is anywhere near to be had and kills later.",
        ("host_memory", "python_memory"),
    ),
    by_words(
        "open-files",
        "A process has as many files open as it may",
        Words(
            pattern=r"\[Errno 24\]|Too many open files",
            verdict="{who} has too many files open",
            cause="the limit of open files is reached: each tensor that a loader's worker hands over is one, "
            "and so is each file that is not closed",
            help=(
                Help(
                    "Close files (with open(...) as file), and share tensors by the file system instead: "
                    "torch.multiprocessing.set_sharing_strategy('file_system')."
                ),
                Help("Look at the limit on the node.", "{there}cat /proc/self/limits"),
            ),
        ),
        "The limit is 1024 in containers of Docker 29 and in most shells, and a million in older containers. "
        "The stack asks for 524288 where a node has such an engine.",
        ("open_files",),
    ),
    by_words(
        "no-processes",
        "No further process or thread can be made",
        Words(
            pattern=r"can't start new thread|no process can be made for it",
            verdict="{who} cannot start another process or thread",
            cause="a limit of processes is reached: the container's (pids), the user's (ulimit -u), or the "
            "machine's",
            sure="likely",
            kinds=("exception", "exit", "signal", "memory", "start"),
            help=(
                Help("Fewer loader workers, and fewer threads.", "swarmtrain run -e OMP_NUM_THREADS=4 ..."),
                Help("What runs there?", "{there}ps -e -T"),
            ),
        ),
        "Threads count as processes do. Each worker has as many as OMP_NUM_THREADS, besides those of its "
        "libraries, and so has each of its loaders' processes.",
        test="test_what_python_and_the_system_say_is_known",
    ),
)
