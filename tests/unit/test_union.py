"""The directories of several nodes as one: what a node lists, which version of a file is taken, and what arrives."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from client_fakes import Coordinator, FakeLauncher, Message, Receive, fixed, status

from swarmtrain import ClusterError, RequestError
from swarmtrain.control.client import Client
from swarmtrain.control.files.union import union
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.places import Places
from swarmtrain.errors import SwarmtrainError
from swarmtrain.files import fetch
from swarmtrain.files.listing import listing
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.replies import DirectoryEntry, NodeReply
from swarmtrain.protocol.shared_files import LINK, link_content
from swarmtrain.protocol.to_agent import ListOrder
from swarmtrain.ui.cli import cli
from swarmtrain.wire.disk.storage import Storage

NODES = ("lab-1", "lab-2")


class Nodes:
    """The storage of two nodes, and a coordinator that answers from both.

    Attributes:
        gone: nodes that nobody can ask.
    """

    def __init__(self, root: Path) -> None:
        self.storages = {node: Storage(root / node) for node in NODES}
        self.gone: set[str] = set()
        for node in NODES:
            self.work(node).mkdir(parents=True)
        answers = {"snapshots": self._nodes, "list": self._list, "fetch": self._fetch}
        self.coordinator: Coordinator = fixed(status(), **answers)
        self.launcher = FakeLauncher(digits_1=self.coordinator)

    def work(self, node: str) -> Path:
        return self.storages[node].work("digits.1", node)

    def write(self, node: str, path: str, content: str, when: float) -> None:
        file = self.work(node) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        os.utime(file, (when, when))

    def keep(
        self,
        node: str,
        directory: str,
        files: dict[str, str],
        *,
        deleted: tuple[str, ...] = (),
        mode: int = 0,
    ) -> None:
        """What the agent of a node keeps for another one's sake, and has written down."""
        shared = self.work(node).parent / "shared"
        (shared / "contents").mkdir(parents=True)
        rows: list[list[object]] = []
        for name, text in files.items():
            content = link_content(text) if mode == LINK else text.encode()
            digest = hashlib.sha256(content).hexdigest()
            (shared / "contents" / digest).write_bytes(content)
            rows.append([name, len(content), digest, 500.0, 1, 0, *([mode] if mode else [])])
        whole = {"path": directory, "fence": 1, "number": 1, "files": rows}
        newest = {**whole, "number": 2, "files": [row for row in rows if row[0] not in deleted]}
        record = {"sets": {directory: {"newest": newest, "whole": whole, "in_place": {}}}}
        (shared / "record.json").write_text(json.dumps(record))

    @property
    def handle(self) -> RunHandle:
        return Client("local", {"local": self.launcher}).get("digits")

    def rows(self, path: str = ".", *, recursive: bool = True) -> list[tuple[object, ...]]:
        found = self.handle.files.listing(path, recursive=recursive).versions
        return [
            (each.path, each.nodes, each.kept, each.newest)
            for each in found
            if not (each.directory and recursive)
        ]

    def _nodes(self, request: Message, receive: Receive) -> Iterator[Message]:
        yield {"nodes": list(NODES), "done": {}}

    def _list(self, request: Message, receive: Receive) -> Iterator[Message]:
        order = ListOrder(request["path"], request.get("recursive", False))
        node = request["node"]
        yield from self._told(node, lambda: listing(self.storages[node], "digits.1", node, order))

    def _fetch(self, request: Message, receive: Receive) -> Iterator[Message]:
        node, path = request["node"], request["path"]
        storage = self.storages[node]
        yield from self._told(node, lambda: fetch.send(fetch.locate(storage, "digits.1", node, path), node))

    def _told(self, node: str, answer: Any) -> Iterator[Message]:
        if node in self.gone:
            yield {"error": "it is not there", "exit": 3}
            return
        try:
            replies: Iterator[NodeReply] = answer()
            yield from map(dump, replies)
        except SwarmtrainError as error:
            yield {"error": error.message, "hint": error.hint, "exit": error.exit_code}


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path / "storage")


def test_a_file_comes_from_whichever_node_has_it_and_the_newest_of_several(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.write("lab-2", "only.txt", "second", 100)
    nodes.write("lab-1", "both.txt", "older", 100)
    nodes.write("lab-2", "both.txt", "newer", 200)
    for name, content in (("only.txt", "second"), ("both.txt", "newer")):
        fetched = nodes.handle.fetch(name, tmp_path)
        assert (fetched.node, fetched.path.read_text()) == ("lab-2", content)
    assert nodes.handle.fetch("both.txt", tmp_path / "first", node="lab-1").path.read_text() == "older"


def test_what_is_the_same_on_two_nodes_is_one_version_and_rank_0_s_is_taken(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.write("lab-1", "train.py", "code", 100)
    nodes.write("lab-2", "train.py", "code", 200)  # each agent has unpacked it at a time of its own
    nodes.write("lab-1", "model.pt", "a", 100)
    nodes.write("lab-2", "model.pt", "b", 200)
    assert nodes.rows() == [
        ("model.pt", ("lab-2",), (), True),
        ("model.pt", ("lab-1",), (), False),
        ("train.py", ("lab-1", "lab-2"), (), True),
    ]
    assert nodes.handle.fetch("train.py", tmp_path).node == "lab-1"


def entry(node: str, mtime: float, sha256: str = "", size: int = 9) -> DirectoryEntry:
    return DirectoryEntry(node, "a.pt", size, False, mtime, sha256=sha256)


@pytest.mark.parametrize(
    ("one", "other", "versions"),
    [
        (entry("a", 1.0), entry("b", 1.0000001), 1),
        (entry("a", 1.0), entry("b", 2.0), 2),
        (entry("a", 1.0), entry("b", 1.0, size=8), 2),
        (entry("a", 1.0, "5e"), entry("b", 2.0, "5e"), 1),
        (entry("a", 1.0, "5e"), entry("b", 1.0, "6f"), 2),
        (entry("a", 1.0, "5e"), entry("b", 1.0), 1),
    ],
)
def test_the_same_file_is_known_by_its_hash_else_by_size_and_time(
    one: DirectoryEntry, other: DirectoryEntry, versions: int
) -> None:
    assert len(union([one, other], "a")) == versions


def test_a_directory_has_the_newest_of_each_file_from_all_nodes(nodes: Nodes, tmp_path: Path) -> None:
    nodes.write("lab-1", "ckpt/__0_0.distcp", "shard 0" * 99, 100)
    nodes.write("lab-2", "ckpt/__1_0.distcp", "shard 1", 100)
    nodes.write("lab-1", "ckpt/log", "older and longer", 100)
    nodes.write("lab-2", "ckpt/log", "newer", 200)
    nodes.write("lab-2", "ckpt/deep/.metadata", "both", 100)
    (nodes.work("lab-2") / "ckpt" / "empty").mkdir()
    (nodes.work("lab-2") / "ckpt" / "last").symlink_to("log")
    fetched = nodes.handle.fetch("ckpt", tmp_path / "here")
    assert fetched.node == "lab-1, lab-2"
    assert fetched.left_out == ("last, a link to log",)
    assert {
        path.relative_to(fetched.path).as_posix(): path.read_text() if path.is_file() else None
        for path in fetched.path.rglob("*")
    } == {
        "__0_0.distcp": "shard 0" * 99,
        "__1_0.distcp": "shard 1",
        "log": "newer",
        "deep": None,
        "deep/.metadata": "both",
        "empty": None,
    }
    assert (fetched.path / "log").stat().st_mtime == 200
    nodes.handle.fetch("ckpt", tmp_path / "here")  # into the directory that is there
    with pytest.raises(RequestError, match="here/ckpt exists already"):
        nodes.handle.fetch("ckpt", tmp_path / "here")
    assert nodes.handle.fetch("ckpt", tmp_path / "one", node="lab-1").node == "lab-1"
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["__0_0.distcp", "log"]


def test_a_directory_that_arrives_in_part_leaves_nothing(nodes: Nodes, tmp_path: Path) -> None:
    nodes.write("lab-1", "ckpt/a", "a" * 99, 100)
    nodes.write("lab-2", "ckpt/b", "b", 100)
    answer = nodes.coordinator.answers["fetch"]

    def cut_off(request: Message, receive: Receive) -> Iterator[Message]:
        replies = list(answer(request, receive))
        yield from replies if request["node"] == "lab-1" else [replies[0], {"hang up": True}]

    nodes.coordinator.answers["fetch"] = cut_off
    with pytest.raises(SwarmtrainError):
        nodes.handle.fetch("ckpt", tmp_path / "here")
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]


def test_what_a_lost_node_has_written_comes_from_the_copy_that_another_keeps(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.write("lab-2", "snapshot.pt", "of the generation before", 100)
    nodes.keep("lab-2", "", {"snapshot.pt": "the newest", "old.pt": "was deleted"}, deleted=("old.pt",))
    nodes.gone = {"lab-1"}
    assert nodes.rows(recursive=False) == [
        ("snapshot.pt", (), ("lab-2",), True),
        ("snapshot.pt", ("lab-2",), (), False),
    ]
    fetched = nodes.handle.fetch("snapshot.pt", tmp_path)
    assert (fetched.path.name, fetched.path.read_text()) == ("snapshot.pt", "the newest")
    assert fetched.silent == {"lab-1": "it is not there"}


def test_a_directory_of_which_there_is_only_a_copy_comes_too(nodes: Nodes, tmp_path: Path) -> None:
    nodes.keep("lab-2", "checkpoint-6/deep", {"a.pt": "weights"})
    assert nodes.rows(recursive=False) == [("checkpoint-6", (), ("lab-2",), True)]
    assert nodes.rows("checkpoint-6") == [("checkpoint-6/deep/a.pt", (), ("lab-2",), True)]
    fetched = nodes.handle.fetch("checkpoint-6", tmp_path)
    assert (fetched.path / "deep" / "a.pt").read_text() == "weights" and fetched.node == "lab-2"


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_link_that_a_node_keeps_is_no_file_with_its_text(
    nodes: Nodes, tmp_path: Path, is_lost: bool
) -> None:
    """It is followed, wherever what it leads to is; and where a node has it in its place, that one tells."""
    nodes.write("lab-2" if is_lost else "lab-1", "ckpt-1/model.pt", "weights", 100)
    links = {"best.pt": "ckpt-1/model.pt", "last": "ckpt-1", "newest.pt": "best.pt", "round": "round"}
    links |= {"twice": "last", "deep": "./ckpt-1"}
    nodes.keep("lab-2", "", links, mode=LINK)
    if is_lost:
        nodes.gone = {"lab-1"}
    else:
        for name, leads in links.items():
            (nodes.work("lab-1") / name).symlink_to(leads)
    for name in ("best.pt", "newest.pt"):
        fetched = nodes.handle.fetch(name, tmp_path)
        assert (fetched.path.name, fetched.path.read_text()) == (name, "weights")
    for path in ("last/model.pt", "deep/model.pt", "twice/model.pt"):
        assert nodes.handle.fetch(path, tmp_path / f"{path[:4]}.pt").path.read_text() == "weights"
    with pytest.raises(SwarmtrainError, match=r"/nothing (on|was not found)"):
        nodes.handle.fetch("last/nothing", tmp_path)
    assert (nodes.handle.fetch("last", tmp_path).path / "model.pt").read_text() == "weights"
    with pytest.raises(RequestError, match="round leads through more than 8 links"):
        nodes.handle.fetch("round", tmp_path)


def test_what_no_node_has_is_refused_with_what_to_do(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no nope on lab-1 or lab-2") as caught:
        nodes.handle.fetch("nope", tmp_path)
    assert "swarmtrain ls -R digits.1" in caught.value.hint
    with pytest.raises(RequestError, match="lies outside of the run's directories"):
        nodes.handle.fetch("../../../x", tmp_path)
    nodes.gone = {"lab-2"}
    with pytest.raises(ClusterError, match=r"nope was not found: .* lab-2: it is not there"):
        nodes.handle.fetch("nope", tmp_path)


def test_a_node_does_not_choose_where_a_file_of_a_directory_goes(nodes: Nodes, tmp_path: Path) -> None:
    def lie(request: Message, receive: Receive) -> Iterator[Message]:
        rows = [dump(DirectoryEntry(request["node"], path, 1, path == ".", 1.0)) for path in (".", "../../x")]
        yield {"entries": rows}
        yield {"done": {}}

    nodes.coordinator.answers["list"] = lie
    with pytest.raises(SwarmtrainError, match="leads out of the directory"):
        nodes.handle.fetch("ckpt", tmp_path / "here")


def test_a_file_that_is_used_where_it_lies_says_where(nodes: Nodes, tmp_path: Path) -> None:
    target = tmp_path / "big.bin"
    target.write_text("x")
    for node in NODES:
        (nodes.work(node) / "big.bin").symlink_to(target)
        record = nodes.work(node) / ".swarmtrain-code.json"
        record.write_text(json.dumps({"big.bin": f"-> {target}"}))
    assert [row[0] for row in nodes.rows()] == ["big.bin"]
    with pytest.raises(RequestError, match=f"used where it lies, at {target}"):
        nodes.handle.fetch("big.bin", tmp_path / "here")


def test_the_commands_list_bring_and_complete(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.write("lab-1", "out/model.pt", "older", 100)
    nodes.write("lab-2", "out/model.pt", "newer!", 200)
    nodes.write("lab-2", "a\x1b[2J", "x", 100)
    nodes.keep("lab-1", "kept", {"b.pt": "copy"})
    monkeypatch.setattr(Places, "open", lambda self, name: nodes.launcher)
    monkeypatch.chdir(tmp_path)

    def said(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, "--on", "local"])
        assert done.exit_code == 0, done.output
        return str(done.output)

    table = [line.split() for line in said("ls", "-R", "digits").splitlines()]
    assert table[0] == ["SIZE", "CHANGED", "NODES", "PATH"]
    assert [[*row[:2], *row[4:]] for row in table[1:]] == [
        ["1", "B", "lab-2", r"'a\x1b[2J'"],
        ["4", "B", "+", "lab-1", "kept/b.pt"],
        ["6", "B", "lab-2", "out/model.pt"],
        ["5", "B", "lab-1", "out/model.pt", "(older)"],
    ]
    first = json.loads(said("ls", "digits", "out", "--json"))[0]
    assert (first["path"], first["nodes"], first["newest"]) == ("out/model.pt", ["lab-2"], True)
    brought = json.loads(said("fetch", "digits", "--all", "--json"))
    assert (brought["path"], brought["nodes"]) == ("digits.1", ["lab-1", "lab-2"])
    assert (tmp_path / "digits.1" / "out" / "model.pt").read_text() == "newer!"
    assert (tmp_path / "digits.1" / "kept" / "b.pt").read_text() == "copy"
    completed = CliRunner().invoke(
        cli,
        env={
            "_SWARMTRAIN_COMPLETE": "bash_complete",
            "COMP_WORDS": "swarmtrain fetch --on local digits out/m",
            "COMP_CWORD": "5",
        },
        prog_name="swarmtrain",
        complete_var="_SWARMTRAIN_COMPLETE",
    )
    assert completed.output.strip() == "plain,out/model.pt"
    for words in (
        ("fetch", "digits"),
        ("fetch", "digits", "a", "--all"),
        ("fetch", "digits", "-a", "--node", "x"),
    ):
        assert CliRunner().invoke(cli, [*words, "--on", "local"]).exit_code == 2


def test_a_piece_of_a_listing_is_no_larger_than_a_message(nodes: Nodes) -> None:
    for number in range(2500):
        (nodes.work("lab-1") / f"{number}.txt").touch()
    replies = list(listing(nodes.storages["lab-1"], "digits.1", "lab-1", ListOrder(".", True)))
    assert [len(reply.entries or ()) for reply in replies] == [1000, 1000, 501, 0]
    assert len(nodes.rows()) == 2500
    assert max(len(json.dumps(dump(reply))) for reply in replies) < base64.b64encode(bytes(1 << 20)).__len__()
