"""What screens show of a status document, as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from client_fakes import seen

from swarmtrain.control.views import ending, format, view
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.protocol.status import Status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.0 s"),
        (-0.01, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (3_140_000, "3.14 MB"),
        (999_900, "1 MB"),
        (2 * 10**12, "2 TB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert format.size(count) == text


@pytest.mark.parametrize(
    ("values", "text"), [([], "-"), ([0], "0"), ([0, 1, 2], "0-2"), ([5, 0, 1], "0-1,5"), ([1, 3], "1,3")]
)
def test_ranks(values: list[int], text: str) -> None:
    assert format.ranks(values) == text


def test_the_headline_of_a_live_run() -> None:
    live = seen(step=120, epoch=4, loss=0.123456, step_seconds=0.0081)
    assert view.headline(live, 1020.0) == (
        "digits.1 is running: generation 1, 2 ranks, step 120 (epoch 4), training loss 0.12346, 8.1 ms a step, for 20 s"
    )


def test_the_headline_of_a_run_that_waits() -> None:
    waiting = seen(state="starting", generation=0, world_size=0, started=None)
    assert view.headline(waiting, 1003.0) == "digits.1 is starting: for 3.0 s"


def test_the_headline_of_a_run_that_has_ended_gives_the_reason() -> None:
    ended = seen(state="failed", reason="lab-2 was lost")
    assert (
        view.headline(ended, 9999.0) == "digits.1 failed (lab-2 was lost): generation 1, 2 ranks, after 10 s"
    )


def test_the_rows_of_ps() -> None:
    live = seen(step=7, loss=1.5)
    assert view.run_row("digits.1", "swarm", live, 1090.0) == (
        *("digits.1", "running", "0", "swarm", "2", "7", "1.5", "1 min 30 s", "1 min 30 s"),
    )
    assert view.run_row("digits.1", "swarm", live, 1003.2)[7:] == ("3 s", "3.2 s")
    silent = view.run_row("digits.1", "swarm", seen(state="unreachable"), 1090.0)
    assert silent[:4] == ("digits.1", "unreachable", "-", "swarm") and len(silent) == len(view.RUN_COLUMNS)


RECOVERY: dict[str, Any] = {
    "t": 1005.0,
    "text": "rank 1 on lab-2: killed by SIGKILL at step 12; continued on 2 nodes from step 10 after 2.1 s",
    "seconds": 2.1,
    "planned": False,
}
CHANGE = {
    "t": 1007.0,
    "text": "lab-3 is there at step 20; continued on 3 nodes",
    "seconds": 1.0,
    "planned": True,
}


@pytest.mark.parametrize(
    ("healed", "cost"),
    [
        ({}, ""),
        ({"restarts": 0, "lost_seconds": 3.0, "lost_steps": 0, "recoveries": []}, ""),
        (
            {"restarts": 1, "lost_seconds": 2.1, "lost_steps": 2, "recoveries": [RECOVERY]},
            "1 restart, 2.1 s and 2 steps lost",
        ),
        (
            {"restarts": 2, "lost_seconds": 75.0, "lost_steps": 1, "recoveries": [RECOVERY] * 2},
            "2 restarts, 1 min 15 s and 1 step lost",
        ),
        (
            {"restarts": 0, "lost_seconds": 1.0, "lost_steps": 0, "recoveries": [CHANGE]},
            "1 planned change, 1.0 s lost",
        ),
        (
            {"restarts": 1, "lost_seconds": 3.1, "lost_steps": 2, "recoveries": [RECOVERY, CHANGE]},
            "1 restart, 1 planned change, 3.1 s and 2 steps lost",
        ),
    ],
)
def test_what_healing_has_cost(healed: dict[str, Any], cost: str) -> None:
    assert view.cost(seen(**healed)) == cost


def test_the_last_recoveries_are_told_with_their_times() -> None:
    healed = seen(restarts=3, lost_seconds=6.3, lost_steps=6, recoveries=[RECOVERY] * 3)
    lines = view.recoveries(healed, last=2)
    assert lines[0] == "(1 before these: swarmtrain events digits.1)"
    assert len(lines) == 3 and all(line.endswith(RECOVERY["text"]) for line in lines[1:])
    assert view.recoveries(seen()) == view.recoveries(seen(recoveries=[])) == []


def test_the_headline_of_a_run_that_heals_says_from_what_and_what_it_waits_for() -> None:
    lost: dict[str, Any] = {"healing": "lab-2 was lost with rank 1", "deadline": 1900.0, "now": 1020.0}
    waiting = view.headline(seen(state="starting", **lost), 1020.0)
    assert waiting.startswith(
        "digits.1 is healing (lab-2 was lost with rank 1): waiting for nodes, at most 14 min 40 s"
    )
    # they are there, and step again soon
    assert "waiting for nodes" not in view.headline(seen(**lost), 1020.0)
    ended = seen(state="failed", reason="lab-2 was lost with rank 1", **lost)
    assert view.headline(ended, 0.0).startswith("digits.1 failed (lab-2 was lost with rank 1): generation 1")


def test_tables_have_a_cell_under_every_heading() -> None:
    for table in (view.members(seen()), view.workers(seen())):
        assert len(table.rows) == 2
        assert all(len(row) == len(table.columns) for row in table.rows)
    bare = view.members(seen(members=[{"node": "lab-9", "state": "waiting", "ranks": []}]))
    assert bare.rows == [("lab-9", "waiting", "-", "-", "-", "-")]


def trained(**more: Any) -> Status:
    keys: dict[str, Any] = {
        "state": "succeeded",
        "step": 270,
        "epoch": 30,
        "loss": 0.0123,
        "step_seconds": 0.012,
        "eval": {"accuracy": 0.97777777},
        "weights": {"0": "1a2b3c4d5e6f7788", "1": "1a2b3c4d5e6f7788"},
        "snapshot": {
            "step": 270,
            "epoch": 30,
            "path": "/s/data/digits.1/lab-1/snapshots/step-270.pt",
            "bytes": 314000,
            "node": "lab-1",
        },
    }
    return seen(**{**keys, **more})


def test_the_summary_says_what_came_out_and_how_to_get_it() -> None:
    assert ending.summary(trained(), 0.0) == [
        "digits.1 succeeded in 10 s",
        "  steps          270 (epoch 30, 12 ms a step)",
        "  accuracy       0.97778",
        "  training loss  0.0123",
        "  nodes          lab-1, lab-2 (2 ranks, generation 1)",
        "  weights        equal on all 2 ranks (1a2b3c4d5e6f)",
        "  snapshot       step 270 on lab-1: snapshots/step-270.pt (314 kB)",
        "  fetch it       swarmtrain fetch digits.1 snapshots/step-270.pt",
    ]


def test_the_two_losses_are_told_apart() -> None:
    lines = ending.summary(trained(eval={"loss": 0.5, "accuracy": 0.9}), 0.0)
    assert lines[2:5] == ["  evaluation loss  0.5", "  accuracy         0.9", "  training loss    0.0123"]


def test_the_address_of_a_node_that_has_gone_is_that_of_its_joining() -> None:
    gone = seen(state="succeeded", members=[{"node": "node0", "state": "ended", "ranks": [0]}])
    where = {"node": "node0", "address": "127.0.0.1", "interface": "lo"}
    joined = [
        load(NodeJoined, {"text": "node0 joined", "node_id": "i", "incarnation": "1", "gpus": 0, **where})
    ]
    assert view.members(gone, joined).rows == [("node0", "ended", "0", "127.0.0.1", "lo", "0")]


def test_ranks_that_are_not_there_are_said_with_those_that_are() -> None:
    assert view.missing_ranks(seen(), [0, 1]) == ""
    assert view.missing_ranks(seen(), [1, 5]) == "digits.1 has no rank 5; its ranks are 0-1"
    assert view.missing_ranks(seen(workers=[]), [5]) == ""


def test_the_summary_of_a_plain_script_leaves_out_what_nobody_said() -> None:
    assert ending.summary(seen(state="succeeded"), 0.0) == [
        "digits.1 succeeded in 10 s",
        "  nodes  lab-1, lab-2 (2 ranks, generation 1)",
    ]


def test_weights_that_differ_are_named() -> None:
    drifted = trained(weights={"0": "aaaa", "1": "bbbb"})
    assert ending.weights_agree(drifted) is False
    assert "  weights        DIFFERENT between ranks: rank 0 aaaa, rank 1 bbbb" in ending.summary(
        drifted, 0.0
    )
    assert ending.weights_agree(trained(weights={"0": "aaaa"})) is None  # rank 1 did not say
    assert ending.weights_agree(trained(weights=None)) is None


def test_a_snapshot_of_another_node_is_fetched_from_there() -> None:
    elsewhere = trained(
        snapshot={"step": 270, "path": "/s/data/digits.1/lab-2/snapshots/step-270.pt", "node": "lab-2"},
        directories={"lab-2": {"work": "/s/data/digits.1/lab-2/work"}},
    )
    assert ending.summary(elsewhere, 0.0)[-1].endswith("fetch digits.1 snapshots/step-270.pt --node lab-2")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/s/data/digits.1/lab-1/work/out/snapshot.pt", "out/snapshot.pt"),
        ("/s/data/digits.1/lab-1/snapshots/a.pt", "snapshots/a.pt"),
        ("/elsewhere/a.pt", "/elsewhere/a.pt"),
        ("a.pt", "a.pt"),
    ],
)
def test_a_snapshots_path_is_given_as_fetch_takes_it(path: str, shown: str) -> None:
    assert ending.snapshot_path(trained(snapshot={"path": path, "node": "lab-1"})) == shown


CAUSE = {
    "kind": "exception",
    "rank": 1,
    "node": "lab-2",
    "summary": "ValueError: bad data",
    "traceback": 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: bad data\n',
    "log": [],
    "others": [{"rank": 0, "node": "lab-1", "summary": "RuntimeError: Connection closed by peer"}],
}


def test_a_failure_begins_with_its_root_cause() -> None:
    failed = seen(state="failed", cause=CAUSE)
    assert ending.failure(failed) == [
        "digits.1 failed: rank 1 on lab-2: ValueError: bad data",
        "",
        "Traceback (most recent call last):",
        '  File "train.py", line 3',
        "ValueError: bad data",
        "",
        "what followed:",
        "  rank 0 on lab-1: RuntimeError: Connection closed by peer",
    ]
    assert ending.where_the_rest_is(failed) == "swarmtrain logs digits.1 --rank 1"


def test_a_failure_without_a_traceback_shows_the_last_lines() -> None:
    cause = {
        "rank": 0,
        "node": "lab-1",
        "summary": "killed by SIGSEGV",
        "traceback": "",
        "log": ["one", "two"],
    }
    failed = seen(state="failed", cause=cause)
    assert ending.failure(failed)[1:] == ["", "its last lines:", "one", "two"]


def test_the_hint_of_a_cause_follows_its_evidence() -> None:
    cause = {
        "rank": 1,
        "node": "lab-2",
        "summary": "RuntimeError: no GPU",
        "traceback": "T",
        "hint": "choose",
    }
    failed = seen(state="failed", cause=cause | {"others": [{"rank": 0, "node": "a", "summary": "x"}]})
    assert ending.failure(failed)[1:5] == ["", "T", "", "hint: choose"]


def test_a_failure_of_a_node_names_the_node() -> None:
    failed = seen(state="failed", cause={"rank": None, "node": "lab-2", "summary": "it was lost"})
    assert ending.failure(failed) == ["digits.1 failed: lab-2: it was lost"]
    assert ending.where_the_rest_is(failed) == "swarmtrain logs digits.1"


def test_a_node_that_was_lost_has_its_own_sentence() -> None:
    lost = {"rank": None, "node": "lab-2", "summary": "was lost with rank 1: its connection closed"}
    failed = seen(state="failed", cause={**CAUSE, "others": [lost]})
    assert ending.failure(failed)[-1] == "  lab-2 was lost with rank 1: its connection closed"
    failed = seen(state="failed", cause=lost)
    assert ending.failure(failed) == ["digits.1 failed: lab-2 was lost with rank 1: its connection closed"]


def test_a_failure_of_no_node_is_its_own_sentence() -> None:
    stuck = {"rank": None, "node": "", "summary": "no step for 60 s: nobody waits"}
    assert ending.failure(seen(state="failed", cause=stuck)) == [
        "digits.1 failed: no step for 60 s: nobody waits"
    ]


def test_a_failure_says_why_it_is_not_tried_again() -> None:
    cause = {**CAUSE, "summary": "ValueError: bad\n  data"}
    reason = "rank 1 on lab-2: ValueError: bad\n  data (it failed at step 7 2 times in a row)"
    assert ending.failure(seen(state="failed", cause=cause, reason=reason))[0] == (
        "digits.1 failed: rank 1 on lab-2: ValueError: bad / data (it failed at step 7 2 times in a row)"
    )


def test_a_failure_after_others_that_were_healed_says_so() -> None:
    failed = seen(
        state="failed", cause=CAUSE, restarts=2, lost_seconds=5.3, lost_steps=12, recoveries=[RECOVERY] * 2
    )
    *_, before, first, second = ending.failure(failed)
    assert before == "before that: 2 restarts, 5.3 s and 12 steps lost"
    assert first.endswith(RECOVERY["text"]) and second.endswith(RECOVERY["text"])
    without_cause = replace(failed, cause=None, reason="lab-2 did not join within 900 s")
    assert ending.failure(without_cause)[-3:] == [before, first, second]


def test_nodes_that_write_no_snapshots_are_told() -> None:
    assert view.troubles(seen()) == []
    assert view.troubles(seen(snapshots_failing={"lab-2": "No space left on device"})) == [
        "lab-2 writes no snapshots: No space left on device"
    ]


def test_a_failure_without_a_cause_gives_the_reason() -> None:
    assert ending.failure(seen(state="failed", reason="2 of 3 nodes joined"))[0].endswith(
        "2 of 3 nodes joined"
    )


def test_a_snapshot_names_its_generation_and_its_run_as_far_as_it_tells() -> None:
    found = [
        Snapshot("lab-1", "disk", 30002, 120, run="digits.3", generation=2, bytes=1500, age=10.0),
        Snapshot("lab-1", "memory", 1, 60),
    ]
    assert view.snapshots(found).rows == [
        ("120", "-", "2 of digits.3", "lab-1", "disk", "-", "1.5 kB", "10 s", "yes"),
        ("60", "-", "-", "lab-1", "memory", "-", "0 B", "-", "yes"),
    ]
