"""The agent's pure parts: the choice of a network, the workers' environment, the code on disk, the files of a run."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from swarmtrain.agent import code
from swarmtrain.agent.environment import NodeEnvironment, WorkerAssignment, debug, shared, worker
from swarmtrain.agent.network import Interface, choose, free_port, interfaces, source_address
from swarmtrain.agent.worker_group.workers import read_error
from swarmtrain.coordinator.store.run_paths import place_of
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.files import fetch as files
from swarmtrain.job import Job, LoadedJob
from swarmtrain.payload.run_spec import secret_of
from swarmtrain.protocol.from_agent import WorkerError
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import Resumption, RunSecret, RunSpec

LOOPBACK = Interface("lo", "127.0.0.1", 8)
OVERLAY = Interface("eth0", "10.0.1.5", 24)
BRIDGE = Interface("eth1", "172.18.0.3", 16)


def test_the_interface_that_reaches_the_peers_is_chosen_whatever_its_name() -> None:
    swapped = [LOOPBACK, Interface("eth0", "172.18.0.3", 16), Interface("eth1", "10.0.1.5", 24)]
    choice = choose(swapped, "10.0.1.5", "10.0.1.2")
    assert (choice.interface, choice.address) == ("eth1", "10.0.1.5")
    assert choice.why == "reaches 10.0.1.2 in its network, not eth0"


def test_a_routed_network_is_said_to_be_one() -> None:
    assert choose([LOOPBACK, OVERLAY], "10.0.1.5", "192.168.7.1").why == "reaches 192.168.7.1 by its route"


@pytest.mark.parametrize(
    ("found", "source", "said"),
    [
        ([LOOPBACK, OVERLAY], "127.0.1.1", "through loopback"),
        ([LOOPBACK, Interface("docker_gwbridge", "172.18.0.1", 16)], "172.18.0.1", "docker_gwbridge"),
        ([LOOPBACK, Interface("docker0", "172.17.0.1", 16)], "172.17.0.1", "docker0"),
        ([LOOPBACK, OVERLAY], "10.9.9.9", "no interface has the address"),
    ],
)
def test_routes_that_reach_nobody_are_refused(found: list[Interface], source: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        choose(found, source, "10.0.1.2")


def test_loopback_is_right_when_every_node_is_here() -> None:
    assert choose([LOOPBACK, OVERLAY], "127.0.0.1", "127.0.0.1", same_machine=True).interface == "lo"


def test_this_machine_has_a_loopback_interface_and_free_ports() -> None:
    assert LOOPBACK in interfaces()
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert 20_000 <= free_port("127.0.0.1") < 32_000


PART = WorkerAssignment(2, 20_002, 5, 1, 2, 2, 3, 6, "10.0.1.2", 23456)
NODE = NodeEnvironment(
    "digits.3", "lab-3", "eth1", "gloo", "/swarmtrain/data/digits.3/lab-3/snapshots", "/dev/shm/s"
)
TASK = RunSpec(name="digits", kind="script", target="train.py", timeout=120.0)
FILES = {"error": "/e", "metrics": "/m", "pulse": "/p", "stack": "/s"}


def test_workers_get_the_whole_contract_of_torchrun() -> None:
    env = worker(PART, NODE, TASK, {}, FILES)
    expected = {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "2",
        "GROUP_WORLD_SIZE": "3",
        "ROLE_NAME": "default",
        "ROLE_RANK": "5",
        "ROLE_WORLD_SIZE": "6",
        "MASTER_ADDR": "10.0.1.2",
        "MASTER_PORT": "23456",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "TORCHELASTIC_MAX_RESTARTS": "10",
        "TORCHELASTIC_RUN_ID": "digits.3",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": "/e",
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",
        "SWARMTRAIN_PULSE": "/p",
        "SWARMTRAIN_MEMORY": "/dev/shm/s",
    }
    assert {name: env[name] for name in expected} == expected
    assert env["SWARMTRAIN_TIMEOUT"] == "120.0"
    unhealed = dataclasses.replace(TASK, restart=False)
    assert worker(PART, NODE, unhealed, {}, FILES)["TORCHELASTIC_MAX_RESTARTS"] == "0"


def test_what_the_user_sets_is_left_alone() -> None:
    user = {"NCCL_SOCKET_IFNAME": "ib0", "OMP_NUM_THREADS": "7", "TRICKY": "$HOME {{.x}}\nsecond"}
    base = shared(
        {"PATH": "/bin", "SWARMTRAIN_SECRET_FILE": "/s", "OMP_NUM_THREADS": "3"}, TASK, user, 2, "gloo"
    )
    assert base["OMP_NUM_THREADS"] == "7"
    assert base["TRICKY"] == "$HOME {{.x}}\nsecond"
    assert "SWARMTRAIN_SECRET_FILE" not in base
    assert "NCCL_SOCKET_IFNAME" not in worker(PART, NODE, TASK, base, FILES)


def test_the_debug_mode_leaves_out_what_crashes_or_slows() -> None:
    assert debug("gloo")["TORCH_DISTRIBUTED_DEBUG"] != "DETAIL"
    assert "CUDA_LAUNCH_BLOCKING" not in debug("nccl")
    assert debug("nccl")["NCCL_DEBUG"] == "INFO"
    for backend in ("gloo", "nccl"):
        assert not [name for name in debug(backend) if "CPP_STACK" in name and "SHOW" not in name]


def archive(directory: Path, **content: str) -> list[Path]:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in content.items():
            file.writestr(name.replace("__", "/").replace("_py", ".py").replace("_pt", ".pt"), text)
    parts = [directory / "code-0", directory / "code-1"]
    middle = len(data.getvalue()) // 2
    parts[0].write_bytes(data.getvalue()[:middle])
    parts[1].write_bytes(data.getvalue()[middle:])
    return parts


def test_code_is_joined_from_its_parts_and_replaced_by_a_new_version(tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert code.unpack(archive(tmp_path, train_py="one", pkg__mod_py="x"), work) == []
    assert code.unpack(archive(tmp_path, train_py="two", pkg__mod_py="x"), work) == []
    assert (work / "train.py").read_text() == "two"
    assert (work / "pkg" / "mod.py").read_text() == "x"


def test_code_is_whole_or_as_it_was_whatever_the_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    code.unpack(archive(tmp_path, train_py="one"), work)
    before = (work / "train.py").stat()
    code.unpack(archive(tmp_path, train_py="one"), work)
    assert (work / "train.py").stat().st_ino == before.st_ino  # what is there already is not touched
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(ClusterError, match="No space left"):
            code.unpack(archive(tmp_path, train_py="two"), work)
    assert (work / "train.py").read_text() == "one"
    assert code.unpack(archive(tmp_path, train_py="two"), work) == []
    assert (work / "train.py").read_text() == "two"
    (work / ".swarmtrain-code.json").write_text("")
    assert code.unpack(archive(tmp_path, train_py="two", more_py="x"), work) == []


def test_what_a_run_wrote_over_the_code_is_kept(tmp_path: Path) -> None:
    work = tmp_path / "work"
    code.unpack(archive(tmp_path, snapshot_pt="stale"), work)
    (work / "snapshot.pt").write_text("trained")
    assert code.unpack(archive(tmp_path, snapshot_pt="stale"), work) == ["snapshot.pt"]
    assert (work / "snapshot.pt").read_text() == "trained"


@pytest.mark.parametrize("leads", ["checkpoint-2", "/", "last"])
def test_what_lies_in_a_directory_that_a_run_made_a_link_is_not_unpacked_through_it(
    tmp_path: Path, leads: str
) -> None:
    work = tmp_path / "work"
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as sent:
        sent.writestr("last/note", "x")
    code.unpack([tmp_path / "code.zip"], work)
    (work / "checkpoint-2").mkdir()
    shutil.rmtree(work / "last")
    (work / "last").symlink_to(leads)
    assert code.unpack([tmp_path / "code.zip"], work) == ["last/note"]
    assert not list((work / "checkpoint-2").iterdir()) and not Path("/note").exists()


def test_code_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it, left by an agent that was killed, would be taken for what the run has written."""
    work, sent = tmp_path / "run" / "work", archive(tmp_path, a_py="one", pkg__mod_py="x", z_py="two")
    digest = code._digest

    def killed(data: bytes) -> str:
        if data == b"two":
            raise KeyboardInterrupt
        return digest(data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(code, "_digest", killed)
        code.unpack(sent, work)
    assert not work.exists()
    assert code.unpack(sent, work) == []
    assert (work / "z.py").read_text() == "two" and (work / "pkg" / "mod.py").read_text() == "x"
    assert [each.name for each in work.parent.iterdir()] == ["work"]


def test_code_that_is_damaged_or_leads_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="could not be unpacked"):
        code.unpack([tmp_path / "nothing"], tmp_path / "work")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        bad.writestr("../outside", "x")
    with pytest.raises(ClusterError, match="leads outside"):
        code.unpack([tmp_path / "bad.zip"], tmp_path / "work")
    assert not (tmp_path / "outside").exists()


def test_error_files_of_record_are_read(tmp_path: Path) -> None:
    path = tmp_path / "error"
    path.write_text(
        '{"message": {"message": "ValueError: x", "extraInfo": {"py_callstack": "Traceback", "timestamp": "17"}}}'
    )
    # The format's own time has whole seconds, too few to tell who failed first.
    os.utime(path, (time.time() - 1.25,) * 2)
    found = read_error(path)
    assert found is not None
    assert (found.summary, found.traceback) == ("ValueError: x", "Traceback")
    assert found.time == pytest.approx(time.monotonic() - 1.25, abs=0.2)
    for odd in ('{"message": 5}', '{"message": {"message": 1, "extraInfo": "x"}}', '["message"]'):
        path.write_text(odd)
        assert (read_error(path) or WorkerError("")).traceback == ""
    path.write_text(
        json.dumps({"message": {"message": "x" * 9_000_000, "extraInfo": {"py_callstack": "y" * 9_000_000}}})
    )
    assert len(str(read_error(path))) < 100_000
    path.write_text("torn {")
    assert read_error(path) is None
    assert read_error(tmp_path / "none") is None


def test_a_second_deployment_of_a_secret_is_another_run_and_a_restart_is_not(tmp_path: Path) -> None:
    storage, secret = Storage(tmp_path), RunSecret("digits.1", "token")
    assert place_of(storage, secret, "n", "service-a").directory == "digits.1"
    assert place_of(storage, secret, "n", "service-a").directory == "digits.1"
    assert place_of(storage, secret, "n", "service-b").directory == "digits.1~2"


def test_a_resumed_run_works_in_the_directories_of_the_first(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert place_of(storage, RunSecret("digits.1", "t"), "n", "").lineage == "digits.1"
    assert place_of(storage, RunSecret("digits.2", "t", resume="digits.1"), "n", "").lineage == "digits.1"
    assert place_of(storage, RunSecret("digits.3", "t", resume="digits.2"), "n", "").lineage == "digits.1"


def test_a_run_is_resumed_on_a_machine_that_knows_nothing_of_it(tmp_path: Path) -> None:
    past = Resumption("digits.2", lineage="digits.1", lineage_owner="3f9c")
    secret = secret_of(LoadedJob.of(Job(command=["true"], name="digits"), tmp_path), "digits.3", past)
    place = place_of(Storage(tmp_path), secret, "n", "")
    assert (place.lineage, place.lineage_owner) == ("digits.1", "3f9c")
    again = place_of(Storage(tmp_path), secret, "n", "")
    assert (again.lineage, again.lineage_owner) == ("digits.1", "3f9c")


def test_removing_a_run_keeps_data_that_another_works_in(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    place_of(storage, RunSecret("digits.1", "t"), "n", "")
    place_of(storage, RunSecret("digits.2", "t", resume="digits.1"), "n", "")
    place_of(storage, RunSecret("digits.10", "t"), "n", "")
    work = storage.work("digits.1", "n")
    work.mkdir(parents=True)
    storage.remove("digits.1")
    assert work.is_dir()
    assert storage.runs() == ["digits.10", "digits.2"]
    storage.remove("digits.2")
    assert not work.exists()


def test_an_older_runs_files_under_the_same_name_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.adopt("digits.1", "digits.1", "n", "first")
    snapshot = storage.snapshots("digits.1", "n") / "step-9"
    snapshot.mkdir(parents=True)
    storage.adopt("digits.1", "digits.1", "n", "first")
    assert snapshot.exists()
    storage.adopt("digits.1", "digits.1", "n", "second")
    assert not snapshot.exists()


def test_a_resumed_run_does_not_send_what_one_of_its_number_wrote_and_keeps_the_lineage(
    tmp_path: Path,
) -> None:
    storage = Storage(tmp_path)
    storage.adopt("digits.1", "digits.1", "n", "first")
    snapshot = storage.snapshots("digits.1", "n") / "step-9"
    snapshot.mkdir(parents=True)
    storage.adopt("digits.2", "digits.1", "n", "second")
    output = storage.output("digits.2", "n") / "g1-r0.out"
    output.parent.mkdir(parents=True)
    output.write_text("of the second")
    storage.adopt("digits.2", "digits.1", "n", "second")
    assert output.exists()
    storage.adopt("digits.2", "digits.1", "n", "third, after the second was removed while this node was down")
    assert not output.exists() and snapshot.exists()


def test_a_lineage_on_a_node_that_was_down_when_its_name_was_used_again_is_not_gone_on_with(
    tmp_path: Path,
) -> None:
    manager, node = Storage(tmp_path / "manager"), Storage(tmp_path / "node")

    def joins(secret: RunSecret) -> bool:
        """Whether the node's snapshot is still there once the node has laid out its directories for this run."""
        place = place_of(manager, secret, "m", "")
        node.adopt(place.directory, place.lineage, "n", secret.submission, place.lineage_owner)
        snapshot = node.snapshots(place.lineage, "n") / "step-9"
        found = snapshot.exists()
        snapshot.mkdir(parents=True, exist_ok=True)
        return found

    assert not joins(RunSecret("digits.1", "old"))
    assert joins(RunSecret("digits.2", "old, resumed", resume="digits.1"))
    for run in ("digits.1", "digits.2"):
        manager.remove(run)  # and the node is down
    place_of(manager, RunSecret("digits.1", "new"), "m", "")  # without the node
    assert not joins(RunSecret("digits.2", "new, resumed", resume="digits.1"))
    assert joins(RunSecret("digits.3", "new, resumed again", resume="digits.2"))


def test_a_lineage_of_which_nobody_says_whose_it_is_stays(tmp_path: Path) -> None:
    """An earlier version has begun it."""
    storage = Storage(tmp_path)
    storage.claim("digits.1", "digits.1")
    snapshot = storage.snapshots("digits.1", "n") / "step-9"
    snapshot.mkdir(parents=True)
    (tmp_path / "runs" / "digits.1" / "lineage").write_text("digits.1\n")
    secret = RunSecret("digits.2", "t", resume="digits.1")
    place = place_of(storage, secret, "n", "")
    assert (place.lineage, place.lineage_owner) == ("digits.1", "")
    storage.adopt(place.directory, place.lineage, "n", secret.submission, place.lineage_owner)
    assert snapshot.exists()


def test_files_outside_of_the_runs_directories_are_not_served(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    work = storage.work("digits.1", "n")
    work.mkdir(parents=True)
    (work / "snapshot.pt").write_text("s")
    assert files.locate(storage, "digits.1", "n", "snapshot.pt").read_text() == "s"
    assert files.locate(storage, "digits.1", "n", "work/snapshot.pt").read_text() == "s"
    with pytest.raises(RequestError, match="outside"):
        files.locate(storage, "digits.1", "n", "../../../../etc/passwd")
    with pytest.raises(RequestError, match="there is no nothing"):
        files.locate(storage, "digits.1", "n", "nothing")
