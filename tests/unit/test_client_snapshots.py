"""Snapshots over all nodes: which may go, which copy comes here, and what is said of nodes that are silent."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from client_fakes import FakeLauncher, Message, Receive, fixed, status

from swarmtrain import ClusterError, RequestError
from swarmtrain.control import places
from swarmtrain.control.client import Client
from swarmtrain.control.places import Places
from swarmtrain.control.snapshots.retention import Wanted, choose, complete
from swarmtrain.launchers.base import Run
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.ui.cli import cli

NOW = 10_000.0
DATA = b"weights"
DIGEST = hashlib.sha256(DATA).hexdigest()


def copy(step: int, node: str = "lab-1", fence: int = 1, **more: Any) -> Snapshot:
    """A copy that was written `step` seconds after the beginning."""
    file = f"g{fence:04d}-s{step:09d}-{DIGEST[:12]}.pt"
    fields: dict[str, Any] = {"tier": "disk", "file": file, "bytes": len(DATA), "sha256": DIGEST}
    return Snapshot(
        node=node, fence=fence, step=step, **{**fields, "time": float(step), "age": NOW - step, **more}
    )


THREE = [copy(step, node) for step in (10, 20, 30) for node in ("lab-1", "lab-2")]


@pytest.mark.parametrize(
    ("wanted", "how", "gone"),
    [
        (Wanted(steps=(10,)), {}, [10]),
        (Wanted(steps=(10, 20)), {}, [10, 20]),
        (Wanted(steps=(30,)), {"force": True}, [30]),
        (Wanted(keep=1), {}, [10, 20]),
        (Wanted(keep=2), {}, [10]),
        (Wanted(keep=9), {}, []),
        (Wanted(keep=0), {}, [10, 20]),  # the newest stays without --force
        (Wanted(keep=0), {"force": True}, [10, 20, 30]),
        (Wanted(keep=0), {"live": True, "force": True}, [10]),
        (Wanted(older_than=9975.0), {}, [10, 20]),
        (Wanted(older_than=9985.0), {}, [10]),
        (Wanted(older_than=0.0), {"live": True}, [10]),
        (Wanted(steps=(10,), older_than=9975.0), {}, [10, 20]),
    ],
)
def test_what_goes(wanted: Wanted, how: dict[str, bool], gone: list[int]) -> None:
    assert [step for _, step in choose(THREE, wanted, **how)] == gone


def test_no_snapshot_is_older_than_one_before_it_whatever_a_clock_was_set_to() -> None:
    early, late = copy(10, age=30.0), copy(20, age=3_620.0)  # written after the clock was set back
    assert choose([early, late, copy(30)], Wanted(older_than=60.0)) == []
    assert choose([copy(10, age=90.0), late, copy(30)], Wanted(older_than=60.0)) == [(1, 10), (1, 20)]
    assert choose([copy(10, age=None), copy(20, age=90.0), copy(30)], Wanted(older_than=60.0)) == []


@pytest.mark.parametrize(
    ("step", "how", "words"),
    [
        (30, {}, "step 30 is the newest complete snapshot"),
        (20, {"live": True}, "step 20 is one of the newest 2, and the run may go on from it"),
        (30, {"live": True, "force": True}, "step 30 is one of the newest 2"),
        (15, {}, "there is no snapshot of step 15"),
    ],
)
def test_a_step_that_must_not_go_is_refused(step: int, how: dict[str, bool], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        choose(THREE, Wanted(steps=(step,)), **how)


def test_damaged_copies_do_not_count_and_go_first() -> None:
    damaged = [*THREE, copy(40, damage="has 3 bytes, not 7")]
    assert complete(damaged) == [(1, 30), (1, 20), (1, 10)]
    assert choose(damaged, Wanted(keep=3)) == [(1, 40)]
    assert choose(damaged, Wanted(keep=3), live=True) == []  # it may be another writer's, in this moment
    one_copy = [copy(10, damage="has 3 bytes, not 7"), copy(10, "lab-2")]
    with pytest.raises(RequestError, match="newest complete"):
        choose(one_copy, Wanted(steps=(10,)))


def test_a_higher_fence_is_newer_whatever_its_step() -> None:
    again = [*THREE, copy(15, fence=2)]
    assert complete(again)[0] == (2, 15)
    assert choose(again, Wanted(keep=1)) == [(1, 10), (1, 20), (1, 30)]


def test_nothing_complete_on_a_live_run_is_left_alone() -> None:
    assert choose([copy(10, damage="x")], Wanted(keep=0), live=True) == []


# ---- over the nodes --------------------------------------------------------------------------------------------------

UNLIKE = "does not match its checksum"
Answer = Callable[[Message], list[Message]]


def held(
    copies: list[Snapshot],
    broken: tuple[str, ...] = (),
    silent: tuple[str, ...] = (),
    rotten: tuple[int, ...] = (),
) -> Answer:
    """A coordinator whose nodes hold these.

    Args:
        broken: nodes that send other bytes.
        silent: nodes that cannot be asked.
        rotten: steps whose every copy has lost a bit, which only its checksum tells.
    """

    def answer(request: Message) -> list[Message]:
        if request["do"] == "nodes":
            return [{"nodes": sorted({each.node for each in copies} | set(silent)), "done": {}}]
        node = request["node"]
        if node in silent:
            return [{"reach": node, "done": {}}]
        mine = [each for each in copies if each.node == node]
        if request["do"] == "verify":
            mine = [replace(each, damage=UNLIKE) if each.step in rotten else each for each in mine]
        if request["do"] == "remove":
            mine = [each for each in mine if list(each.key) in request["keys"]]
        if request["do"] == "read":
            data = b"WEIGHTS" if node in broken else DATA
            if request["file"].endswith(".json"):
                data = b"{}"
            head = {"name": request["file"], "directory": False, "size": len(data), "node": node}
            pieces = {"data": base64.b64encode(data).decode()}
            return [{"file": head}, pieces, {"done": {"sha256": hashlib.sha256(data).hexdigest()}}]
        return [{"snapshots": [asdict(each) for each in mine], "done": {}}]

    return answer


def keeping(answer: Answer, state: str = "succeeded") -> FakeLauncher:
    def snapshots(request: Message, receive: Receive) -> Iterator[Message]:
        yield from answer(request)

    return FakeLauncher(digits_1=fixed(status(state=state), snapshots=snapshots))


def client(launcher: FakeLauncher) -> Client:
    return Client("local", {"local": launcher})


def test_the_newest_snapshot_comes_with_its_manifest(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pulled = (
        client(keeping(held(THREE)))
        .get("digits")
        .snapshots.pull(None, tmp_path / "to", lambda done, size: told.append((done, size)))
    )
    assert pulled.path == tmp_path / "to" / THREE[-1].file
    assert pulled.path.read_bytes() == DATA
    assert told[-1] == (7, 7)
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [pulled.path.name, THREE[-1].manifest]


def test_a_copy_that_is_damaged_on_its_node_is_passed_over(tmp_path: Path) -> None:
    pulled = client(keeping(held(THREE, broken=("lab-1",)))).get("digits").snapshots.pull(20, tmp_path)
    assert (pulled.snapshot.node, pulled.snapshot.step) == ("lab-2", 20)
    assert "on lab-1: it does not match its checksum" in pulled.passed_over[0]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["a/../../evil.pt", "a/evil.pt", "..", ""])
def test_a_node_does_not_say_where_a_snapshot_comes_to_lie(name: str, tmp_path: Path) -> None:
    for directory in ("to/a", "to/.a"):
        (tmp_path / directory).mkdir(parents=True)
    copies = [copy(30, file=name), copy(30, "lab-2")]
    pulled = client(keeping(held(copies))).get("digits").snapshots.pull(None, tmp_path / "to")
    assert (pulled.path.parent, pulled.snapshot.node) == (tmp_path / "to", "lab-2")
    assert "is no name of a file" in pulled.passed_over[0]
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_nothing_is_left_where_no_copy_is_whole(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no copy of step 30 arrived whole"):
        client(keeping(held(THREE, broken=("lab-1", "lab-2")))).get("digits").snapshots.pull(None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_is_the_askers_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"nothing can be written into .*/file/below: Not a directory"):
        client(keeping(held(THREE))).get("digits").snapshots.pull(None, tmp_path / "file" / "below")


def test_a_disk_is_asked_before_a_memory(tmp_path: Path) -> None:
    both = [copy(30, "lab-1", tier="memory"), copy(30, "lab-2")]
    assert client(keeping(held(both))).get("digits").snapshots.pull(None, tmp_path).snapshot.tier == "disk"


@pytest.mark.parametrize(
    ("step", "words"), [(25, "has no complete snapshot of step 25"), (None, "has no complete snapshot")]
)
def test_a_snapshot_that_is_not_there_is_said(step: int | None, words: str, tmp_path: Path) -> None:
    copies = THREE if step else [copy(30, damage="x")]
    with pytest.raises(RequestError, match=words):
        client(keeping(held(copies))).get("digits").snapshots.pull(step, tmp_path)


def test_a_node_of_a_live_run_that_is_gone_is_named_and_the_others_are_listed() -> None:
    launcher = keeping(held(THREE, silent=("lab-3",)), state="running")
    found = client(launcher).get("digits").snapshots.listing()
    assert [each.step for each in found.snapshots] == [30, 30, 20, 20, 10, 10]
    assert found.silent == {"lab-3": "its agent is not there"}
    assert launcher.calls == []  # no helper may serve a node while its run is live


def test_what_another_run_of_the_job_may_have_gone_on_from_stays() -> None:
    launcher = keeping(held(THREE))
    launcher.kept.append(Run("digits", 2, "local"))
    launcher.coordinators["digits.2"] = fixed(status("digits.2"))
    snapshots = client(launcher).get("digits.1").snapshots
    with pytest.raises(RequestError, match="one of the newest 2, and the run may go on from it"):
        snapshots.remove(Wanted(steps=(30,)), force=True)
    launcher.coordinators["digits.2"] = fixed(status("digits.2", "succeeded"))
    assert snapshots.remove(Wanted(steps=(30,)), force=True)[1] == [(1, 30)]


def test_nothing_goes_for_the_sake_of_a_snapshot_whose_bits_are_damaged() -> None:
    snapshots = client(keeping(held(THREE, rotten=(30,)))).get("digits").snapshots
    assert snapshots.remove(Wanted(keep=1))[1] == [(1, 10), (1, 30)]
    with pytest.raises(RequestError, match="step 20 is the newest complete snapshot"):
        snapshots.remove(Wanted(steps=(20,)))
    assert snapshots.remove(Wanted(keep=3))[1] == []
    all_rotten = client(keeping(held(THREE, rotten=(10, 20, 30)), state="running")).get("digits").snapshots
    assert all_rotten.remove(Wanted(keep=0))[1] == []


# ---- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARMTRAIN_ON", raising=False)

    def run(launcher: FakeLauncher, *words: str) -> Result:
        monkeypatch.setattr(Places, "open", lambda self, name: launcher)
        monkeypatch.setattr(places, "LAUNCHERS", ("local",))
        return CliRunner().invoke(cli, ("snapshots", *words), prog_name="swarmtrain")

    return run


def test_ls_lists_every_copy(run: Callable[..., Result]) -> None:
    shown = run(
        keeping(held([*THREE, copy(5, damage="has 3 bytes, not 7")])), "ls", "digits"
    ).stdout.splitlines()
    headings = ["STEP", "EPOCH", "GENERATION", "NODE", "TIER", "RANKS", "SIZE", "AGE", "COMPLETE"]
    assert shown[0].split() == headings
    assert [line.split()[0] for line in shown[1:]] == ["30", "30", "20", "20", "10", "10", "5"]
    assert shown[1].endswith("yes") and shown[-1].endswith("no: has 3 bytes, not 7")
    entries = json.loads(run(keeping(held(THREE)), "ls", "digits", "--json").stdout)
    assert entries[0]["step"] == 30 and entries[0]["complete"] is True


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        (held(THREE), "succeeded", 0),
        (held([*THREE, copy(5, damage="does not match its checksum")]), "succeeded", 1),
        (held(THREE, silent=("lab-3",)), "running", 3),
    ],
)
def test_verify_says_by_its_exit_code_what_it_found(
    run: Callable[..., Result], answer: Answer, state: str, code: int
) -> None:
    assert run(keeping(answer, state), "verify", "digits").exit_code == code


def test_rm_says_what_went(run: Callable[..., Result]) -> None:
    shown = run(keeping(held(THREE)), "rm", "digits", "--keep", "1")
    assert (shown.exit_code, shown.stderr) == (0, "removed steps 10, 20 on 2 nodes; 28 B are free\n")
    assert run(keeping(held(THREE)), "rm", "digits", "--keep", "9").stderr == "there is nothing to remove\n"
    assert run(keeping(held(THREE)), "rm", "digits", "30").exit_code == 2
    assert run(keeping(held(THREE)), "rm", "digits").exit_code == 2


def test_pull_says_what_came(run: Callable[..., Result], tmp_path: Path) -> None:
    shown = run(keeping(held(THREE)), "pull", "digits", "10", "-o", "here")
    assert shown.stderr == f"here/{THREE[0].file} of step 10, from lab-1 (7 B)\n"
    assert (tmp_path / "here" / THREE[0].file).read_bytes() == DATA
