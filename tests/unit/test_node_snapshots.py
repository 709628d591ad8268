"""A node's snapshots without torch: what is listed, what a checksum finds, what goes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.errors import ChannelError, RequestError
from swarmtrain.files import snapshots
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.replies import Done, NodeReply
from swarmtrain.protocol.to_agent import SnapshotsOrder
from swarmtrain.wire.disk.storage import Storage

OLD = 1000.0


def write(directory: Path, step: int, fence: int = 1, data: bytes = b"weights", **fields: Any) -> Path:
    """A snapshot as the trainer writes it; returns its data's path."""
    directory.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()
    name = f"g{fence:04d}-s{step:09d}"
    path = directory / f"{name}-{digest[:12]}.pt"
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))
    manifest = {
        "format": 3,
        "fence": fence,
        "run": "digits.1",
        "generation": 1,
        "step": step,
        "epoch": 0,
        "world_size": 2,
        "weights": "ab",
    }
    manifest |= {"file": path.name, "bytes": len(data), "sha256": digest, "time": OLD, "versions": {}}
    (directory / f"{name}.json").write_text(json.dumps(manifest | fields))
    return path


def found(directory: Path) -> list[tuple[int, int, str]]:
    return [(*each.key, each.damage) for each in snapshots.listed(directory, "a", "disk")]


def test_snapshots_are_listed_by_fence_and_step(tmp_path: Path) -> None:
    for fence, step in ((1, 10), (1, 30), (2, 20)):
        write(tmp_path, step, fence)
    assert found(tmp_path) == [(2, 20, ""), (1, 30, ""), (1, 10, "")]
    first = snapshots.listed(tmp_path, "a", "disk")[0]
    assert (first.node, first.tier, first.world_size, first.bytes, first.time) == ("a", "disk", 2, 7, OLD)
    assert (tmp_path / first.manifest).exists() and (tmp_path / first.file).exists()


def test_a_directory_that_is_not_there_holds_none(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") == []


def test_what_is_wrong_at_a_glance_is_said(tmp_path: Path) -> None:
    write(tmp_path, 1).unlink()
    write(tmp_path, 2).write_bytes(b"wei")
    write(tmp_path, 3)
    (tmp_path / "g0001-s000000003.json").write_text("{")
    write(tmp_path, 4, step_of_another=4, fence=1, bytes="many")
    write(tmp_path, 5, file="g0001-s000000006-0123456789ab.pt")
    aside = write(tmp_path, 7)
    aside.rename(aside.with_suffix(".damaged"))
    (tmp_path / "g0001-s000000007.json").unlink()
    by_step = {step: damage for _, step, damage in found(tmp_path) if damage}
    assert by_step[1] == "cannot be read: No such file or directory"
    assert by_step[2] == "has 3 bytes, not 7"
    assert by_step[4] == "its manifest cannot be read" or by_step[4].startswith("has no manifest")
    assert by_step[7] == "set aside as damaged"
    assert set(by_step) == {1, 2, 3, 4, 5, 7}


def test_data_without_a_manifest_is_one_that_is_being_written_until_it_is_old(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    (tmp_path / "g0001-s000000001.json").unlink()
    assert found(tmp_path) == [(1, 1, "has no manifest: it was cut off")]
    os.utime(path)
    assert found(tmp_path) == []


def test_a_checksum_finds_what_sizes_do_not(tmp_path: Path) -> None:
    write(tmp_path, 1).write_bytes(b"WEIGHTS")
    (listed,) = snapshots.listed(tmp_path, "a", "disk")
    assert listed.damage == ""
    checked = snapshots.verified(tmp_path, listed)
    assert checked is not None and checked.damage == "does not match its checksum"


def test_a_snapshot_that_is_pruned_meanwhile_is_not_damaged(tmp_path: Path) -> None:
    data = write(tmp_path, 1)
    (listed,) = snapshots.listed(tmp_path, "a", "disk")
    data.unlink()
    checked = snapshots.verified(tmp_path, listed)
    assert checked is not None and checked.damage.startswith("cannot be read")
    (tmp_path / listed.manifest).unlink()
    assert snapshots.verified(tmp_path, listed) is None


def test_removing_takes_every_file_of_a_snapshot_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, 1)
    kept = write(tmp_path, 2)
    gone = snapshots.remove(tmp_path, "a", "disk", {(1, 1), (1, 9)})
    assert [each.key for each in gone] == [(1, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.name, "g0001-s000000002.json"])


def answers(storage: Storage, **order: Any) -> list[NodeReply]:
    asked = load(SnapshotsOrder, {"directory": "digits.2", **order}, "snapshots")
    return list(snapshots.answer(storage, "digits.1", "a", asked))


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(Storage, "_memory", lambda self: tmp_path / "memory")
    storage = Storage(tmp_path)
    write(storage.snapshots("digits.1", "a"), 10)
    write(storage.memory("digits.2", "a") / "snapshots", 12)
    return storage


def test_both_tiers_of_a_node_are_listed_and_checked(storage: Storage) -> None:
    (listed,) = answers(storage, do="list")
    assert [(each.tier, each.step) for each in listed.snapshots or ()] == [("disk", 10), ("memory", 12)]
    *checked, done = answers(storage, do="verify")
    assert [copy.damage for each in checked for copy in each.snapshots or ()] == ["", ""]
    assert done == NodeReply(done=Done())


def test_the_files_of_a_snapshot_are_sent_and_nothing_else(storage: Storage) -> None:
    head, piece, _ = answers(storage, do="read", tier="memory", file="g0001-s000000012.json")
    assert head.file is not None and head.file.name == "g0001-s000000012.json"
    assert json.loads(base64.b64decode(piece.data))["step"] == 12
    for name in ("../../digits.1/a/work/secret", "/etc/passwd", "g0001-s000000099.json", "g1-s1.json/../x"):
        with pytest.raises(RequestError, match="there is no snapshot"):
            answers(storage, do="read", tier="disk", file=name)


def test_removing_takes_both_tiers(storage: Storage) -> None:
    (removed,) = answers(storage, do="remove", keys=[[1, 10], [1, 12]])
    assert len(removed.snapshots or ()) == 2
    assert answers(storage, do="list")[0].snapshots == []


def test_an_unknown_request_is_refused(storage: Storage) -> None:
    with pytest.raises(ChannelError, match=r"snapshots\.do: .*'polish'"):
        answers(storage, do="polish")
