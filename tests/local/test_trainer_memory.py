"""Snapshots in memory: a crash costs the steps since the last of them, wherever it is."""

from __future__ import annotations

from pathlib import Path

from trainer_harness import ranks, values
from trainer_job import Every, Job, replace, same, train

from swarmtrain.trainer.snapshots import files as snapshot_files

# A disk snapshot after the third step, one in memory after each; steps 4 to 7 are in the middle of an epoch of 5.
JOB = Job(steps=13, snapshot=Every(steps=9), memory=Every(steps=1), augment=True)
MEMORY = {"SWARMTRAIN_MEMORY": "{node}/memory"}


def stopped_at_step_8(directory: Path) -> None:
    outcomes = ranks(train, 2, directory, replace(JOB, snapshot=Every(steps=3), fail_at=(1, 8)), env=MEMORY)
    assert [outcome.error for outcome in outcomes][1] == "ArithmeticError"


def held(directory: Path, rank: int, tier: str) -> list[int]:
    return [each.step for each in snapshot_files.listed(directory / f"node{rank}" / tier)]


def test_a_run_goes_on_bit_for_bit_from_memory_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole = values(train, 2, tmp_path / "whole", JOB)[0]
    stopped_at_step_8(tmp_path)
    for rank in range(2):
        assert held(tmp_path, rank, "snapshots") == [6, 3]
        assert held(tmp_path, rank, "memory") == [7, 6]
    resumed = ranks(train, 2, tmp_path, JOB, env=MEMORY)
    assert "memory/g0001-s000000007" in resumed[0].output and "at epoch 1, step 7" in resumed[0].output
    assert same(resumed[1].value["weights"], whole["weights"])


def test_a_node_without_the_newest_gets_it_into_its_memory_and_damage_there_leads_to_the_disk(
    tmp_path: Path,
) -> None:
    stopped_at_step_8(tmp_path)
    for path in (tmp_path / "node0" / "memory").iterdir():
        path.unlink()
    resumed = ranks(train, 2, tmp_path, replace(JOB, steps=7), env=MEMORY)
    assert "at epoch 1, step 7" in resumed[0].output
    assert held(tmp_path, 0, "memory") == [7]
    for rank in range(2):
        for path in (tmp_path / f"node{rank}" / "memory").glob("*.pt"):
            path.write_bytes(path.read_bytes()[:-1])
        for path in (tmp_path / f"node{rank}" / "snapshots").glob("*s000000007*"):
            path.unlink()
    again = ranks(train, 2, tmp_path, replace(JOB, steps=7), env=MEMORY)
    assert "damaged snapshot of step 7 on node 0" in again[0].output
    assert "damaged snapshot of step 7 on node 1" in again[0].output
    assert "at epoch 1, step 6" in again[0].output


def test_only_one_node_with_a_tier_in_memory_is_enough(tmp_path: Path) -> None:
    whole = values(train, 2, tmp_path / "whole", JOB)[0]
    stopped_at_step_8(tmp_path)
    for path in (tmp_path / "node1" / "memory").iterdir():
        path.unlink()
    (tmp_path / "node1" / "memory").rmdir()
    (tmp_path / "node1" / "memory").write_text("no directory can be here")
    resumed = ranks(train, 2, tmp_path, JOB, env=MEMORY)
    assert "at epoch 1, step 7" in resumed[0].output
    assert resumed[1].output.count("node 1 does without snapshots in memory") == 1
    assert same(resumed[1].value["weights"], whole["weights"])
    assert held(tmp_path, 0, "memory")[0] >= 12


def test_a_snapshot_that_can_be_kept_nowhere_is_gone_on_from_all_the_same(tmp_path: Path) -> None:
    whole = values(train, 2, tmp_path / "whole", JOB)[0]
    values(train, 2, tmp_path, replace(JOB, steps=7))
    blocked = tmp_path / "node1" / "snapshots"
    for path in blocked.iterdir():
        path.unlink()
    blocked.rmdir()
    blocked.write_text("no directory can be here")
    resumed = ranks(train, 2, tmp_path, JOB)
    assert "node 1 cannot keep the snapshot of step 7" in resumed[1].output
    assert same(resumed[1].value["weights"], whole["weights"])


def test_nodes_whose_weights_differ_in_one_snapshot_go_on_from_the_one_before(tmp_path: Path) -> None:
    values(train, 2, tmp_path, replace(JOB, steps=7, snapshot=Every(steps=3)))
    directory = tmp_path / "node1" / "snapshots"
    newest = snapshot_files.listed(directory)[0]
    path = directory / f"{newest.name}.json"
    path.write_text(path.read_text().replace(newest.weights, "0" * 64))
    resumed = ranks(train, 2, tmp_path, JOB)
    assert "the nodes hold different weights in it" in resumed[0].output
    assert "at epoch 1, step 6" in resumed[0].output
