"""What is said of faults: of such as were really produced, as they were recorded, and of such as were read of."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from client_fakes import seen
from recorded_faults import RECORDED, read

from swarmtrain.control.views import explanation
from swarmtrain.diagnosis.case import Case
from swarmtrain.diagnosis.diagnose import diagnose
from swarmtrain.diagnosis.frames import place
from swarmtrain.diagnosis.measures import NodeMeasures
from swarmtrain.diagnosis.table import BY_CODE, RULES
from swarmtrain.protocol import codec
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.evidence.seen import FlightRecord, FlightReport
from swarmtrain.protocol.facts import Failure, MasterAddress
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import GenerationFailed, GenerationFormed, NodeJoined
from swarmtrain.protocol.journal.remarks import (
    ChaosCaused,
    ClockApart,
    NodeLeaving,
    StallSeen,
    StartsWarm,
    StragglerSeen,
)
from swarmtrain.swarm.obstacles import MEANINGS, VERBS, WHO

GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.1.3]:34538"


def failed(*failures: Failure, events: tuple[Event, ...] = (), **more: Any) -> Case:
    """A run that failed of these, the root cause first."""
    status = seen(state="failed", reason=failures[0].sentence() if failures else "", step=187, **more)
    return Case(status=status, causes=failures, events=events)


def failure(summary: str, rank: int = 1, kind: str = "exception", **more: Any) -> Failure:
    return Failure(kind, f"lab-{rank + 1}", 1009.0 + rank / 10, summary, rank, **more)


def said(found: Diagnosis) -> str:
    return "\n".join(explanation.render(found))


# ---- as they were recorded -------------------------------------------------------------------------------------------

EXPECTED = {path.stem: path for path in sorted(RECORDED.glob("*.json"))}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_that_was_produced_is_named_with_its_rank_its_node_and_its_cause(name: str) -> None:
    from faults import BY_NAME, wrong

    assert wrong(BY_NAME[name], diagnose(read(EXPECTED[name]))) == []


def test_every_fault_that_rules_name_is_recorded() -> None:
    from faults import FAULTS

    assert {each.how for each in FAULTS} == {each for rule in RULES for each in rule.produced}
    assert {each.name for each in FAULTS} == {
        name for name in EXPECTED if not name.startswith(("nccl-", "gpu-"))
    }


def test_every_rule_is_held_by_a_fault_or_by_a_test() -> None:
    held = {rule.code for rule in RULES if rule.produced or callable(globals().get(rule.test))}
    assert held == set(BY_CODE)


# ---- GPUs and NCCL: words that were read -----------------------------------------------------------------------------

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {wanted}. GPU 0 has a total capacity of 79.11 GiB "
    "of which 12.94 MiB is free. {others}Including non-PyTorch memory, this process has {own} memory in use. Of the "
    "allocated memory {used} is allocated by PyTorch, and {idle} is reserved by PyTorch but unallocated."
)
OTHERS = "Process 4711 has 70.00 GiB memory in use. "


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (
            {
                "wanted": "2.00 GiB",
                "others": OTHERS,
                "own": "9.00 GiB",
                "used": "8.50 GiB",
                "idle": "100.00 MiB",
            },
            "other processes (4711) hold 70.0 GiB of the GPU's 79.1 GiB",
        ),
        (
            {
                "wanted": "2.00 GiB",
                "others": "",
                "own": "79.00 GiB",
                "used": "60.00 GiB",
                "idle": "18.00 GiB",
            },
            "torch holds 18.0 GiB that it does not use, in pieces that are too small for 2.0 GiB",
        ),
        (
            {
                "wanted": "20.00 GiB",
                "others": "",
                "own": "79.00 GiB",
                "used": "78.00 GiB",
                "idle": "200.00 MiB",
            },
            "does not fit into its GPU",
        ),
    ],
)
def test_a_gpu_without_memory_is_told_with_what_held_it(words: Mapping[str, str], cause: str) -> None:
    found = diagnose(failed(failure(OOM.format(**words)), failure(GLOO, 0)))
    assert (found.code, found.rank, found.node) == ("oom-gpu", 1, "lab-2")
    assert cause in found.cause


ASSERTION = (
    "../aten/src/ATen/native/cuda/Loss.cu:245: nll_loss_forward_reduce_cuda_kernel_2d: block: [0,0,0], thread: [4,0,0] "
    "Assertion `t >= 0 && t < n_classes` failed."
)
ASSERTED = "RuntimeError: CUDA error: device-side assert triggered"


def test_a_device_side_assert_is_told_apart_from_its_echo() -> None:
    echo = failure(
        "torch.distributed.DistBackendError: NCCL error: unhandled cuda error, device-side assert", 0
    )
    found = diagnose(replace(failed(echo, failure(ASSERTED)), lines={1: ["epoch 3", ASSERTION]}))
    assert (found.code, found.rank, found.sure) == ("device-assert", 1, "likely")
    assert "t >= 0 && t < n_classes" in said(found) and "CUDA_LAUNCH_BLOCKING=1" in said(found)


DUPLICATE = (
    "torch.distributed.DistBackendError: NCCL error in: x.cpp:3690, invalid usage, ncclInvalidUsage: ...\n"
    "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (DUPLICATE, "duplicate-gpu"),
        ("RuntimeError: CUDA error: invalid device ordinal", "few-gpus"),
        ("swarmtrain.errors.TrainerError: local rank 1 has no GPU of its own", "few-gpus"),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update",
            "driver-mismatch",
        ),
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "driver-mismatch",
        ),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "gpu-lost"),
        ("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", "gpu-busy"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "gpu-address"),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "gpu-address"),
    ],
)
def test_what_torch_cuda_and_nccl_say_of_gpus_is_known(words: str, code: str) -> None:
    found = diagnose(failed(failure(words), failure(GLOO, 0)))
    assert (found.code, found.rank) == (code, 1)


@pytest.mark.parametrize(("gpus", "words"), [(0, "shows its workers no GPU"), (2, "built without CUDA")])
def test_why_a_script_gets_no_gpu_depends_on_what_its_node_shows(gpus: int, words: str) -> None:
    case = failed(failure("AssertionError: Torch not compiled with CUDA enabled"))
    members = [replace(each, gpus=gpus) for each in case.status.members]
    found = diagnose(replace(case, status=replace(case.status, members=members)))
    assert found.code == "no-gpu" and words in found.cause


WATCHDOG = (
    "torch.distributed.DistBackendError: [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum="
    "7, OpType=ALLREDUCE, NumelIn=1024, NumelOut=1024, Timeout(ms)=600000) ran for 600028 milliseconds before timing."
)


DONE = FlightRecord("0", 6, "all_reduce", [[4]], ["Float"], done=True)
OPEN = FlightRecord("0", 7, "all_reduce", [[1024]], ["Float"], place="train.py:57 in step")


def flights_of(records: list[list[FlightRecord]]) -> dict[int, FlightReport]:
    return {rank: FlightReport(each, {"0": [0, 1, 2]}) for rank, each in enumerate(records)}


def waited(words: str, records: list[list[FlightRecord]]) -> Case:
    """Three ranks that say that they have waited in vain; what was captured meanwhile."""
    case = failed(*(failure(words.format(rank=rank), rank) for rank in (0, 1, 2)))
    worker = case.status.workers[0]
    workers = [replace(worker, rank=rank, node=f"lab-{rank + 1}") for rank in (0, 1, 2)]
    stacks = {1: DUMP.format(innermost="/home/ada/helper.py")}
    status = replace(case.status, workers=workers)
    return replace(case, status=status, flights=flights_of(records), stacks=stacks, looked=1008.0)


def test_the_rank_that_did_not_come_is_named_by_the_flight_records_of_all() -> None:
    case = waited(WATCHDOG, [[DONE, OPEN], [DONE], [DONE, OPEN]])
    found = diagnose(case)
    assert (found.code, found.rank, found.sure) == ("collective-timeout", 1, "likely")
    assert found.verdict == (
        "rank 1 on lab-2 did not come to all_reduce #7, in which ranks 0 and 2 waited for 600 s: it was at "
        "helper.py:7 in wait"
    )
    assert "rank 1 is not in all_reduce #7 of Float [1024] (train.py:57 in step)" in found.evidence[0].text
    assert diagnose(replace(case, flights={})).rank is None, "without them nobody knows"
    before = diagnose(replace(case, looked=1009.0 - 601))
    assert before.rank is None, "they were taken before the others began to wait"


def test_the_rank_that_a_process_group_of_a_plain_script_missed_is_named_with_its_line() -> None:
    case = waited("RuntimeError: [gloo] Timed out waiting {rank}4000ms for recv operation to complete", [])
    causes = [each for each in case.causes if each.rank != 1]
    seen_then = replace(case, causes=causes, flights=flights_of([[DONE, OPEN], [DONE], [DONE, OPEN]]))
    found = diagnose(seen_then)
    assert (found.code, found.rank) == ("collective-timeout", 1) and "it was at helper.py:7" in found.verdict
    assert "helper.py" not in said(diagnose(replace(seen_then, looked=900.0)))


def test_the_first_collective_that_is_not_the_same_everywhere_is_named() -> None:
    other = FlightRecord("0", 7, "broadcast", [[8]], ["Float"], place="train.py:61 in step")
    found = diagnose(waited(WATCHDOG, [[DONE, OPEN], [DONE, other], [DONE, OPEN]]))
    assert (found.code, found.rank) == ("collective-mismatch", 1)
    assert found.verdict.startswith(
        "rank 1 is in broadcast #7 of Float [8] (train.py:61 in step), ranks 0 and 2"
    )
    assert found.cause == "not all ranks call the same collectives"


STUCK = [FlightRecord("0", 7, "all_reduce", [[1 << 16]], ["Float"], place="train.py:57 in step")]
TIMEOUT = "RuntimeError: [gloo] Timed out waiting 4000ms for recv operation to complete: rank {rank}"


def formed(backend: str) -> GenerationFormed:
    return GenerationFormed(
        text="generation 1", generation=1, parts={}, backend=backend, master=MasterAddress("lab-1", "", 1)
    )


def test_a_collective_in_which_nobody_is_missing_is_laid_on_the_network() -> None:
    together = replace(waited(TIMEOUT, [[DONE, *STUCK]] * 3), events=[formed("gloo")])
    found = diagnose(together)
    assert (found.code, found.rank, found.sure) == ("messages-lost", None, "possible")
    assert "all ranks are in all_reduce #7 of Float [65536]" in found.verdict
    assert "of up to 16 bytes came through and one of 262144 bytes does not" in found.cause
    assert any("swarmtrain doctor" in each.command for each in found.remedies)
    large = replace(STUCK[0], seq=6, done=True)
    found = diagnose(replace(together, flights=flights_of([[large, *STUCK]] * 3)))
    assert (found.code, found.sure) == ("messages-lost", "likely") and "MTU" not in found.cause
    on_nccl = diagnose(replace(together, flights=flights_of([[large, *STUCK]] * 3), events=[formed("nccl")]))
    assert on_nccl.sure == "possible" and "Whether each GPU has come to it" in said(on_nccl)
    assert "Which way between two nodes it is" in said(on_nccl)
    again = {"link/sent_again_ratio": 0.31}
    measured = NodeMeasures(links={"lab-3": again, "lab-1": {"link/sent_again_ratio": 0.01}})
    told = said(diagnose(replace(together, measures={"lab-2": measured})))
    assert "31 % of what lab-2 sent to lab-3 had to be sent again" in told and "to lab-1 had" not in told
    assert "Which way between two nodes it is" not in told
    assert diagnose(replace(together, looked=900.0)).code == "collective-timeout", "taken before they waited"
    one_missing = replace(together, flights=flights_of([[DONE, *STUCK], [DONE], [DONE, *STUCK]]))
    assert diagnose(one_missing).code == "collective-timeout"
    one_silent = replace(together, flights={0: together.flights[0], 1: together.flights[1]})
    assert diagnose(one_silent).code == "collective-timeout"


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("all ranks wait in all_reduce (train.py:57 in step)", "messages-lost"),
        (
            "rank 0 waits in barrier (a.py:3 in f); ranks 1 and 2 wait in barrier (a.py:3 in f)",
            "messages-lost",
        ),
        ("rank 0 waits in barrier (a.py:3 in f); rank 1 waits in barrier (a.py:9 in f)", "stall"),
        ("rank 0 waits in barrier (a.py:3 in f); rank 1 is at a.py:3 in f", "stall"),
        ("no rank makes steps, and none tells where it is", "stall"),
    ],
)
def test_ranks_that_all_wait_in_one_place_are_told_from_others(what: str, code: str) -> None:
    hang = replace(failure(f"no step for 60 s: {what}", kind="hang"), rank=None, node="")
    found = diagnose(failed(hang, events=(formed("gloo"),)))
    assert diagnose(failed(hang, events=(formed("nccl"),))).code == "stall"
    assert (found.code, found.rank) == (code, None)
    assert found.sure in ("possible", "unknown")


# ---- what does not start ---------------------------------------------------------------------------------------------


def sentences() -> list[str]:
    """Every sentence that swarm/obstacles.py knows, with its blanks filled in."""
    facts = {blank.strip("{}"): one for blank, (one, _) in VERBS.items()}
    facts |= {"node": WHO, "image": "lab/train:1", "role": "agent", "error": "nvidia: x", "what": "/data"}
    return [each.sentence.format(**facts).replace(WHO, "bob") for each in MEANINGS]


@pytest.mark.parametrize(
    "reason",
    [
        *sentences(),
        "Swarm finds no node for agent train-1_agent.2 (insufficient resources); docker service ls",
        "bob is down",
        "the agent on bob was killed, perhaps for want of memory (exit code 137)",
        "the agent on bob ended with exit code 1, 3 times; docker service logs train-1_agent shows what it said",
        "train-1-node0 did not start: exec format error",
        "2 of 3 nodes joined (alice, bob) within 900 s",
        "carol did not join",
        "the agent of node1 ended: Killed",
    ],
)
def test_a_run_that_did_not_get_to_its_place_is_explained(reason: str) -> None:
    found = diagnose(Case.of(seen(state="failed", reason=reason, generation=0, workers=[], members=[]), ()))
    assert found.code in BY_CODE and found.code not in ("unknown", "refused"), reason
    assert reason in found.verdict
    assert found.remedies and found.cause and found.rank is None


def test_what_is_missing_is_named_in_the_command_to_copy() -> None:
    reason = "bob has no image lab/train:1 and cannot pull it; push it, or: docker save lab/train:1"
    found = diagnose(Case.of(seen(state="failed", reason=reason, generation=0), ()))
    assert (found.code, found.remedies[0].command) == ("image-missing", "docker push lab/train:1")


# ---- nodes, people, memory -------------------------------------------------------------------------------------------

LOST = Failure(
    "node", "lab-2", 1009.0, "was lost with rank 1: its connection closed and it did not come back"
)
SIGKILLED = failure("killed by SIGKILL", kind="signal", signal=int(signal.SIGKILL), log=["epoch 1"])


def joined(incarnation: str, time: float) -> NodeJoined:
    machine: dict[str, Any] = {"node": "lab-2", "node_id": "m2", "address": "", "interface": "", "gpus": 0}
    return NodeJoined(text="lab-2 joined", time=time, incarnation=incarnation, **machine)


TOLD = NodeLeaving(text="lab-2 is told to leave", node="lab-2", time=1008.0)
SILENT = replace(LOST, summary="was lost with rank 1: it stopped answering (no power, frozen, or cut off)")
CUT_OFF = replace(LOST, summary="stopped by its own agent, which was cut off or told to leave")
NO_MEMORY = replace(
    SIGKILLED, kind="memory", summary="killed by SIGKILL: out of memory (the kernel's OOM killer)"
)


@pytest.mark.parametrize(
    ("what", "events", "code"),
    [
        (LOST, (), "node-lost"),
        (LOST, (joined("a", 1001.0), joined("b", 1010.0)), "node-restarted"),
        (LOST, (joined("a", 1001.0), TOLD), "node-told-to-leave"),
        (LOST, (ChaosCaused(text="chaos: kills lab-2", time=1008.5),), "chaos"),
        (LOST, (ChaosCaused(text="chaos: kills lab-1", time=1008.5),), "node-lost"),
        (SILENT, (), "node-silent"),
        (CUT_OFF, (), "node-trouble"),
        (SIGKILLED, (), "killed"),
        (SIGKILLED, (ChaosCaused(text="chaos: kills rank 1", time=1008.5),), "chaos"),
        (SIGKILLED, (ChaosCaused(text="chaos: kills rank 1", time=900.0),), "killed"),
        (NO_MEMORY, (), "oom-host"),
    ],
)
def test_what_came_from_outside_is_told_apart(what: Failure, events: tuple[Event, ...], code: str) -> None:
    found = diagnose(failed(what, events=events))
    assert (found.code, found.node) == (code, "lab-2")


@pytest.mark.parametrize(
    ("booted", "sure", "words"),
    [
        ((500.0, 1009.5), "certain", "its machine was started again, while the run went on"),
        ((500.0, 500.4), "certain", "its container was started again, and its machine was not"),
        ((0.0, 0.0), "likely", "its container, or its machine, was started again"),
    ],
)
def test_a_machine_that_was_started_again_is_told_from_its_container(
    booted: tuple[float, float], sure: str, words: str
) -> None:
    first, again = booted
    events = (replace(joined("a", 1001.0), boot=first), replace(joined("b", 1030.0), boot=again))
    found = diagnose(failed(LOST, events=events))
    assert (found.code, found.sure) == ("node-restarted", sure) and words in found.cause


def warm(node: str, torch: str, nccl: str = "", python: str = "3.11.7") -> StartsWarm:
    nccl = f", NCCL {nccl}" if nccl else ""
    text = f"{node}: torch {torch}{nccl} is imported in Python {python}; workers are forked"
    return StartsWarm(text=text, node=node)


def test_nodes_with_other_versions_are_told_where_that_explains_something() -> None:
    apart = (warm("lab-1", "2.12.0", "2.26.2"), warm("lab-2", "2.13.0", "2.27.5"))
    named = failure("ImportError: cannot import name 'fully_shard' from 'torch.distributed.fsdp'")
    found = diagnose(failed(named, failure(GLOO, 0), events=apart))
    assert (found.code, found.rank, found.sure) == ("versions-differ", 1, "likely")
    assert "nodes do not have the same torch and NCCL" in found.cause
    assert "lab-1 has torch 2.12.0" in said(found) and "lab-2 has NCCL 2.27.5" in said(found)
    echoes = diagnose(failed(failure(GLOO, 1), failure(GLOO, 0), events=apart))
    assert (echoes.code, echoes.rank, echoes.sure) == ("versions-differ", None, "possible")
    for what, events in (
        ((named,), (warm("lab-1", "2.13.0"), warm("lab-2", "2.13.0"))),
        ((named,), apart[:1]),
        ((named, replace(named, rank=0, node="lab-1")), apart),
        ((failure("ValueError: shard 7 is damaged"),), apart),
        ((failure(TIMEOUT, 1), failure(TIMEOUT, 0)), apart),
        (
            (named,),
            (StartsWarm(text="lab-1: torch 2.13.0 is imported; workers are forked", node="lab-1"), apart[1]),
        ),
    ):
        assert diagnose(failed(*what, events=events)).code != "versions-differ"


def test_a_clock_that_is_wrong_is_evidence_where_a_time_is_refused() -> None:
    refused = failure(
        "botocore.exceptions.ClientError: An error occurred (RequestTimeTooSkewed) when calling"
    )
    expired = failure("ssl.SSLCertVerificationError: certificate verify failed: certificate has expired")
    late = ClockApart(text="lab-2: its clock is 3600 s behind the run's", node="lab-2", ahead=-3600.0)
    assert [diagnose(failed(each)).sure for each in (refused, expired)] == ["likely", "possible"]
    for each in (refused, expired):
        found = diagnose(failed(each, events=(late,)))
        assert (found.code, found.cause) == ("clock-skew", "the clock of its node is wrong")
        assert "3600 s behind" in said(found)
        assert "3600 s" not in said(diagnose(failed(each, events=(replace(late, node="lab-1"),))))


FULL = {
    "node/memory_available_bytes": 0.2e9,
    "node/memory_used_ratio": 0.975,
    "node/disk_free_bytes": 1e9,
    "node/disk_used_ratio": 0.99,
}
HOT = {"gpu/memory_used_bytes": 79e9, "gpu/memory_total_bytes": 80e9, "gpu/temperature_celsius": 91.0}
FALLEN = HOT | {"gpu/xid_errors": 1.0, "gpu/last_xid": 79.0}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (NO_MEMORY, "node lab-2 had 0.2 of 8.0 GB of memory free 3 s before"),
        (
            failure("OSError: [Errno 28] No space left on device: 'x'"),
            "node lab-2 had 1.0 of 100.0 GB free where the run keeps its files 3 s before",
        ),
        (
            failure(OOM.format(wanted="2.00 GiB", others="", own="", used="1.00 GiB", idle="1.00 MiB")),
            "GPU 0 of lab-2 held 79.0 of 80.0 GB of memory and was at 91 °C 3 s before",
        ),
    ],
)
def test_what_was_measured_on_a_node_is_evidence(what: Failure, words: str) -> None:
    measured = NodeMeasures(time=what.time - 3, values=FULL, gpus={"0": HOT})
    case = replace(failed(what), measures={"lab-2": measured})
    assert words in [each.text for each in diagnose(case).evidence]
    assert words not in said(diagnose(replace(case, measures={"lab-1": measured}))), "of another node"


def test_a_fault_that_the_driver_told_of_is_evidence() -> None:
    what = failure("RuntimeError: CUDA error: GPU is lost")
    measured = NodeMeasures(time=what.time - 3, gpus={"0": FALLEN})
    found = diagnose(replace(failed(what), measures={"lab-2": measured}))
    assert found.code == "gpu-lost"
    assert any("had a fault that its driver calls Xid 79" in each.text for each in found.evidence)


# ---- live ------------------------------------------------------------------------------------------------------------

GONE = "coordinator-gone"
STALL = StallSeen(
    text="no step for 30 s: rank 1 on lab-2 is at train.py:9 in train, while the others wait", rank=1
)
SLOW = StragglerSeen(
    text="lab-2: rank 1 takes 30 ms a step for its own work, 3.0 times as long", rank=1, node="lab-2"
)


@pytest.mark.parametrize(
    ("status", "events", "stands", "code"),
    [
        ({"step": 12}, (), False, "healthy"),
        ({"step": 12}, (STALL,), False, "healthy"),
        ({"step": 12}, (STALL,), True, "stuck-code"),
        ({"step": 12}, (SLOW,), False, "slow-rank"),
        ({"step": 12, "loss": float("nan")}, (), False, "nan-loss-live"),
        ({"snapshots_failing": {"lab-2": "no space left"}}, (), False, "snapshots-failing"),
        ({"state": "starting", "generation": 0}, (), False, "starting"),
        ({"state": "succeeded"}, (), False, "succeeded"),
        (
            {"state": "failed", "reason": "its coordinator was killed, so nobody knows how it ended"},
            (),
            False,
            GONE,
        ),
    ],
)
def test_a_run_that_lives_is_explained(
    status: dict[str, Any], events: tuple[Event, ...], stands: bool, code: str
) -> None:
    assert diagnose(replace(Case.of(seen(**status), events), stands=stands)).code == code


def test_a_run_that_heals_is_explained_by_what_befell_it() -> None:
    fell = GenerationFailed(text="rank 1 on lab-2: killed by SIGKILL", time=1009.0, failure=SIGKILLED)
    echo = GenerationFailed(text="rank 0 lost touch", time=1009.1, failure=failure(GLOO, 0))
    formed = GenerationFormed(
        text="generation 2", generation=2, parts={}, backend="gloo", master=MasterAddress("lab-1", "", 1)
    )
    healing = seen(step=12, healing="rank 1 on lab-2: killed by SIGKILL")
    for events in ((echo, fell), (echo, fell, formed)):
        found = diagnose(Case.of(healing, events))
        assert (found.code, found.rank, found.node) == ("killed", 1, "lab-2")
    assert diagnose(Case.of(replace(healing, healing=None), (echo, fell, formed))).code == "healthy"


def test_of_a_healthy_run_it_is_said_what_was_looked_at_and_nothing_else() -> None:
    found = diagnose(Case.of(seen(step=12), ()))
    assert found.verdict == "digits.1 is running, and nothing is wrong that can be seen"
    assert "2 ranks on 2 nodes" in said(found) and "the newest step is 12" in said(found)
    assert not found.remedies and not explanation.is_trouble(found)


DUMP = """Current thread 0x00007f00 (most recent call first):
  File "{innermost}", line 7 in wait
  File "/home/ada/train.py", line 9 in train
"""
IS_AT = (
    "no step for 60 s: it is at train.py:9 in train, while the others wait in backward (train.py:41 in train)"
)
NOBODY = "no step for 60 s: all ranks wait in backward (train.py:41 in train)"


@pytest.mark.parametrize(
    ("innermost", "code"),
    [
        ("/usr/lib/python3.11/threading.py", "stuck-lock"),
        ("/usr/lib/python3.11/pathlib.py", "stuck-files"),
        ("/usr/lib/python3.11/ssl.py", "stuck-network"),
        ("/usr/lib/python3.11/site-packages/torch/utils/data/dataloader.py", "stuck-data"),
        ("/home/ada/helper.py", "stuck-code"),
    ],
)
def test_who_stands_still_where_is_told(innermost: str, code: str) -> None:
    hang = failure(IS_AT, kind="hang", traceback=DUMP.format(innermost=innermost))
    found = diagnose(failed(hang))
    assert (found.code, found.rank, found.node) == (code, 1, "lab-2")
    assert found.verdict.startswith("rank 1 on lab-2 is at train.py:9 in train, while the others wait")
    assert diagnose(failed(Failure("hang", "", 1009.0, NOBODY))).code == "stall"


@pytest.mark.parametrize(
    ("what", "innermost"),
    [
        ("it is in broadcast #7, ranks 0 and 2 in all_reduce #7: the order differs", "/home/ada/helper.py"),
        ("it is in all_reduce #7, ranks 0 and 2 in broadcast #7: a call was left out", "/home/ada/helper.py"),
        (
            "it is not in all_reduce #7, in which ranks 0 and 2 wait",
            "/usr/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py",
        ),
    ],
)
def test_a_rank_that_waits_in_another_collective_is_not_said_to_be_in_its_own_code(
    what: str, innermost: str
) -> None:
    hang = failure(f"no step for 60 s: {what}", kind="hang", traceback=DUMP.format(innermost=innermost))
    found = diagnose(failed(hang))
    assert (found.code, found.rank) == ("collective-apart", 1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("RuntimeError: can't start new thread", "no-processes"),
        ("OSError: [Errno 5] Input/output error: '/data/x'", "disk-error"),
        ("OSError: [Errno 116] Stale file handle", "disk-error"),
    ],
)
def test_what_python_and_the_system_say_is_known(words: str, code: str) -> None:
    assert diagnose(failed(failure(words))).code == code


@pytest.mark.parametrize(
    ("words", "innermost"),
    [
        ("RuntimeError: DataLoader worker (pid 16645) is killed by signal: Killed. ", "handler"),
        ("RuntimeError: DataLoader worker (pid(s) 12, 13) exited unexpectedly", "_try_get_data"),
        ("EOFError", "rebuild_storage_fd"),
        ("FileNotFoundError: [Errno 2] No such file or directory", "rebuild_storage_fd"),
    ],
)
def test_a_loader_that_died_is_known_by_whatever_its_trainer_was_doing(words: str, innermost: str) -> None:
    traceback = f"""Traceback (most recent call last):
  File "/work/train.py", line 12, in <module>
    for batch in loader:
  File "/usr/lib/python3/site-packages/torch/utils/data/dataloader.py", line 1291, in _try_get_data
    data = self._data_queue.get(timeout=timeout)
  File "/usr/lib/python3/site-packages/torch/multiprocessing/reductions.py", line 538, in {innermost}
    fd = df.detach()
{words}"""
    found = diagnose(failed(failure(words, traceback=traceback)))
    assert (found.code, found.sure) == ("loader-died", "possible")


def test_a_file_that_only_the_client_sees_is_told_of() -> None:
    missing = failure("FileNotFoundError: [Errno 2] No such file or directory: 'data.bin'")
    assert diagnose(failed(missing)).code == "missing-file"
    found = diagnose(failed(replace(missing, hint="/home/ada/data.bin is here, but it was not sent: ...")))
    assert (found.code, found.sure) == ("file-not-sent", "certain")
    assert "is here, but it was not sent" in found.cause


# ---- what nobody foresaw ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (failure("ValueError: no space left in the schedule"), "exception"),
        (failure("app.Oops: out of memory of our users"), "exception"),
        (failure("RuntimeError: the port is in use by the other team"), "exception"),
        (failure("ConnectionResetError: [Errno 104] Connection reset by peer"), "exception"),
        (failure("exited with code 77", kind="exit", code=77, log=["out of memory? no"]), "exit-code"),
        (failure("exited with code 2", kind="exit", code=2, log=["two"]), "exit-code"),
        (failure("killed by SIGUSR1", kind="signal", signal=int(signal.SIGUSR1)), "exit-code"),
        (failure("KeyError: 'nan'"), "exception"),
        (failure("ValueError: loss 'infonce' is unknown"), "exception"),
        (failure("ImportError: Using the `Trainer` requires `accelerate`"), "exception"),
        (failure("ConnectionRefusedError: [Errno 111] Connection refused"), "exception"),
        (failure("BlockingIOError: [Errno 11] Resource temporarily unavailable"), "exception"),
        (failure("exited with code 2", kind="exit", code=2, log=["gcc: error: no input files"]), "exit-code"),
        (failure("CalledProcessError: Command ['x', 'No space left on device'] returned 9"), "exception"),
        (failure("ValueError: CUDA out of memory is what we handle"), "exception"),
        (failure("ValueError: shape of GPU is lost in translation"), "exception"),
    ],
)
def test_what_only_sounds_like_something_else_is_not_taken_for_it(what: Failure, code: str) -> None:
    assert diagnose(failed(what)).code == code


def test_what_broke_in_a_collective_is_not_taken_for_a_rank_that_failed_by_itself() -> None:
    deep = TRACEBACK.replace("torch/nn/modules/module.py", "torch/distributed/distributed_c10d.py")
    own = failure("ValueError: shard 7 is damaged", traceback=TRACEBACK)
    strange = failure("RuntimeError: words of a later torch", 0, traceback=deep)
    assert diagnose(failed(own, strange)).code == "exception"
    assert diagnose(failed(own, replace(strange, traceback=TRACEBACK))).code == "different-exceptions"


def test_what_no_rule_knows_stays_unknown_with_the_evidence() -> None:
    found = diagnose(failed(failure("fell into a hole", kind="of a later version")))
    assert (found.code, found.sure) == ("unknown", "unknown")
    assert "fell into a hole" in said(found)


def test_echoes_alone_name_nobody() -> None:
    found = diagnose(failed(failure(GLOO, 1), failure(GLOO, 0)))
    assert (found.code, found.rank, found.sure) == ("lost-touch", None, "unknown")
    assert "What began it" in said(found)


# ---- its shape -------------------------------------------------------------------------------------------------------

TRACEBACK = """Traceback (most recent call last):
  File "/home/ada/train.py", line 57, in <module>
    main()
  File "/home/ada/train.py", line 41, in main
    step(model)
  File "/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1, in _call
    return f()
ValueError: shard 7 is damaged
"""


def test_a_diagnosis_says_who_what_where_when_why_and_what_to_do() -> None:
    first = failure("ValueError: shard 7 is damaged", traceback=TRACEBACK)
    text = said(diagnose(failed(first, failure(GLOO, 0))))
    assert text.splitlines()[0] == "rank 1 on lab-2 raised ValueError: shard 7 is damaged"
    assert re.search(r"^  since [-\d ]*\d\d:\d\d:\d\d, at step 187$", text, re.MULTILINE)
    assert re.search(r"^  rank 1 on lab-2  [-\d ]*\d\d:\d\d:\d\d  train.py:41 in main$", text, re.MULTILINE)
    assert "rank 0 lost touch with another rank" in text
    assert "cause: an exception that nobody caught, at train.py:41 in main (certain)" in text
    assert "       swarmtrain logs digits.1 --rank 1 --tail 50" in text
    assert max(map(len, text.splitlines())) <= 80


def test_commands_are_never_broken() -> None:
    found = diagnose(failed(failure("AssertionError: Torch not compiled with CUDA enabled")))
    lines = explanation.render(found, 40)
    assert all(f"       {each.command}" in lines for each in found.remedies if each.command)


def test_a_diagnosis_travels_whole() -> None:
    found = diagnose(failed(failure("ValueError: x", traceback=TRACEBACK)))
    assert codec.load(Diagnosis, found.dump()) == found


def test_the_innermost_line_of_the_users_own_code_is_the_place() -> None:
    assert place(TRACEBACK) == "train.py:41 in main"
    assert place("no traceback") == ""


def test_kinds_have_one_name_each_and_say_enough() -> None:
    assert len(BY_CODE) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.code)
        assert not rule.title.endswith(".") and rule.about.endswith("."), rule.code
        assert len(rule.about) > 20, rule.code


def test_commands_of_remedies_are_commands_that_exist() -> None:
    from swarmtrain.ui.cli import COMMANDS

    source = Path(diagnose.__code__.co_filename).parent
    named = {
        word
        for path in source.glob("**/*.py")
        for word in re.findall(r"\"swarmtrain (\w+)", path.read_text())
    }
    assert named and named <= set(COMMANDS)
