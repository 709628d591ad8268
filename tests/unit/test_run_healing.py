"""Runs that go on after faults, and what must not confuse them: late words, returns, restarts of the coordinator."""

from __future__ import annotations

from typing import Any

import pytest
from run_fakes import Ear, Theatre, WireMessages, exited, join, phase, pulse

from swarmtrain.coordinator.agents.connections import copied
from swarmtrain.coordinator.clients import actions
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.from_agent import CopyState
from swarmtrain.protocol.journal.events import (
    CoordinatorMoved,
    GenerationFailed,
    GenerationFormed,
    WorkersStarted,
)
from swarmtrain.protocol.journal.remarks import Chosen
from swarmtrain.wire.pulse import Source


def started(stage: Theatre, run: RunController, *nodes: str) -> dict[str, tuple[ConnectedAgent, Ear]]:
    """A run whose agents have joined, and whose workers run and have made a hundred steps."""
    agents = {node: stage.agent(node, slot) for slot, node in enumerate(nodes)}
    for peer, _ in agents.values():
        join(run, peer)
    assert phase(run) is Phase.RUNNING
    train(stage, run, {node: peer for node, (peer, _) in agents.items()})
    return agents


def train(
    stage: Theatre,
    run: RunController,
    connected: dict[str, ConnectedAgent],
    steps: int = 100,
    **fields: object,
) -> None:
    """The workers of the current generation run and make steps."""
    g = run.current.generation.number
    for node, part in run.current.generation.parts.items():
        for rank in part.ranks:
            WireMessages(run).worker(
                connected[node], {"g": g, "rank": rank, "state": "running", "pid": 7, "t": 1.0}
            )
    for step in (1, steps - 1, steps):
        stage.clock.turn(0.2)
        beat(stage, run, connected, step, **fields)


def beat(
    stage: Theatre, run: RunController, connected: dict[str, ConnectedAgent], step: int, **fields: object
) -> None:
    g = run.current.generation.number
    for node, part in run.current.generation.parts.items():
        connected[node].heard = stage.clock.now
        WireMessages(run).beat(connected[node], [pulse(rank, step, g=g, **fields) for rank in part.ranks])  # type: ignore[arg-type]


def peers_of(agents: dict[str, tuple[ConnectedAgent, Ear]]) -> dict[str, ConnectedAgent]:
    return {node: peer for node, (peer, _) in agents.items()}


def end_workers(run: RunController, agents: dict[str, tuple[ConnectedAgent, Ear]], g: int = 1) -> None:
    """Agents have obeyed a stop."""
    for rank, (peer, _) in enumerate(agents.values()):
        if peer.channel is not None:
            WireMessages(run).worker(peer, exited(rank, None, g=g, signal=9, killed=True))
            WireMessages(run).idle(peer, g, 20_002)
            WireMessages(run).drained(peer, g)


def killed(rank: int, **fields: Any) -> dict[str, object]:
    return exited(rank, None, signal=9, t=1e9, **fields)


def texts(run: RunController, kind: str) -> list[str]:
    return [event.text for event in run.journal.events if event.kind == kind]


# ---- the way through ---------------------------------------------------------------------------------------------


def test_a_killed_rank_is_healed_on_the_same_nodes_with_one_line_about_it(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["b"][0], killed(1))
        assert phase(run) is Phase.STOPPING
        end_workers(run, agents)
        assert (run.phase, run.current.generation.number) == (Phase.RUNNING, 2)
        stage.clock.turn(1.0)
        train(stage, run, peers_of(agents), 120, resumed=90, first=0.0)

    stage.play(scene)
    assert texts(run, "recovered") == [
        "rank 1 on b: killed by SIGKILL at step 100; continued on 2 nodes from step 90 after 1.2 s"
    ]
    assert incident_log.summary(run.state, run.journal.clock.now()).lost_steps == 10
    first, second = (event.time for event in run.journal.events if isinstance(event, WorkersStarted))
    assert first < second and status(run).started == first


def test_a_fixed_run_waits_for_its_node_and_an_elastic_one_goes_on(stage: Theatre) -> None:
    for low in (2, 1):
        run = stage.make(nodes_min=low)

        def scene(run: RunController = run) -> None:
            agents = started(stage, run, "a", "b")
            WireMessages(run).left(agents["b"][0])
            for _ in range(8):
                stage.clock.turn(1.0)
                agents["a"][0].heard = stage.clock.now
                run.tick()
            assert texts(run, "failure") == [
                "b was lost with rank 1: its connection closed and it did not come back"
            ]
            end_workers(run, agents)

        stage.play(scene)
        assert phase(run) is (Phase.GATHERING if low == 2 else Phase.RUNNING)
        stage.forget()


# ---- agents that come back ---------------------------------------------------------------------------------------


def test_an_agent_that_missed_a_start_is_not_given_it_when_that_generation_is_over(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
        join(run, a)
        join(run, b)
        WireMessages(run).left(b)
        for _ in range(8):
            stage.clock.turn(1.0)
            a.heard = stage.clock.now
            run.tick()
        WireMessages(run).worker(a, killed(0, killed=True))
        WireMessages(run).idle(a, 1, 20_002)
        assert phase(run) is Phase.GATHERING
        again, hears = stage.agent("b", 1)
        join(run, again)
        assert [start["g"] for start in hears.starts()] == [2]

    stage.play(scene)


def test_a_node_that_thaws_and_is_then_replaced_by_swarm_changes_the_group_once(stage: Theatre) -> None:
    """Swarm takes it for lost, too; its task is replaced as soon as the machine is back."""
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        a, b = agents["a"][0], agents["b"][0]

        def wait(seconds: int, *awake: ConnectedAgent) -> None:
            for _ in range(seconds):
                stage.clock.turn(1.0)
                for peer in awake:
                    peer.heard = stage.clock.now
                run.tick()

        wait(20, a)
        WireMessages(run).worker(a, killed(0, killed=True))
        WireMessages(run).idle(a, 1, 20_002)
        assert phase(run) is Phase.GATHERING
        thawed, hears = stage.agent("b", 1, generation=1, idle=False)
        join(run, thawed, [])
        assert hears.all("stop")
        WireMessages(run).idle(b, 1, 20_002)
        wait(3, a, b)
        assert phase(run) is Phase.GATHERING  # one generation would be formed for three seconds
        WireMessages(run).leaving(b)
        WireMessages(run).left(b)
        join(run, stage.agent("b", 1, incarnation="b-2")[0])
        assert (run.phase, run.current.generation.number) == (Phase.RUNNING, 2)

    stage.play(scene)
    assert len(run.journal.all(GenerationFormed)) == 2
    assert (
        "b is back after 20 s; it takes part in 8 s, should Swarm not replace it" in texts(run, "joined")[2]
    )


def test_an_agent_that_stopped_its_workers_by_itself_is_a_failure(stage: Theatre) -> None:
    """It was cut off for too long; nobody else would ever say that these ranks are gone."""
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        WireMessages(run).left(agents["b"][0])
        join(run, stage.agent("b", 1, generation=1)[0], [killed(1, killed=True)])
        assert phase(run) is Phase.STOPPING

    stage.play(scene)
    assert texts(run, "failure") == [
        "rank 1 on b: stopped by its own agent, which was cut off or told to leave"
    ]


def test_an_agent_that_is_idle_before_its_workers_ever_ran_is_a_failure(stage: Theatre) -> None:
    """It gave them up while it was cut off, and their disk was still being laid out: nobody else waits in vain."""
    run = stage.make()

    def scene() -> None:
        agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in agents.values():
            join(run, peer)
        a, b = (peer for peer, _ in agents.values())
        WireMessages(run).worker(a, {"g": 1, "rank": 0, "state": "running", "pid": 7, "t": 1.0})
        WireMessages(run).idle(b, 0, 20_001)  # of the time before
        assert phase(run) is Phase.RUNNING
        WireMessages(run).idle(b, 1, 20_001)
        assert phase(run) is Phase.STOPPING

    stage.play(scene)
    assert "rank 1" in texts(run, "failure")[0]


@pytest.mark.parametrize("kind", ["joined", "choice", "started", "regather", "recovered"])
def test_a_run_goes_on_from_a_journal_of_which_the_disk_has_damaged_a_line(stage: Theatre, kind: str) -> None:
    def scene() -> None:
        run = stage.make()
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["a"][0], killed(0))
        end_workers(run, agents)
        assert run.current.generation.number == 2

    def again() -> None:
        run = stage.make()
        connected = {}
        for slot, node in enumerate("ab"):
            peer, _ = stage.agent(node, slot, generation=2, idle=False, drained=False)
            running = {"g": 2, "rank": slot, "state": "running", "pid": 1, "t": 1.0}
            connected[node] = join(run, peer, [running])
        assert sorted(run.members.connected) == ["a", "b"]
        assert all(peer.channel is not None and peer.channel.open for peer in connected.values())  # type: ignore[attr-defined]
        train(stage, run, connected)
        stage.clock.turn(40.0)
        beat(stage, run, connected, 200)
        run.tick()
        assert phase(run) is Phase.RUNNING or kind == "regather"
        assert not run.current.failures

    stage.play(scene)
    stage.forget()
    journal = next(stage.path.rglob("journal.jsonl"))
    lines = journal.read_bytes().splitlines(keepends=True)
    torn = [b"?" + line[1:] if f'"kind":"{kind}"'.encode() in line else line for line in lines]
    journal.write_bytes(b"".join(torn))
    stage.play(again)


def test_no_bit_that_a_disk_turns_keeps_a_run_from_going_on(stage: Theatre) -> None:
    """A name in an event may turn into another one, in a line that is good JSON still."""

    def scene() -> None:
        run = stage.make()
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["a"][0], killed(0))
        end_workers(run, agents)
        train(stage, run, peers_of(agents))

    stage.play(scene)
    stage.forget()
    journal = next(stage.path.rglob("journal.jsonl"))
    whole = journal.read_bytes()
    for place in range(0, len(whole), 29):
        journal.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        assert stage.make().phase is not Phase.ENDED
        stage.forget()


def test_an_agent_that_comes_back_says_again_what_it_has(stage: Theatre) -> None:
    """Its network may have been attached anew, and a coordinator that was restarted knows nothing of its GPUs."""
    fields = {"gpus": 2, "backend": "nccl"}

    def scene() -> None:
        run = stage.make()
        for slot, node in enumerate("ab"):
            join(run, stage.agent(node, slot, **fields)[0])
        assert run.current.generation.backend == "nccl"

    def again() -> None:
        run = stage.make()
        for slot, node in enumerate("ab", 4):
            peer, _ = stage.agent(node, slot, generation=1, idle=False, drained=False, **fields)
            running = {"g": 1, "rank": slot - 4, "state": "running", "pid": 1, "t": 1.0}
            join(run, peer, [running])
        WireMessages(run).worker(run.members.connected["b"], killed(1))
        end_workers(run, {node: (run.members.connected[node], Ear()) for node in "ab"})
        assert (run.current.generation.number, run.current.generation.backend) == (2, "nccl")
        assert run.current.generation.master is not None
        assert run.current.generation.master.address == "10.0.0.5"
        assert run.members.connected["a"].gpus == 2

    stage.play(scene)
    stage.forget()
    stage.play(again)


def test_a_generation_that_a_full_disk_kept_from_the_journal_is_ended_and_another_follows(
    stage: Theatre,
) -> None:
    def scene() -> None:
        run = stage.make()
        for slot, node in enumerate("ab"):
            join(run, stage.agent(node, slot)[0])
        assert run.current.generation.number == 1

    def again() -> None:
        run = stage.make()
        agents = {
            node: stage.agent(node, slot, generation=2, idle=False, drained=False)
            for slot, node in enumerate("ab")
        }
        for peer, _ in agents.values():
            join(run, peer)
        assert phase(run) is Phase.STOPPING
        assert "runs a generation that the journal has lost" in run.journal.all(GenerationFailed)[0].text
        assert {"stop": {"g": 2, "grace": 0.0, "how": "kill"}} in agents["b"][1].heard
        for peer in run.members.connected.values():
            WireMessages(run).idle(peer, 2, 20_002)
            WireMessages(run).drained(peer, 2)
        assert (run.phase, run.current.generation.number) == (Phase.RUNNING, 3)

    stage.play(scene)
    stage.forget()
    stage.play(again)


def test_a_twin_that_comes_back_keeps_its_name(stage: Theatre) -> None:
    run = stage.make()

    def twins(run: RunController, generation: int) -> list[str]:
        found = []
        for node_id in ("id-2", "id-1") if generation else ("id-1", "id-2"):
            peer, _ = stage.agent(
                "pc", 0, node_id=node_id, incarnation=node_id, generation=generation, idle=not generation
            )
            found.append(join(run, peer).node)
        return found

    def scene() -> None:
        assert twins(run, 0) == ["pc", "pc-2"]
        assert twins(run, 1) == ["pc-2", "pc"]
        assert phase(run) is Phase.RUNNING

    def again() -> None:
        run = stage.make()
        assert twins(run, 1) == ["pc-2", "pc"]
        assert run.current.failures == ()

    stage.play(scene)
    stage.forget()
    stage.play(again)


def test_an_agent_that_was_replaced_cannot_take_its_place_back(stage: Theatre) -> None:
    """Two agents of one machine would replace each other for ever, and fail a generation every time."""
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        old, _ = agents["b"]
        new, _ = stage.agent("b", 1, incarnation="b-2")
        join(run, new)
        agents["b"] = (new, Ear())
        end_workers(run, agents)
        assert run.current.generation.number == 2
        frozen, _ = stage.agent("b", 1, generation=1, idle=False)
        assert run.members.replaced(frozen)
        assert not run.members.replaced(new)
        WireMessages(run).worker(old, killed(1) | {"g": 2})
        WireMessages(run).idle(old, 2, 1)
        assert phase(run) is Phase.RUNNING

    stage.play(scene)


# ---- late words --------------------------------------------------------------------------------------------------


def test_a_worker_that_ends_late_with_an_error_does_not_end_the_run(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        a, b = agents["a"][0], agents["b"][0]
        WireMessages(run).worker(b, killed(1))
        WireMessages(run).idle(b, 1, 20_001)
        for _ in range(12):
            stage.clock.turn(1.0)
            a.heard = b.heard = stage.clock.now
            run.tick()
        assert phase(run) is Phase.GATHERING
        WireMessages(run).worker(a, exited(0, 1, killed=True, error={"summary": "Connection closed by peer"}))
        WireMessages(run).idle(a, 1, 20_001)
        assert (run.phase, run.current.generation.number) == (Phase.RUNNING, 2)

    stage.play(scene)


@pytest.mark.parametrize("loud", [True, False], ids=["its connection closes", "it falls silent"])
def test_what_breaks_because_a_node_is_lost_is_not_the_programs_fault(stage: Theatre, loud: bool) -> None:
    """Not even before the first step, where a failure of the program itself is never tried again."""
    run = stage.make(nodes_min=1)

    def scene() -> None:
        (a, _), (b, _) = stage.agent("a", 0), stage.agent("b", 1)
        join(run, a)
        join(run, b)
        stage.clock.turn(4.0)
        a.heard = stage.clock.now
        run.tick()
        WireMessages(run).worker(
            run.members.connected["a"], exited(0, 1, error={"summary": "Connection closed by peer"})
        )
        WireMessages(run).idle(a, 1, 20_001)
        if loud:
            WireMessages(run).left(b)
        WireMessages(run).drained(a, 1)
        run.tick()
        assert (run.phase, list(run.current.generation.parts)) == (Phase.RUNNING, ["a"])

    stage.play(scene)
    assert run.state.history[-1].kind == "node"


def test_what_breaks_because_a_node_leaves_is_no_failure(stage: Theatre) -> None:
    run = stage.make(nodes_min=1)

    def scene() -> None:
        agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in agents.values():
            join(run, peer)
        a, b = agents["a"][0], agents["b"][0]
        WireMessages(run).leaving(b)
        assert phase(run) is Phase.STOPPING
        WireMessages(run).worker(b, exited(1, None, signal=15, killed=True))
        WireMessages(run).worker(a, exited(0, 1, killed=True, error={"summary": "Connection closed by peer"}))
        for peer in (a, b):
            WireMessages(run).idle(peer, 1, 20_001)
            WireMessages(run).drained(peer, 1)
        assert (run.phase, list(run.current.generation.parts)) == (Phase.RUNNING, ["a"])
        assert run.state.history == ()

    stage.play(scene)


def test_a_node_that_comes_back_and_is_of_no_use_does_not_end_the_run(stage: Theatre) -> None:
    run = stage.make(nodes_min=1)

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        anew, _ = stage.agent("b", 1, incarnation="b-2", warm=False)
        join(run, anew)
        assert phase(run) is Phase.STOPPING
        WireMessages(run).trouble(anew, "No space left on device")
        agents["b"] = (anew, Ear())
        end_workers(run, agents)
        assert (run.phase, list(run.current.generation.parts)) == (Phase.RUNNING, ["a"])

    stage.play(scene)
    assert texts(run, "warning") == ["b: No space left on device"]


def test_a_launcher_that_sees_trouble_does_not_end_a_run_that_has_begun(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["b"][0], killed(1))
        actions.refuse(run, "no suitable node (1 node not available)")
        end_workers(run, agents)
        assert phase(run) is Phase.RUNNING

    stage.play(scene)


# ---- standing still ----------------------------------------------------------------------------------------------


def test_a_stand_still_is_looked_at_once(stage: Theatre) -> None:
    run = stage.make()
    run.progress.saves = True

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        connected = peers_of(agents)
        for second in range(7):
            beat(stage, run, connected, 100 + second, quiet=0.0)
            stage.clock.turn(0.1)
        for second in range(1, 40):
            stage.clock.turn(1.0)
            beat(stage, run, connected, 106, quiet=second - 0.01 * (second % 3))
            run.tick()
        assert len(agents["a"][1].all("stacks")) == 1
        assert phase(run) is Phase.RUNNING
        beat(stage, run, connected, 107)
        for second in range(1, 40):
            stage.clock.turn(1.0)
            beat(stage, run, connected, 107, quiet=second)
            run.tick()
        assert len(agents["a"][1].all("stacks")) == 2
        for second in range(40, 62):
            stage.clock.turn(1.0)
            beat(stage, run, connected, 107, quiet=second)
            run.tick()

    stage.play(scene)
    assert phase(run) is Phase.STOPPING
    assert run.current.failures[0].kind == "hang"


def test_a_coordinator_that_was_frozen_blames_nobody(stage: Theatre) -> None:
    for nodes in ("a", "ab"):
        run = stage.make(nodes_min=1, nodes_max=len(nodes))

        def scene(run: RunController = run, nodes: str = nodes) -> None:
            agents = started(stage, run, *nodes)
            connected = peers_of(agents)
            for step in range(101, 110):
                beat(stage, run, connected, step)
                stage.clock.turn(0.1)
            run.tick()
            stage.clock.turn(5_000.0)
            run.settle()  # its alarm rings before its clock ticks
            assert phase(run) is Phase.RUNNING
            beat(stage, run, connected, 50_000)
            run.tick()
            assert phase(run) is Phase.RUNNING

        stage.play(scene)
        stage.forget()


def test_a_coordinator_that_was_frozen_still_waits_for_its_nodes(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        join(run, stage.agent("a")[0])
        run.tick()
        stage.clock.turn(5_000.0)
        run.settle()
        assert phase(run) is Phase.GATHERING

    stage.play(scene)


# ---- coordinators that are started again -------------------------------------------------------------------------


def test_a_coordinator_restarted_while_it_gathers_keeps_old_failures_apart(stage: Theatre) -> None:
    def first() -> None:
        run = stage.make()
        agents = started(stage, run, "a", "b")
        a, b = agents["a"][0], agents["b"][0]
        WireMessages(run).left(a)
        for _ in range(8):
            stage.clock.turn(1.0)
            b.heard = stage.clock.now
            run.tick()
        WireMessages(run).worker(b, exited(1, 1, error={"summary": "Connection closed by peer"}))
        WireMessages(run).idle(b, 1, 20_001)
        WireMessages(run).drained(b, 1)
        assert phase(run) is Phase.GATHERING

    def second() -> None:
        run = stage.make()
        b, _ = stage.agent("b", 1, generation=1)
        join(run, b, [exited(1, 1, error={"summary": "Connection closed by peer"})])
        assert phase(run) is Phase.GATHERING
        join(run, stage.agent("a", incarnation="a-2")[0])
        assert run.current.generation.number == 2

    stage.play(first)
    stage.forget()
    stage.play(second)


def test_a_coordinator_restarted_while_it_stops_knows_how_far_the_generation_came(stage: Theatre) -> None:
    def first() -> None:
        run = stage.make()
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["b"][0], exited(1, 1, t=1.85e9, error={"summary": "ValueError: x"}))
        assert phase(run) is Phase.STOPPING

    def second() -> None:
        run = stage.make()
        run.settle()
        assert phase(run) is Phase.STOPPING
        error = {"summary": "ValueError: x"}
        join(run, stage.agent("b", 1, generation=1)[0], [exited(1, 1, error=error)])
        assert phase(run) is Phase.STOPPING
        join(run, stage.agent("a", 0, generation=1)[0], [killed(0, killed=True)])
        assert (run.phase, run.current.generation.number) == (Phase.RUNNING, 2)
        attempt = run.state.history[-1]
        assert (attempt.step, attempt.signature) == (100, "ValueError: x")
        assert 0.0 < attempt.seconds < 10.0
        assert len(run.journal.all(GenerationFailed)) == 1

    stage.play(first)
    stage.forget()
    stage.clock.turn(2.0)
    stage.play(second)


def test_a_coordinator_restarted_while_a_node_leaves_still_lets_it_go(stage: Theatre) -> None:
    def first() -> None:
        run = stage.make(nodes_min=1)
        for slot, node in enumerate("ab"):
            join(run, stage.agent(node, slot)[0])
        WireMessages(run).leaving(run.members.connected["b"])
        assert phase(run) is Phase.STOPPING

    def second() -> None:
        run = stage.make(nodes_min=1)
        run.settle()
        for rank, node in enumerate("ab"):
            peer, _ = stage.agent(node, rank, generation=1, leaving=node == "b")
            join(run, peer, [exited(rank, None, signal=15, killed=True)])
        assert (run.phase, list(run.current.generation.parts)) == (Phase.RUNNING, ["a"])
        assert run.state.history == ()

    stage.play(first)
    stage.forget()
    stage.play(second)


def test_a_coordinator_restarted_in_a_backoff_keeps_it(stage: Theatre) -> None:
    def first() -> None:
        run = stage.make()
        agents = {node: stage.agent(node, slot) for slot, node in enumerate("ab")}
        for peer, _ in agents.values():
            join(run, peer)
        for g in range(1, 6):
            stage.clock.turn(20.0)
            for peer, _ in agents.values():
                peer.heard = stage.clock.now
            run.tick()
            assert (run.phase, run.current.generation.number) == (Phase.RUNNING, g)
            WireMessages(run).worker(agents["b"][0], killed(1) | {"g": g, "signal": 5 + g})
            end_workers(run, agents, g)
        assert phase(run) is Phase.GATHERING

    def second() -> None:
        run = stage.make()
        for slot, node in enumerate("ab"):
            join(run, stage.agent(node, slot, generation=5)[0])
        assert phase(run) is Phase.GATHERING
        stage.clock.turn(8.0)
        run.tick()
        assert phase(run) is Phase.RUNNING

    stage.play(first)
    stage.forget()
    stage.play(second)


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_step_of_the_wall_clock_changes_no_decision(stage: Theatre, jump: float) -> None:
    run = stage.make(max_restarts=2)

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        for g in range(1, 4):
            assert (run.phase, run.current.generation.number) == (Phase.RUNNING, g)
            WireMessages(run).worker(agents["b"][0], killed(1) | {"g": g})
            stage.clock.epoch += jump if g == 1 else 0.0
            end_workers(run, agents, g)
            stage.clock.turn(0.1)
            run.tick()
            if g < 3:
                train(stage, run, peers_of(agents), 100 + g, resumed=90)

    stage.play(scene)
    assert phase(run) is Phase.ENDED
    assert "it failed 3 times within 60 min" in run.state.reason


# ---- scripts of which nothing is known ---------------------------------------------------------------------------


def test_a_run_that_succeeds_before_anybody_knows_of_its_steps_has_been_healed(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["b"][0], killed(1))
        end_workers(run, agents)
        train(stage, run, peers_of(agents), 0, source=Source.NOBODY, quiet=None, first=None)
        for rank, (peer, _) in enumerate(agents.values()):
            WireMessages(run).worker(peer, exited(rank, g=2))
            WireMessages(run).idle(peer, 2, 20_003)
            WireMessages(run).drained(peer, 2)

    stage.play(scene)
    assert (run.phase, run.state.outcome) == (Phase.ENDED, Outcome.SUCCEEDED)
    assert len(texts(run, "recovered")) == 1
    found = incident_log.summary(run.state, run.journal.clock.now())
    assert (found.restarts, found.healing) == (1, None)


def test_numbers_that_a_coordinator_may_have_used_unheard_are_left_out_after_a_move(stage: Theatre) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        run.journal.append(CoordinatorMoved(text="the coordinator was moved to b", moved=1))
        for number in (101 + 1, 101 + 2):
            WireMessages(run).worker(agents["b"][0], killed(1, g=run.current.generation.number))
            end_workers(run, agents, run.current.generation.number)
            assert run.current.generation.number == number
            train(stage, run, peers_of(agents))

    stage.play(scene)


def test_a_copy_of_another_journal_is_made_anew(stage: Theatre) -> None:
    run = stage.make()
    run.journal.append(Chosen(text="one"))
    newest = run.journal.events[1].time
    assert copied(run, CopyState(2, 0, newest)) == 2
    assert copied(run, CopyState(2, 0, 7.0)) == 0  # another event of that number
    assert copied(run, CopyState(3, 0, newest)) == 0
    assert copied(run, CopyState(2, 1, newest)) == 0


def test_a_script_that_tells_of_no_steps_is_healed_once_its_workers_have_run_for_a_minute(
    stage: Theatre,
) -> None:
    run = stage.make()

    def scene() -> None:
        agents = started(stage, run, "a", "b")
        WireMessages(run).worker(agents["b"][0], killed(1))
        end_workers(run, agents)
        silent = {"source": Source.NOBODY, "quiet": None, "first": None}
        train(stage, run, peers_of(agents), 0, **silent)
        assert run.state.incident is not None
        for _ in range(70):
            stage.clock.turn(1.0)
            beat(stage, run, peers_of(agents), 0, **silent)
        assert run.state.incident is None

    stage.play(scene)
    assert texts(run, "recovered") == [
        (
            "rank 1 on b: killed by SIGKILL at step 100; begun anew on 2 nodes after 0.0 s: the script takes no "
            "snapshots; 100 steps lost but for what it saves by itself"
        )
    ]
