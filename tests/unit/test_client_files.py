"""Files that are fetched and commands that are run, over a link to a coordinator that is a function."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import resource
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from client_fakes import FakeLauncher, Message, Receive, fixed, status, told

from swarmtrain import ClusterError, RequestError
from swarmtrain.control import exec_session, places
from swarmtrain.control.client import Client
from swarmtrain.control.exec_session import Streams
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.places import Places
from swarmtrain.errors import ChannelError
from swarmtrain.files import fetch as files
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.replies import NodeReply
from swarmtrain.ui.cli import cli


def run_of(launcher: FakeLauncher, name: str = "digits") -> RunHandle:
    return Client("local", {"local": launcher}).get(name)


def sent(data: bytes, name: str = "snapshot.pt", directory: bool = False, digest: str = "") -> list[Message]:
    head = {"name": name, "directory": directory, "size": len(data), "node": "lab-1"}
    pieces = [{"data": base64.b64encode(data[at : at + 7]).decode()} for at in range(0, len(data), 7)]
    digest = digest or hashlib.sha256(data).hexdigest()
    return [{"file": head}, *pieces, {"done": {"bytes": len(data), "sha256": digest}}]


# A coordinator of an earlier version, which does not list the files of several nodes: the transfer alone is tried.
UNLISTED = {"snapshots": told({"nodes": ["lab-1"], "done": {}}), "list": told({"entries": [], "done": {}})}


def fetching(*replies: Message | NodeReply) -> FakeLauncher:
    said = [dump(reply) if isinstance(reply, NodeReply) else reply for reply in replies]
    return FakeLauncher(digits_1=fixed(status(), fetch=told(*said), **UNLISTED))


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


def test_a_directory_comes_as_it_is_but_for_links_and_what_is_no_file(tmp_path: Path) -> None:
    work, here = tmp_path / "work", tmp_path / "here"
    (work / "deep" / "empty").mkdir(parents=True)
    (work / "run.sh").write_text("true")
    (work / "run.sh").chmod(0o750)
    os.utime(work / "run.sh", (1000, 1000))
    os.link(work / "run.sh", work / "same.sh")
    (work / "deep" / "caf\udce9").write_text("x")
    (work / "absolute").symlink_to("/etc/passwd")
    (work / "latest").symlink_to("run.sh")
    (work / "red\033[31m").symlink_to("x")
    os.mkfifo(work / "pipe")
    fetched = run_of(fetching(*files.send(work, "lab-1"))).fetch("work", here)
    assert sorted(str(each.relative_to(here)) for each in here.rglob("*")) == [
        *("deep", "deep/caf\udce9", "deep/empty", "run.sh", "same.sh")
    ]
    assert (here / "same.sh").read_text() == "true" and not (here / "same.sh").samefile(here / "run.sh")
    assert (here / "run.sh").stat().st_mode & 0o111 and (here / "run.sh").stat().st_mtime == 1000
    assert fetched.left_out == (
        "absolute, a link to /etc/passwd",
        "latest, a link to run.sh",
        "pipe, neither a file nor a directory",
        "'red\\x1b[31m', a link to x",
    )


def test_files_that_go_or_grow_while_they_are_sent_are_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        (work / name).write_text(name)
    add = tarfile.TarFile.add

    def racing(self: tarfile.TarFile, name: Path, **keys: Any) -> None:
        if name.name == "b":
            (work / "b").unlink()
            (work / "deep" / "c").unlink()
            (work / "deep").rmdir()
        add(self, name, **keys)

    monkeypatch.setattr(tarfile.TarFile, "add", racing)
    run_of(fetching(*files.send(work, "lab-1"))).fetch("work", tmp_path / "here")
    assert [each.name for each in (tmp_path / "here").iterdir()] == ["a"]

    replies = files.send(work / "a", "lab-1")
    head = next(replies)
    (work / "a").write_text("a, and more")
    run_of(fetching(head, *replies)).fetch("a", tmp_path)
    assert (tmp_path / "a").read_text() == "a"
    with pytest.raises(RequestError, match="neither a file nor a directory"):
        os.mkfifo(work / "pipe")
        next(files.send(work / "pipe", "lab-1"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


def packed(*members: tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for each in members:
            archive.addfile(each, io.BytesIO(b"x" * each.size))
    return buffer.getvalue()


DIRECTORY = member("work", tarfile.DIRTYPE)


@pytest.mark.parametrize(
    "archive",
    [
        packed(DIRECTORY, member("work/../../evil")),
        packed(DIRECTORY, member("/work/evil")),
        packed(DIRECTORY, member("../evil")),
        packed(DIRECTORY, member("work/a"), member("work/a")),
        packed(DIRECTORY, member("work/a"), member("work/a/b")),
        packed(DIRECTORY, member("work/a"), member("work/a", tarfile.DIRTYPE)),
        packed(DIRECTORY, member("work/a", tarfile.DIRTYPE), member("work/a")),
        packed(DIRECTORY, member("work/hard", tarfile.LNKTYPE, "/etc/passwd")),
        packed(DIRECTORY, member("work/hard", tarfile.LNKTYPE, "work/../../evil")),
        packed(DIRECTORY, member("work/hard", tarfile.LNKTYPE, "work/later"), member("work/later")),
        packed(DIRECTORY, member("work/large", size=100_000))[:50_000],
        packed(DIRECTORY, member("work/a", size=10), mode="w:gz"),
        b"no archive at all" * 100,
    ],
)
def test_an_archive_that_no_agent_makes_is_refused_whole(tmp_path: Path, archive: bytes) -> None:
    here = tmp_path / "in" / "here"
    with pytest.raises(ChannelError, match="cannot be unpacked"):
        run_of(fetching(*sent(archive, "work", True))).fetch("work", here)
    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")] == ["in"]


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    archive = packed(
        DIRECTORY, member("work/a", tarfile.SYMTYPE, str(tmp_path / "outside")), member("work/a/b", size=1)
    )
    run_of(fetching(*sent(archive, "work", True))).fetch("work", tmp_path / "here")
    assert not list((tmp_path / "outside").iterdir())
    assert (tmp_path / "here" / "a" / "b").read_text() == "x"


@pytest.mark.parametrize("name", ["..", "/", "a/..", ""])
def test_a_node_does_not_choose_where_a_file_goes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fetched = run_of(fetching(*sent(b"x", name))).fetch("x", overwrite=True)
    assert fetched.path.resolve() == tmp_path / "here" / "files"


def test_a_node_does_not_say_to_the_terminal_what_it_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Places, "open", lambda self, name: fetching(*sent(b"x", "a\x1b[2Jb")))
    monkeypatch.setattr(places, "LAUNCHERS", ("local",))
    words = ("fetch", "digits", "a", "--on", "local")
    assert CliRunner().invoke(cli, words).stderr == "'a\\x1b[2Jb' from lab-1 (1 B)\n"
    assert "error: 'a\\x1b[2Jb' exists already\n" in CliRunner().invoke(cli, words).stderr


def test_nor_does_an_archive(tmp_path: Path) -> None:
    twice = packed(DIRECTORY, *[member("work/\x1b[2J")] * 2)
    with pytest.raises(ChannelError, match=r"'work/\\x1b\[2J' comes twice"):
        run_of(fetching(*sent(twice, "work", True))).fetch("work", tmp_path / "here")


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_whole_working_directory(tmp_path: Path, path: str) -> None:
    with pytest.raises(RequestError, match="an empty path names no file"):
        run_of(fetching(*sent(b"x"))).fetch(path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_there_keeps_what_does_not_come(tmp_path: Path) -> None:
    work, mine = tmp_path / "work", tmp_path / "out" / "work"
    for root, text in ((work, "theirs"), (mine, "mine")):
        (root / "deep").mkdir(parents=True)
        (root / "deep" / "both").write_text(text)
        (root / f"only-{text}").write_text(text)
    (tmp_path / "link").symlink_to(mine.parent)
    with pytest.raises(RequestError, match="exists already"):
        run_of(fetching(*files.send(work, "lab-1"))).fetch("work", tmp_path / "link")
    assert (mine / "deep" / "both").read_text() == "mine"
    run_of(fetching(*files.send(work, "lab-1"))).fetch("work", tmp_path / "link", overwrite=True)
    assert (mine / "deep" / "both").read_text() == "theirs"
    assert sorted(each.name for each in mine.iterdir()) == ["deep", "only-mine", "only-theirs"]


@pytest.mark.parametrize("block", ["file", "directory", "link"])
def test_what_cannot_be_replaced_is_named_and_nothing_is_changed(tmp_path: Path, block: str) -> None:
    work, here = tmp_path / "work", tmp_path / "out" / "work"
    (work / "deep").mkdir(parents=True)
    (work / "a").write_text("new")
    (work / "deep" / "b").write_text("new")
    here.mkdir(parents=True)
    (here / "a").write_text("old")
    if block == "file":
        (here / "deep").write_text("a file")
    elif block == "directory":
        (here / "deep" / "b").mkdir(parents=True)
    else:
        (here / "deep").symlink_to(tmp_path)
    with pytest.raises(RequestError, match=r"deep.* is in the way"):
        run_of(fetching(*files.send(work, "lab-1"))).fetch("work", here.parent, overwrite=True)
    assert (here / "a").read_text() == "old" and not (tmp_path / "b").exists()
    assert not list(tmp_path.rglob(".fetch-*"))


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    replies = sent(packed(DIRECTORY, member("work/a", size=30_000)), "work", True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(RequestError, match="here cannot be written: File too large"):
            run_of(fetching(*replies)).fetch("work", tmp_path / "here")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_node_whose_agent_has_ended_is_reached_first(tmp_path: Path) -> None:
    answers = iter([[{"reach": "lab-2", "done": {}}], sent(b"weights")])
    coordinator = fixed(
        status(state="failed"), fetch=lambda request, receive: iter(next(answers)), **UNLISTED
    )
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
    assert run_of(FakeLauncher(digits_1=coordinator)).exec(["tr", "a-z", "A-Z"], rank=1, streams=streams) == 7
    assert isinstance(streams.stdout, io.BytesIO) and streams.stdout.getvalue() == b"HELLO"
    assert isinstance(streams.stderr, io.BytesIO) and streams.stderr.getvalue() == b"\xff"
    assert coordinator.requests[0] == {"op": "exec", "argv": ["tr", "a-z", "A-Z"], "rank": 1}


class Endless(io.BytesIO):
    """Input of which there is always more, up to some bytes; how much of it was read is known."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left, self.given = most, 0

    def read(self, size: int | None = -1) -> bytes:
        piece = bytes(min(size or 0, self.left))
        self.left -= len(piece)
        self.given += len(piece)
        return piece


def streams_from(source: Endless) -> Streams:
    return Streams(source, io.BytesIO(), io.BytesIO())


def size_of(message: Message | None) -> int:
    return len(base64.b64decode((message or {})["stdin"]))


def test_input_is_sent_no_faster_than_the_command_takes_it() -> None:
    source, most = Endless(1 << 30), exec_session._AHEAD
    given, taken = [], []

    def execute(request: Message, receive: Receive) -> Iterator[Message]:
        for _ in range(3):
            for _ in range(most // exec_session._PIECE):
                taken.append(size_of(receive()))
            time.sleep(0.2)  # in which more would come
            given.append(source.given - sum(taken))
            yield {"taken": most}
        yield {"done": {"exit": 0}}

    coordinator = fixed(status(), exec=execute)
    assert (
        run_of(FakeLauncher(digits_1=coordinator)).exec(["sleep"], rank=1, streams=streams_from(source)) == 0
    )
    assert given == [exec_session._PIECE] * 3, "one piece was read, and waits"


def test_a_node_of_a_version_that_does_not_tell_what_was_taken_is_sent_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exec_session, "_PATIENCE", 0.1)
    source, got = Endless(3 * exec_session._AHEAD), []

    def execute(request: Message, receive: Receive) -> Iterator[Message]:
        while "eof" not in (message := receive() or {}):
            got.append(size_of(message))
        yield {"done": {"exit": 0}}

    coordinator = fixed(status(), exec=execute)
    assert run_of(FakeLauncher(digits_1=coordinator)).exec(["cat"], rank=1, streams=streams_from(source)) == 0
    assert sum(got) == 3 * exec_session._AHEAD


def test_a_command_on_an_unknown_node_is_refused() -> None:
    coordinator = fixed(status(), exec=told({"error": "there is no node lab-9", "hint": "lab-1", "exit": 2}))
    with pytest.raises(RequestError, match="no node lab-9"):
        run_of(FakeLauncher(digits_1=coordinator)).exec(
            ["ls"], node="lab-9", streams=Streams(None, io.BytesIO(), io.BytesIO())
        )


@pytest.mark.parametrize("where", [{}, {"rank": 0, "node": "lab-1"}])
def test_a_command_needs_one_place_to_run_in(where: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="beside a rank or on a node") as caught:
        run_of(FakeLauncher(digits_1=fixed(status()))).exec(["ls"], **where)
    assert "rank= or node=" in caught.value.hint
