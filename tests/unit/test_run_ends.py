"""How runs end when their ranks end each in its own way: too early, in their own ending, or with words."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from run_fakes import Ear, Theatre, WireMessages, exited, join, phase, pulse

from swarmtrain.control.result import RunResult
from swarmtrain.control.views import ending
from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.explain import explain
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.wire.pulse import Activity, Source

CLOSED = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.1.3]:{port}"
Agents = dict[str, tuple[ConnectedAgent, Ear]]


def trained(stage: Theatre, run: RunController, steps: tuple[int, ...] = (12, 12), **fields: Any) -> Agents:
    """Two nodes have joined, and their ranks have made so many steps."""
    agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
    for peer, _ in agents.values():
        join(run, peer)
    train(stage, run, agents, steps, **fields)
    return agents


def train(stage: Theatre, run: RunController, agents: Agents, steps: tuple[int, ...], **fields: Any) -> None:
    g = run.current.generation.number
    for rank, (peer, _) in enumerate(agents.values()):
        WireMessages(run).worker(peer, {"g": g, "rank": rank, "state": "running", "pid": 7, "t": 1.0})
    stage.clock.turn(0.5)
    for rank, (peer, _) in enumerate(agents.values()):
        peer.heard = stage.clock.now
        WireMessages(run).beat(peer, [pulse(rank, steps[rank], g=g, **{"source": Source.WATCHED} | fields)])


def broken(rank: int, g: int = 1, port: int = 34_538, **fields: Any) -> dict[str, Any]:
    """A rank whose collective broke."""
    return exited(rank, 1, g=g, error={"summary": CLOSED.format(port=port), "traceback": "Trace"}, **fields)


def gone(run: RunController, agents: Agents, g: int = 1) -> None:
    """Both nodes are rid of their workers."""
    for peer, _ in agents.values():
        WireMessages(run).idle(peer, g, 20_002)
        WireMessages(run).drained(peer, g)


def test_no_rank_of_a_run_that_was_killed_goes_on_running(stage: Theatre) -> None:
    """As `docker kill` leaves it: whoever looks first writes down the end, and nobody tells of the workers."""
    run = stage.make()
    stage.play(lambda: trained(stage, run))
    stage.forget()
    found = stage.make()
    assert {worker.state for worker in status(found).workers} == {"running"}
    stage.play(lambda: actions.conclude(found, Outcome.STOPPED, "killed by a person"))
    told = [(worker.state, worker.exit) for worker in status(found).workers]
    assert told == [("killed", "killed with its run")] * 2
    stage.forget()
    assert status(stage.make()).workers == status(found).workers, "also for who reads the archive"


@pytest.mark.parametrize("first", ["the end", "the echo"])
def test_a_rank_that_ends_with_0_while_others_go_on_is_the_cause_and_not_tried_for_ever(
    stage: Theatre, first: str
) -> None:
    """The words of both come by connections of their own, in either order."""
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run, (13, 12))
        for g in (1, 2):
            said = [
                (agents["b"][0], exited(1, 0, g=g)),
                (agents["a"][0], broken(0, g, port=30_000 + g)),
            ]
            for peer, state in said if first == "the end" else said[::-1]:
                WireMessages(run).worker(peer, state)
            gone(run, agents, g)
            if g == 1:
                assert run.current.generation.number == 2
                train(stage, run, agents, (13, 12))

    stage.play(scene)
    assert run.state.outcome is Outcome.FAILED
    assert run.state.reason == (
        "rank 1 on b: ended with 0 after 12 steps while the others went on (it failed at step 13 2 times in a row, "
        "each time on a fresh start; another would end so, too)"
    )
    assert [cause.rank for cause in run.state.causes] == [1, 0]


def test_each_of_many_ranks_that_end_too_early_is_said_once(stage: Theatre) -> None:
    """What is heard of one is looked at together with all others; nobody may be counted again for that."""
    run = stage.make(restart=False)

    def scene() -> None:
        agents = {"a": stage.agent("a"), "b": stage.agent("b", 1, workers=7)}
        for peer, _ in agents.values():
            join(run, peer)
        for rank in range(1, 8):
            WireMessages(run).worker(agents["b"][0], exited(rank, 0))
        WireMessages(run).worker(agents["a"][0], broken(0))
        assert [failure.rank for failure in run.current.failures] == [0, *range(1, 8)]

    stage.play(scene)


def test_the_same_echo_at_the_same_step_is_not_tried_ten_times(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run)
        for g in (1, 2):
            WireMessages(run).worker(agents["a"][0], broken(0, g, port=30_000 + g))
            WireMessages(run).worker(agents["b"][0], exited(1, None, g=g, signal=9, killed=True))
            gone(run, agents, g)
            if g == 1:
                train(stage, run, agents, (12, 12))

    stage.play(scene)
    assert run.state.outcome is Outcome.FAILED
    assert "at step 12 2 times in a row" in run.state.reason


def test_an_end_that_breaks_nobody_is_none_of_a_failures_causes(stage: Theatre) -> None:
    run = stage.make(restart=False)

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).worker(agents["b"][0], exited(1, 0))
        WireMessages(run).worker(agents["a"][0], exited(0, 1, error={"summary": "OSError: disk full"}))
        gone(run, agents)

    stage.play(scene)
    assert [cause.summary for cause in run.state.causes] == ["OSError: disk full"]


def test_which_of_two_failed_first_is_told_by_fractions_of_a_second(stage: Theatre) -> None:
    run = stage.make(restart=False)

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).worker(agents["a"][0], exited(0, 1, error={"summary": "KeyError: 0", "time": 5.75}))
        WireMessages(run).worker(agents["b"][0], exited(1, 1, error={"summary": "KeyError: 1", "time": 5.5}))
        gone(run, agents)

    stage.play(scene)
    assert [cause.rank for cause in run.state.causes] == [1, 0]


def test_the_last_words_of_an_abort_decide_whether_it_is_an_echo(stage: Theatre) -> None:
    run = stage.make(restart=False)
    mismatch = "Is there a distributed collective mismatch in your code?"

    def scene() -> None:
        agents = trained(stage, run)
        run.output.append((1, 0), "a", 1.0, 0, f"terminate called\n  what():  {mismatch}\n")
        WireMessages(run).worker(agents["b"][0], broken(1))
        WireMessages(run).worker(agents["a"][0], exited(0, None, signal=6))
        gone(run, agents)

    stage.play(scene)
    assert run.state.reason == f"rank 0 on a: killed by SIGABRT: {mismatch}"


def test_the_process_groups_own_timeout_is_put_down_to_the_rank_that_was_waited_for(stage: Theatre) -> None:
    run = stage.make(restart=False)
    timed_out = "RuntimeError: [x.cc:78] Timed out waiting 1800000ms for recv operation to complete"

    def scene() -> None:
        agents = trained(stage, run)
        for seconds in range(1, 33):
            stage.clock.turn(1.0)
            for rank, (peer, _) in enumerate(agents.values()):
                peer.heard = stage.clock.now
                WireMessages(run).beat(peer, [pulse(rank, 12, source=Source.WATCHED, quiet=float(seconds))])
            run.tick()
        assert agents["a"][1].all("stacks")
        for rank, (peer, _) in enumerate(agents.values()):
            at = "distributed/distributed_c10d.py" if rank == 0 else "home/ada/train.py"
            file = f"/usr/lib/python3/dist-packages/torch/{at}" if rank == 0 else f"/{at}"
            dump = (
                f'Thread 0x00007f3a1c7fe6c0 (most recent call first):\n  File "{file}", line 7 in barrier\n'
            )
            WireMessages(run).stacks(peer, {"g": 1, "ranks": {str(rank): {"stack": dump, "stopped": False}}})
        WireMessages(run).worker(agents["a"][0], exited(0, 1, error={"summary": timed_out, "traceback": "T"}))
        WireMessages(run).worker(agents["b"][0], exited(1, None, signal=15, killed=True))
        gone(run, agents)

    stage.play(scene)
    assert run.state.reason.startswith("rank 1 on b: no step for 32 s: it is at train.py:7 in barrier"), (
        run.state.reason
    )
    assert [cause.rank for cause in run.state.causes] == [1, 0]


@pytest.mark.parametrize(("earlier", "blamed"), [(0.0, [1, 0]), (9.0, [0])])
def test_the_rank_that_a_plain_script_waited_for_is_named_if_a_person_has_looked_meanwhile(
    stage: Theatre, earlier: float, blamed: list[int]
) -> None:
    run = stage.make(restart=False)
    timed_out = "RuntimeError: [x.cc:78] Timed out waiting 8000ms for recv operation to complete"

    def scene() -> None:
        agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in agents.values():
            join(run, peer)
        for rank, (peer, _) in enumerate(agents.values()):
            WireMessages(run).worker(peer, {"g": 1, "rank": rank, "state": "running", "pid": 7, "t": 1.0})
        before = {"group": "0", "seq": 3, "op": "all_reduce", "done": True}
        waits = {"group": "0", "seq": 4, "op": "all_reduce", "place": "train.py:41 in step"}
        for rank, (peer, _) in enumerate(agents.values()):
            file = (
                "/usr/lib/python3/dist-packages/torch/distributed/c10d.py"
                if rank == 0
                else "/home/ada/train.py"
            )
            dump = f'Thread 0x00007f3a1c7fe6c0 (most recent call first):\n  File "{file}", line 7 in rest\n'
            flight = {"records": [before, *([waits] if rank == 0 else [])], "groups": {"0": [0, 1]}}
            told = {"stack": dump, "stopped": False, "flight": flight}
            WireMessages(run).stacks(peer, {"g": 1, "ranks": {str(rank): told}})
        stage.clock.turn(earlier)
        WireMessages(run).worker(agents["a"][0], exited(0, 1, error={"summary": timed_out, "traceback": "T"}))
        WireMessages(run).worker(agents["b"][0], exited(1, None, signal=15, killed=True))
        gone(run, agents)

    stage.play(scene)
    assert [cause.rank for cause in run.state.causes] == blamed
    if earlier == 0:
        assert run.state.reason.startswith(
            "rank 1 on b: no step for 8 s: it is not in all_reduce #4 (train.py:41 in step), in which rank 0 waits"
        ), run.state.reason
        assert "it is at train.py:7 in rest" in run.state.reason


# ---- the ending of a script ------------------------------------------------------------------------------------


def test_a_crash_after_the_last_line_of_code_takes_nothing_from_the_run(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).worker(agents["b"][0], exited(1, 0, ended=True))
        WireMessages(run).worker(agents["a"][0], exited(0, None, signal=int(signal.SIGABRT), ended=True))
        assert phase(run) is Phase.RUNNING
        gone(run, agents)

    stage.play(scene)
    assert (run.state.outcome, run.current.generation.number) == (Outcome.SUCCEEDED, 1)
    (warning,) = run.journal.all(Warned)
    assert warning.text == "rank 0 on a: killed by SIGABRT after its last line of code: its work was done"


def test_an_echo_in_the_ending_of_a_rank_is_no_failure(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).worker(agents["a"][0], broken(0, ended=True))
        assert phase(run) is Phase.RUNNING  # the other one may still write its model
        WireMessages(run).worker(agents["b"][0], exited(1, 0, ended=True))
        gone(run, agents)

    stage.play(scene)
    assert phase(run) is Phase.ENDED
    assert run.current.generation.number == 1


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"code": 3}, "exited with code 3 at its end, after its last line of code"),
        ({"code": None, "signal": 9}, "killed by SIGKILL at its end, after its last line of code"),
    ],
)
def test_an_ending_that_fails_is_told_and_the_training_not_begun_anew(
    stage: Theatre, end: dict[str, Any], words: str
) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).worker(agents["a"][0], exited(0, end["code"], signal=end.get("signal"), ended=True))
        assert phase(run) is Phase.RUNNING
        WireMessages(run).worker(agents["b"][0], exited(1, 0, ended=True))
        gone(run, agents)

    stage.play(scene)
    assert (run.state.outcome, run.current.generation.number) == (Outcome.FAILED, 1)
    assert run.state.reason == (
        f"rank 0 on a: {words} (every rank had left its last line of code, so it is not begun anew)"
    )


def test_a_node_that_is_lost_while_all_scripts_end_does_not_begin_the_training_anew(stage: Theatre) -> None:
    run = stage.make(nodes_min=1)

    def scene() -> None:
        agents = trained(stage, run, activity=Activity.ENDING)
        WireMessages(run).left(agents["b"][0])
        for _ in range(8):
            stage.clock.turn(1.0)
            agents["a"][0].heard = stage.clock.now
            run.tick()
        WireMessages(run).worker(agents["a"][0], exited(0, 0, ended=True))
        gone(run, {"a": agents["a"]})
        assert phase(run) is Phase.STOPPING  # another agent may come and bring what b's worker wrote last
        stage.clock.turn(2.0)
        run.tick()

    stage.play(scene)
    assert (run.phase, run.current.generation.number) == (Phase.ENDED, 1)
    assert run.state.reason.startswith("b was lost with rank 1")
    assert "b has not delivered" in run.journal.all(Warned)[-1].text


@pytest.mark.parametrize("end", ["stop", "stop while it gathers", "failure", "success"])
def test_an_end_waits_for_what_a_lost_agents_workers_wrote(stage: Theatre, end: str) -> None:
    """Another agent is started where the node lives, and brings what is on its disk."""
    run = stage.make(restart=end.startswith("stop"))

    def scene() -> None:
        agents = trained(stage, run)
        a, b = agents["a"][0], agents["b"][0]
        WireMessages(run).left(b)
        if end == "success":
            b.channel, b.gone = agents["b"][1], None  # type: ignore[assignment]
            for rank, peer in enumerate((a, b)):
                WireMessages(run).worker(peer, exited(rank))
                WireMessages(run).idle(peer, 1, 20_002)
            WireMessages(run).left(b)
        elif end == "stop":
            actions.stop(run)
        else:
            WireMessages(run).worker(a, broken(0))
        gone(run, {"a": agents["a"]})
        if end == "stop while it gathers":
            assert phase(run) is Phase.GATHERING
            actions.stop(run)
        stage.clock.turn(4.0)
        run.tick()
        assert phase(run) is not Phase.ENDED
        again, _ = stage.agent("b", 1, incarnation="b-2", drained=False)
        join(run, again)
        assert phase(run) is not Phase.ENDED
        run.output.append((1, 1), "b", 2.0, 0, "its last line\n")
        WireMessages(run).drained(again, 1)
        assert phase(run) is Phase.ENDED

    stage.play(scene)
    assert run.current.generation.number == 1
    assert run.state.outcome is {"failure": Outcome.FAILED, "success": Outcome.SUCCEEDED}.get(
        end, Outcome.STOPPED
    )
    assert not [event for event in run.journal.all(Warned) if "delivered" in event.text]


def test_a_node_that_is_gone_for_good_delays_a_stop_by_seconds(stage: Theatre) -> None:
    run = stage.make(stop_grace=600.0)

    def scene() -> None:
        agents = trained(stage, run)
        WireMessages(run).left(agents["b"][0])
        actions.stop(run)
        gone(run, {"a": agents["a"]})
        for _ in range(10):
            assert phase(run) is Phase.STOPPING
            stage.clock.turn(1.0)
            run.tick()

    stage.play(scene)
    assert run.state.outcome is Outcome.STOPPED
    assert "b has not delivered" in run.journal.all(Warned)[-1].text


def test_an_agent_that_dies_when_the_work_is_done_takes_nothing_from_the_run(stage: Theatre) -> None:
    """Its last output is on its way; that is no reason to train again."""
    run = stage.make(nodes_min=1)

    def scene() -> None:
        agents = trained(stage, run)
        for rank, (peer, _) in enumerate(agents.values()):
            WireMessages(run).worker(peer, exited(rank, 0, ended=True))
        WireMessages(run).idle(agents["a"][0], 1, 20_002)
        WireMessages(run).drained(agents["a"][0], 1)
        join(run, stage.agent("b", 1, incarnation="b-2")[0])

    stage.play(scene)
    assert (run.state.outcome, run.current.generation.number) == (Outcome.SUCCEEDED, 1)
    assert "after its work was done" in run.journal.all(Warned)[0].text


def test_what_a_node_has_is_known_when_the_run_is_explained(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run, (0, 0), quiet=None, first=None, source=Source.NOBODY)
        words = {"summary": "RuntimeError: Found no NVIDIA driver on your system.", "traceback": "T"}
        WireMessages(run).worker(agents["b"][0], exited(1, 1, error=words))
        gone(run, agents)

    stage.play(scene)
    found = asyncio.run(explain(run))
    assert (found.code, found.rank, found.node, found.sure) == ("no-gpu", 1, "b", "certain")
    assert found.cause.startswith("b shows its workers no GPU")


def test_a_run_whose_last_snapshot_nobody_could_write_says_so_at_its_end(stage: Theatre) -> None:
    run = stage.make()
    failed = '{"kind":"snapshot_failed","step":12,"tier":"disk","error":"No space left on device"}\n'
    sentence = "no node could write the snapshot of step 12 (a: No space left on device): "
    sentence += "there is none of this training"

    def scene() -> None:
        agents = trained(stage, run)
        run.progress.append(1, 0, "a", 0, failed)
        assert status(run).unsaved == ""
        for rank, (peer, _) in enumerate(agents.values()):
            WireMessages(run).worker(peer, exited(rank, 0))
        gone(run, agents)

    stage.play(scene)
    assert run.state.outcome is Outcome.SUCCEEDED
    assert run.journal.all(Warned)[-1].text == sentence
    result = RunResult.of(status(run))
    assert (result.state, result.unsaved) == ("succeeded", sentence)
    assert ending.summary(result.status, 0.0)[-1] == f"  NOT SAVED  {sentence}"


def test_a_status_shows_the_steps_of_its_own_generation(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = trained(stage, run)
        run.progress.append(1, 0, "a", 0, '{"kind":"step","step":12}\n')
        WireMessages(run).worker(agents["b"][0], exited(1, None, signal=9, t=1e9))
        WireMessages(run).worker(agents["a"][0], exited(0, None, signal=9, killed=True))
        assert status(run).step == 12
        gone(run, agents)
        assert run.current.generation.number == 2
        found = status(run)
        assert (found.step, [worker.step for worker in found.workers]) == (None, [None, None])

    stage.play(scene)
