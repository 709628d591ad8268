"""GPUs: their memory, their errors, and whether there are any. Known by what torch, CUDA and NCCL say."""

from __future__ import annotations

import re

from swarmtrain.diagnosis import measures
from swarmtrain.diagnosis.case import Case, said, written
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words, says, there, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy, Sureness
from swarmtrain.protocol.facts import Failure

_OUT = re.compile(
    r"(?:[\w.]*\.)?(?:OutOfMemoryError: |(?:RuntimeError|AcceleratorError): CUDA (?:error: )?out of memory)"
)
_SIZE = r"(?P<{}>[\d.]+) (?P<{}_unit>[KMGT]iB)"
_CAPACITY = re.compile(f"total capacity of {_SIZE.format('all', 'all')}")
_OTHER = re.compile(f"Process (?P<pid>\\d+) has {_SIZE.format('held', 'held')} memory in use")
_RESERVED = re.compile(f"{_SIZE.format('idle', 'idle')} is reserved by PyTorch but unallocated")
_WANTED = re.compile(f"Tried to allocate {_SIZE.format('wanted', 'wanted')}")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MUCH = 0.1  # of a GPU's memory
# What torch says where there is no GPU (2.4 to 2.13).
_WANTS_GPU = re.compile(
    r"Found no NVIDIA driver|Torch not compiled with CUDA enabled|No CUDA GPUs are available|no GPUs found"
    r"|no CUDA-capable device|torch\.cuda\.is_available\(\) is False|Cannot access accelerator device"
    r"|doesn't have NCCL built in",
    re.IGNORECASE,
)
_ASSERTION = re.compile(r"Assertion `(?P<what>[^`]+)` failed")


def _bytes(pattern: re.Pattern[str], text: str) -> float:
    """The size that is said; 0 where it is not."""
    match = pattern.search(text)
    if match is None:
        return 0.0
    number, unit = [value for name, value in match.groupdict().items() if name != "pid"]
    return float(number) * _UNITS[unit]


def _out_of_memory(case: Case) -> Conclusion | None:
    """Who holds the memory decides what helps."""
    failure = case.first
    if failure is None or failure.kind != "exception" or not _OUT.match(failure.summary):
        return None
    text = failure.summary
    capacity, idle, wanted = _bytes(_CAPACITY, text), _bytes(_RESERVED, text), _bytes(_WANTED, text)
    others = [
        (match["pid"], float(match["held"]) * _UNITS[match["held_unit"]]) for match in _OTHER.finditer(text)
    ]
    held = sum(size for _, size in others)
    smaller = Remedy("Make the batch smaller, accumulate gradients, or train in bf16.")
    if held > _MUCH * capacity > 0:
        pids = ", ".join(pid for pid, _ in others)
        cause = f"other processes ({pids}) hold {_gib(held)} of the GPU's {_gib(capacity)}"
        first = Remedy("Who is it?", f"{there(case, failure)}nvidia-smi")
        return _lack(case, failure, cause, "certain", [first, smaller])
    if idle >= wanted > 0:
        cause = (
            f"torch holds {_gib(idle)} that it does not use, in pieces that are too small for {_gib(wanted)}"
        )
        whole = Remedy(
            "Let torch move its pieces together.",
            "swarmtrain run -e PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True ...",
        )
        return _lack(case, failure, cause, "likely", [whole, smaller])
    cause = "what this rank computes with does not fit into its GPU: weights, optimizer, and activations of a batch"
    return _lack(case, failure, cause, "likely" if capacity else "possible", [smaller])


def _lack(case: Case, failure: Failure, cause: str, sure: Sureness, remedies: list[Remedy]) -> Conclusion:
    return Conclusion(
        verdict=f"{who(failure)} ran out of GPU memory",
        cause=cause,
        sure=sure,
        failure=failure,
        seen=list(measures.gpus(case.measures, failure)),
        remedies=remedies,
    )


def _gib(size: float) -> str:
    return f"{size / _UNITS['GiB']:.1f} GiB"


def _device_assert(case: Case) -> Conclusion | None:
    """All ranks may tell of one: that which has the assertion among its lines is the one where it happened."""
    hit = [each for each in case.causes if says(each, r"device-side assert")]
    if not hit:
        return None
    lines = {id(each): f"{said(each)}\n{written(each)}\n{_lines_of(case, each)}" for each in hit}
    failure = next((each for each in hit if _ASSERTION.search(lines[id(each)])), hit[0])
    match = _ASSERTION.search(lines[id(failure)])
    seen = (
        []
        if match is None
        else [Observation(f"its GPU says: assertion {match['what']} failed", failure.rank)]
    )
    index = match is not None and re.search(r"index|t >= 0|n_classes|srcIndex", match["what"])
    return Conclusion(
        verdict=f"{who(failure)}: a kernel on its GPU stopped at an assertion",
        cause="a number that was taken for an index is out of range: a label of a class that the model has "
        "not, or a token that its vocabulary has not"
        if index
        else "a kernel was given values that it does not allow; most often an index out of range",
        sure="likely" if index else "possible",
        failure=failure,
        seen=seen,
        remedies=[
            Remedy(
                "Let each kernel end before the next begins: then the traceback shows the line.",
                "swarmtrain run -e CUDA_LAUNCH_BLOCKING=1 ...",
            ),
            Remedy("Or run the same batch on the processor, where the error names the index."),
        ],
        unseen=[
            (
                "The traceback shows where the failure was noticed. Kernels run later than the lines that "
                "start them."
            )
        ],
    )


def _lines_of(case: Case, failure: Failure) -> str:
    return "\n".join(case.lines.get(failure.rank, ())) if failure.rank is not None else ""


def _no_gpu(case: Case) -> Conclusion | None:
    failure = case.first
    if failure is None or failure.kind != "exception" or not _WANTS_GPU.search(said(failure)):
        return None
    gpus = next((each.gpus for each in case.status.members if each.node == failure.node), None)
    causes = {
        None: "{} shows no GPU that this torch can use, or this torch is built without CUDA",
        0: "{} shows its workers no GPU: it has none, or its driver or its Docker does not show it",
    }
    cause = causes.get(gpus, f"{{}} shows {gpus} GPU, and this torch cannot use it: it is built without CUDA")
    return Conclusion(
        verdict=f"{who(failure)} asks for a GPU and gets none",
        cause=cause.format(failure.node),
        sure="certain" if gpus == 0 else "likely",
        failure=failure,
        remedies=[
            Remedy(
                'Let the script choose: torch.device("cuda" if torch.cuda.is_available() else "cpu"), and '
                "init_process_group() without a backend."
            ),
            Remedy("What does the node show?", f"{there(case, failure)}nvidia-smi"),
        ],
    )


RULES = (
    Rule(
        code="oom-gpu",
        title="A GPU has no memory left",
        about="torch says how much the GPU has, what this process holds, what it holds without using it, and "
        "what other processes hold: which of these is large decides what helps. With several ranks on a node, "
        "rank 0 often holds more: a snapshot that was loaded without map_location lands on the GPU it was "
        "saved from.",
        look=_out_of_memory,
        test="test_a_gpu_without_memory_is_told_with_what_held_it",
    ),
    Rule(
        code="device-assert",
        title="A kernel on a GPU stopped at an assertion",
        about="The GPU is unusable for the process afterwards, so whatever it does next fails, and the other "
        "ranks' collectives break. The one rank that has the assertion among its lines is where it happened.",
        look=_device_assert,
        test="test_a_device_side_assert_is_told_apart_from_its_echo",
    ),
    by_words(
        "duplicate-gpu",
        "Two ranks have the same GPU",
        Words(
            pattern=r"Duplicate GPU detected ?: rank (?P<one>\d+) and rank (?P<two>\d+) both on CUDA device "
            r"(?P<gpu>\w+)",
            verdict="ranks {one} and {two} have the same GPU ({gpu})",
            cause="NCCL refuses two ranks on one GPU; either both chose it, or their nodes are shown the same "
            "one",
            anyone=True,
            help=(
                Help("Let each rank choose its own: torch.cuda.set_device(int(os.environ['LOCAL_RANK']))."),
                Help("Reserve GPUs, so that each node is shown its own.", "swarmtrain run --gpus 1 ..."),
                Help("If they are to share one, use gloo.", "swarmtrain run --backend gloo ..."),
            ),
        ),
        "Local nodes of one machine, and containers of one engine without --gpus, are all shown every GPU. A "
        "script that never calls set_device has all ranks of a node on GPU 0.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
    Rule(
        code="no-gpu",
        title="The script asks for a GPU where none is shown",
        about="The driver is the machine's, the CUDA libraries are the image's, and Docker's nvidia runtime "
        "shows the one to the other. Any of the three may be missing. How a node shows its GPUs is in "
        "docs/troubleshooting.md.",
        look=_no_gpu,
        produced=("no_gpu", "no_nccl"),
    ),
    by_words(
        "few-gpus",
        "A rank asks for a GPU that is not there",
        Words(
            pattern=r"invalid device ordinal|(?P<said>local rank \d+ has no GPU of its own)",
            verdict="{who} asks for a GPU with a number that its node does not show",
            cause="there are more workers on the node than GPUs that it shows, or the script takes RANK for "
            "LOCAL_RANK",
            sure="likely",
            help=(
                Help("Choose by LOCAL_RANK, not by RANK."),
                Help("As many workers as GPUs.", "swarmtrain run --workers-per-node auto ..."),
            ),
        ),
        "On the second node RANK goes on where it ended on the first; LOCAL_RANK begins with 0 again.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
    by_words(
        "driver-mismatch",
        "The node's driver and the image's CUDA do not fit",
        Words(
            pattern=r"NVIDIA driver on your system is too old(?: \(found version (?P<found>\d+)\))?"
            r"|CUDA driver version is insufficient|no kernel image is available"
            r"|forward compatibility was attempted|[Dd]river/library version mismatch"
            r"|CUDA capability sm_\d+ is not compatible",
            verdict="{who}: its torch does not fit the node's driver or GPU",
            cause="the image's torch is built for a newer driver than the node's, or not for its kind of GPU",
            anyone=True,
            help=(
                Help("What has the node?", "{there}nvidia-smi"),
                Help("Update the driver there, or take an image whose torch is built for an older CUDA."),
                Help("After an update of the driver the machine must be started again (version mismatch)."),
            ),
        ),
        "`nvidia-smi` shows the newest CUDA that a driver takes. `torch.version.cuda` is what the image's "
        "torch wants, and `torch.cuda.get_arch_list()` the kinds of GPU that it was built for.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
    by_words(
        "gpu-busy",
        "A GPU takes no further process",
        Words(
            pattern=r"devices? (?:is|are|\(s\) is/are) busy or unavailable",
            verdict="{who} was not let onto its GPU",
            cause="another process has it for itself (compute mode exclusive), or one that has ended still holds it",
            sure="likely",
            anyone=True,
            help=(Help("Who has it, and in which mode?", "{there}nvidia-smi -q -d COMPUTE,PIDS"),),
        ),
        "`nvidia-smi -c 0` lets several processes onto a GPU again.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
    by_words(
        "gpu-lost",
        "A GPU is broken or gone",
        Words(
            pattern=r"(?:CUDA error|NVML|handle for GPU)[^\n]*GPU is lost|fallen off the bus|uncorrectable ECC"
            r"|CUDA error: hardware stack error",
            verdict="{who}: its GPU does not answer as it should",
            cause="the driver reports a fault of the GPU itself: heat, power, its slot, or its memory",
            sure="likely",
            anyone=True,
            measured=measures.gpus,
            help=(
                Help(
                    "What does the driver say?",
                    "{there}nvidia-smi -q -d ECC,TEMPERATURE,POWER",
                ),
                Help(
                    "On the machine, `dmesg | grep -i xid` has the driver's number for it; a restart often "
                    "brings it back."
                ),
            ),
            unseen=("The kernel's log of the machine, which has the number of the fault (Xid).",),
        ),
        "The kernel's log has a line `NVRM: Xid` with a number: 79 is a GPU that has fallen off the bus, 48 "
        "and 63 are of its memory, 31 and 13 are mostly the program's own.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
    by_words(
        "gpu-address",
        "A kernel on a GPU wrote or read where it may not",
        Words(
            pattern=r"CUDA error: an illegal memory access|CUDA error: misaligned address",
            verdict="{who}: a kernel on its GPU used memory that is not its own",
            cause="an own or a compiled kernel computes a wrong address; rarely the memory of the GPU is at "
            "fault",
            sure="possible",
            anyone=True,
            help=(
                Help(
                    "Let each kernel end before the next begins.",
                    "swarmtrain run -e CUDA_LAUNCH_BLOCKING=1 ...",
                ),
                Help("Does it stay on one node? Then suspect its GPU."),
            ),
            unseen=("Which kernel: they run later than the lines that start them.",),
        ),
        "As with an assertion, the traceback shows where it was noticed, and everything that follows fails, "
        "too.",
        test="test_what_torch_cuda_and_nccl_say_of_gpus_is_known",
    ),
)
