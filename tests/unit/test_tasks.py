"""What Swarm's tasks are in, as a sentence for a person."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from swarmtrain.swarm.cluster import Node
from swarmtrain.swarm.tasks import Task, seconds, unheard
from swarmtrain.swarm.tasks import explain as obstacle

NOW = 1000.0
LAB = Node("id1", "lab-1")


def task(state: str, error: str = "", **facts: object) -> Task:
    defaults: dict[str, object] = {
        "service": "digits-1_agent",
        "role": "agent",
        "slot": 1,
        "node": LAB,
        "created": NOW - 30,
        "changed": NOW - 20,
        "image": "me/train:1",
        "container": "abc",
    }
    return Task(state=state, error=error, **{**defaults, **facts})  # type: ignore[arg-type]


def explain(tasks: Iterable[Task], now: float) -> str:
    """In words."""
    return obstacle(tasks, now).text


def rejected(error: str) -> list[Task]:
    return [
        task("rejected", error, desired="shutdown"),
        task("preparing", created=NOW - 1),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ('"No such image: me/train:1"', ["lab-1 has no image me/train:1", "docker save me/train:1"]),
        ("pull access denied for me/train, repository does not exist", ["lab-1 has no image"]),
        (
            'invalid mount config for type "bind": bind source path does not exist: /data',
            ["lab-1 has no directory /data"],
        ),
        (
            'OCI runtime create failed: exec: "python3": executable file not found in $PATH: unknown',
            ["has no python3"],
        ),
        ("could not find an available, non-overlapping IPv4 address pool", ["network prune"]),
        ("network digits-1_training not found", ["does not see the run's network"]),
        ("task: unhealthy container", ["stopped giving signs of life"]),
        ("exec format error", ["another kind of processor"]),
        ("something else.", ["the agent on lab-1 did not start: something else"]),
    ],
)
def test_a_rejected_task_is_explained_with_its_node(error: str, words: list[str]) -> None:
    sentence = explain(rejected(error), NOW)
    for word in words:
        assert word in sentence


def test_a_process_that_cannot_start_is_no_process_that_ended() -> None:
    error = (
        "starting container failed: OCI runtime create failed: runc create failed: unable to start container "
        "process: error during container init: error setting rlimit type 8: operation not permitted: unknown"
    )
    failed = task("failed", error, exit_code=128, desired="shutdown")
    assert not failed.has_run
    assert "leave out memlock" in explain([failed, task("ready", created=NOW)], NOW)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        # These were seen to end by themselves, or are known to.
        ("assigned node no longer meets constraints", 60),
        ("invalid pool request: Pool overlaps with other one on this address space", 60),
        ("failed to allocate gateway (10.0.24.1): Address already in use", 60),
        ("starting container failed: Address already in use", 60),
        (
            'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists',
            60,
        ),
        ("network digits-1_training not found", 30),
        ("could not find network attachment for container abc to network xyz", 30),
        ("node is missing network attachments, ip addresses may be exhausted", 30),
        ("context deadline exceeded", 60),
        (
            "error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused",
            60,
        ),
        # These stay as they are until somebody does something.
        ("No such image: me/train:1", 0),
        ('invalid mount config for type "bind": bind source path does not exist: /data', 0),
        ("could not find an available, non-overlapping IPv4 address pool among the defaults", 0),
        ("OCI runtime create failed: error setting rlimit type 7: operation not permitted", 0),
        ("exec format error", 0),
        ("something that nobody has seen", 0),
    ],
)
def test_complaints_that_pass_by_themselves_are_told_from_those_that_never_do(
    error: str, passes: float
) -> None:
    found = obstacle(rejected(error), NOW)
    assert found
    assert found.passes == passes


def test_what_never_passes_is_told_first_and_at_once() -> None:
    """Whoever waits for what passes would wait in vain for the other."""
    passing = task("rejected", "Pool overlaps with other one on this address space", slot=1)
    lasting = task("rejected", "No such image: x", slot=2, node=Node("id2", "lab-2"))
    found = obstacle([passing, lasting], NOW)
    assert found.passes == 0
    assert found.text.startswith("lab-2 has no image")
    assert "addresses" in found.text
    assert obstacle([passing], NOW).passes > 0


def test_all_is_well_while_tasks_run_or_get_their_image() -> None:
    well = [task("running"), task("preparing", slot=2, changed=NOW - 900), task("complete", slot=3)]
    assert explain(well, NOW) == ""


def test_one_exit_is_no_trouble_and_a_loop_is() -> None:
    first = task("failed", "task: non-zero exit (1)", exit_code=1, desired="shutdown", changed=NOW - 10)
    again = task("starting", created=NOW - 5)
    assert explain([first, again], NOW) == ""
    second = task(
        "failed", "task: non-zero exit (1)", exit_code=1, desired="shutdown", created=NOW - 8, changed=NOW - 6
    )
    sentence = explain([first, second, again], NOW)
    assert sentence.startswith("the agent on lab-1 ended with exit code 1, 2 times")
    assert "docker service logs digits-1_agent" in sentence


def test_exits_long_ago_are_no_loop() -> None:
    old = [
        task("failed", "task: non-zero exit (1)", exit_code=1, created=NOW - 900 + n, changed=NOW - 800 + n)
        for n in range(3)
    ]
    assert explain([*old, task("running", created=NOW - 700)], NOW) == ""


def test_a_kill_points_at_memory() -> None:
    kills = [
        task("failed", "task: non-zero exit (137)", exit_code=137, created=NOW - n, changed=NOW - n)
        for n in (9, 6)
    ]
    assert "want of memory" in explain([*kills, task("starting", created=NOW)], NOW)


def test_no_suitable_node_is_said_with_the_schedulers_reason() -> None:
    pending = task("pending", "no suitable node (insufficient resources on 3 nodes)", node=None)
    sentence = explain([pending], NOW)
    assert sentence.startswith("Swarm finds no node for agent digits-1_agent.1 (insufficient resources")
    assert "docker service ls" in sentence


def test_a_range_goes_on_with_the_nodes_there_are() -> None:
    placed = [task("preparing", slot=slot, least=2) for slot in (1, 2)]
    spare = task(
        "pending", "no suitable node (max replicas per node limit exceed)", slot=3, node=None, least=2
    )
    assert explain([*placed, spare], NOW) == ""
    assert "max replicas per node reached" in explain([placed[0], spare], NOW)


def test_the_coordinator_that_finds_no_place_is_always_trouble() -> None:
    pending = task(
        "pending",
        "no suitable node (1 node not available for new tasks)",
        service="digits-1_coordinator",
        role="coordinator",
        node=None,
    )
    sentence = explain([task("running"), pending], NOW)
    assert sentence.startswith("Swarm finds no node for the coordinator")


def test_a_node_that_is_down_is_named() -> None:
    assert explain([task("running", node=Node("id2", "lab-2", state="down"))], NOW) == "lab-2 is down"


def test_a_task_without_a_place_names_the_nodes_that_are_down() -> None:
    pending = [
        task(
            "pending",
            "no suitable node (max replicas per node limit exceed)",
            slot=slot,
            node=None,
            down=("lab-3",),
        )
        for slot in (1, 2)
    ]
    assert explain(pending, NOW) == (
        "Swarm finds no node for agent digits-1_agent.1 and agent digits-1_agent.2: "
        "lab-3 is down (max replicas per node reached)"
    )


def test_helpers_and_tasks_on_their_way_out_are_no_trouble() -> None:
    leaving = task("starting", desired="shutdown")
    helper = task("rejected", "No such image", service="digits-1_clean-1", role="helper")
    assert explain([leaving, helper], NOW) == ""


def test_the_same_trouble_on_many_nodes_is_said_once() -> None:
    nodes = [Node(str(number), f"lab-{number}") for number in (1, 2, 3)]
    agents = [
        task("rejected", "No such image: x", slot=slot, node=node) for slot, node in enumerate(nodes, start=1)
    ]
    coordinator = task("rejected", "No such image: x", service="digits-1_coordinator", role="coordinator")
    assert explain([coordinator, *agents], NOW).startswith(
        "lab-1, lab-2 and lab-3 have no image me/train:1 and "
    )
    assert explain([coordinator, *agents], NOW).count("no image") == 1


def test_of_many_troubles_three_are_told() -> None:
    many = [task("rejected", f"trouble {slot}", slot=slot) for slot in range(9)]
    assert explain(many, NOW).count("did not start") == 3


PORTS = (
    "Between all nodes 7946/tcp, 7946/udp and 4789/udp must be open; docs/troubleshooting.md has more, under "
    '"Nodes do not find each other"'
)


def on(number: int, state: str = "running", **facts: object) -> Task:
    """The agent of a node."""
    return task(state, **{"node": Node(f"id{number}", f"lab-{number}"), "slot": number, **facts})  # type: ignore[arg-type]


def test_nodes_that_were_started_and_never_heard_are_named_with_what_to_look_at() -> None:
    assert unheard([on(1), on(2), on(3)], ["lab-1", "lab-2"]) == (
        "Swarm has started the agent on lab-3, but it was never heard: "
        f"the run's network may not reach lab-3. {PORTS}"
    )
    assert unheard([on(1), on(2), on(3, "complete")], ["lab-1"]).startswith(
        "Swarm has started the agents on lab-2 and lab-3, but they were never heard"
    )
    assert "the coordinator's port must be open" in unheard([on(2)], [], has_overlay=False)


def test_nodes_of_which_something_else_is_known_are_not_called_unheard() -> None:
    away = Node("id3", "lab-3", state="down")
    others = [
        task("running", node=away),
        on(2, "preparing"),
        on(2, "failed", exit_code=1),
        on(2, role="coordinator"),
        on(2, role="helper"),
        task("pending", node=None),
        on(1),
    ]
    assert unheard(others, ["lab-1"]) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:00:00.123456789Z", 1714557600.123456789),
        ("2024-05-01T12:00:00+02:00", 1714557600.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
    ],
)
def test_times_of_docker(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)
