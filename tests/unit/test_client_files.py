"""Files that are fetched and commands that are run, over a link to a coordinator that is a function."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_fakes import FakeLauncher, Receive, fixed, status, told

from swarmtrain import ClusterError, RequestError
from swarmtrain.control.client import Client
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.session import Streams
from swarmtrain.errors import ChannelError
from swarmtrain.wire.frames import Message


def run_of(launcher: FakeLauncher, name: str = "digits") -> RunHandle:
    return Client("local", {"local": launcher}).get(name)


def sent(data: bytes, name: str = "snapshot.pt", directory: bool = False, digest: str = "") -> list[Message]:
    head = {"name": name, "directory": directory, "size": len(data), "node": "lab-1"}
    pieces = [{"data": base64.b64encode(data[at : at + 7]).decode()} for at in range(0, len(data), 7)]
    digest = digest or hashlib.sha256(data).hexdigest()
    return [{"file": head}, *pieces, {"done": {"bytes": len(data), "sha256": digest}}]


def fetching(*replies: Message) -> FakeLauncher:
    return FakeLauncher(digits_1=fixed(status(), fetch=told(*replies)))


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    fetched = run_of(fetching(*sent(b"weights" * 9))).fetch("snapshot.pt", tmp_path)
    assert fetched.path == tmp_path / "snapshot.pt"
    assert fetched.path.read_bytes() == b"weights" * 9
    assert (fetched.node, fetched.bytes) == ("lab-1", 63)
    assert list(tmp_path.iterdir()) == [fetched.path]


def test_a_damaged_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="damaged"):
        run_of(fetching(*sent(b"weights", digest="0" * 64))).fetch("snapshot.pt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="broke"):
        run_of(fetching(*sent(b"weights")[:1], {"hang up": True})).fetch("snapshot.pt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "snapshot.pt").write_text("mine")
    with pytest.raises(RequestError, match="exists already"):
        run_of(fetching(*sent(b"weights"))).fetch("snapshot.pt", tmp_path)
    assert (tmp_path / "snapshot.pt").read_text() == "mine"
    run_of(fetching(*sent(b"weights"))).fetch("snapshot.pt", tmp_path, overwrite=True)
    assert (tmp_path / "snapshot.pt").read_bytes() == b"weights"


def test_a_directory_arrives_under_the_name_it_is_given(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("snapshots/a.pt", "snapshots/deep/b.pt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
    fetched = run_of(fetching(*sent(packed.getvalue(), "snapshots", True))).fetch(
        "snapshots", tmp_path / "here"
    )
    assert fetched.directory
    assert (tmp_path / "here/a.pt").read_bytes() == (tmp_path / "here/deep/b.pt").read_bytes() == b"ok"
    assert [each.name for each in tmp_path.iterdir()] == ["here"]


def test_a_node_cannot_write_outside_of_the_directory(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("snapshots/../../evil"), io.BytesIO())
    with pytest.raises(ChannelError, match="cannot be unpacked"):
        run_of(fetching(*sent(packed.getvalue(), "snapshots", True))).fetch("snapshots", tmp_path / "here")
    assert not (tmp_path.parent / "evil").exists()


def test_a_node_whose_agent_has_ended_is_reached_first(tmp_path: Path) -> None:
    answers = iter([[{"reach": "lab-2", "done": {}}], sent(b"weights")])
    coordinator = fixed(status(state="failed"), fetch=lambda request, receive: iter(next(answers)))
    launcher = FakeLauncher(digits_1=coordinator)
    run_of(launcher).fetch("snapshot.pt", tmp_path)
    assert launcher.calls == [("reach", "digits.1", "lab-2")]
    assert coordinator.requests[-1]["node"] == "lab-2"


def test_a_command_gets_its_input_and_gives_its_output() -> None:
    def execute(request: Message, receive: Receive) -> Iterator[Message]:
        typed = b""
        while message := receive():
            if "eof" in message:
                break
            typed += base64.b64decode(message["stdin"])
        yield {"stdout": base64.b64encode(typed.upper()).decode()}
        yield {"stderr": base64.b64encode(b"\xff").decode()}
        yield {"done": {"exit": 7}}

    coordinator = fixed(status(), exec=execute)
    streams = Streams(io.BytesIO(b"hello"), io.BytesIO(), io.BytesIO())
    assert run_of(FakeLauncher(digits_1=coordinator)).exec(1, ["tr", "a-z", "A-Z"], streams) == 7
    assert isinstance(streams.stdout, io.BytesIO) and streams.stdout.getvalue() == b"HELLO"
    assert isinstance(streams.stderr, io.BytesIO) and streams.stderr.getvalue() == b"\xff"
    assert coordinator.requests[0] == {"op": "exec", "argv": ["tr", "a-z", "A-Z"], "rank": 1}


def test_a_command_on_an_unknown_node_is_refused() -> None:
    coordinator = fixed(status(), exec=told({"error": "there is no node lab-9", "hint": "lab-1", "exit": 2}))
    with pytest.raises(RequestError, match="no node lab-9"):
        run_of(FakeLauncher(digits_1=coordinator)).exec(
            "lab-9", ["ls"], Streams(None, io.BytesIO(), io.BytesIO())
        )
