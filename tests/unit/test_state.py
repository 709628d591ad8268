"""What a coordinator holds of a run for good is what its journal amounts to: for this version's journals and for those
of earlier ones, for every prefix of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hand_clock import HandClock
from journal_scenes import SCENES, record

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.core.state import RunState, replay
from swarmtrain.coordinator.run.members import Members
from swarmtrain.coordinator.run.ranks import ranks_of
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.errors import ClusterError
from swarmtrain.protocol import codec
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.journal.events import Submitted
from swarmtrain.protocol.journal.lines import read_events
from swarmtrain.wire import frames, names
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import UNIX

CHILD_FILE = sorted(Path(__file__).with_name("fixtures").glob("journals/*/*.jsonl"))


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# ---- journals of earlier versions ----------------------------------------------------------------------------------


def told(path: Path) -> Iterator[dict[str, Any]]:
    """What the version that wrote a journal knew after each of its lines."""
    known: dict[str, Any] = {}
    for line in path.with_suffix(".states").read_text().splitlines():
        known |= json.loads(line)
        yield dict(known)


def replayed(data: list[bytes], directory: Path) -> dict[str, Any]:
    """What this version knows after these lines, in the words of that one."""
    path = directory / "journal.jsonl"
    path.write_bytes(b"".join(data))
    with redirect_stderr(StringIO()):
        book = Journal(path, HandClock(now=9e8, epoch=1e9))
    try:
        state, members = book.state, Members(book)
        if state.phase in (Phase.RUNNING, Phase.STOPPING):
            members.expect(state.generation, 0.0)
        generation, stopping = state.generation, state.stopping
        summary = codec.dump(incident_log.summary(state, book.clock.now()))
        found = {
            "events": len(book.events),
            "phase": state.phase.value,
            "outcome": state.outcome and state.outcome.value,
            "reason": state.reason,
            "causes": [cause.dump() for cause in state.causes],
            "stop_asked": state.stop_asked,
            "wanted": state.wanted,
            "not_before": round(state.not_before, 4),
            "generation": {
                "generation": generation.number,
                "parts": {node: codec.dump(part) for node, part in generation.parts.items()},
                "backend": generation.backend,
                "master": generation.master and codec.dump(generation.master),
            },
            "began": state.began,
            "failures": [failure.dump() for failure in state.failures],
            "failed_at": round(state.failed_at, 4),
            "before": [stopping.began, stopping.step] if stopping else [None, None],
            "order": codec.dump(stopping.order) if stopping else {},
            "workers": [vars(worker) for worker in ranks_of(state).values()],
            "history": [codec.dump(each) for each in state.history],
            "incident": state.incident and codec.dump(state.incident),
            "summary": summary | {"lost_seconds": None if state.incident else summary["lost_seconds"]},
            "names": sorted([*key, name] for key, name in state.names.items()),
            "replaced": sorted(state.replaced),
            "expected": {
                node: [
                    *(
                        peer.node_id,
                        peer.incarnation,
                        peer.workers,
                        peer.address,
                        peer.interface,
                        peer.generation,
                    )
                ]
                for node, peer in members.connected.items()
            },
        }
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]
    finally:
        book.close()


# What the version before had no use for once a run had ended, and did not read back. It is no less true.
MORE_AT_THE_END = (
    "stop_asked",
    "wanted",
    "names",
    "replaced",
    "failures",
    "failed_at",
    "before",
    "order",
    "began",
)


@pytest.mark.parametrize("path", CHILD_FILE, ids=lambda path: path.stem)
def test_every_prefix_of_an_earlier_versions_journal_is_replayed_to_what_that_version_knew(
    path: Path,
) -> None:
    data = lines(path)
    with tempfile.TemporaryDirectory() as directory:
        for count, expected in enumerate(told(path), 1):
            found = replayed(data[:count], Path(directory))
            for each in expected["history"]:
                each["ended"] = pytest.approx(each["ended"], abs=1e-3)
            if not found["not_before"]:  # at once: that version said since when
                expected["not_before"] = 0.0
            if expected["phase"] == "ended":
                for key in MORE_AT_THE_END:
                    expected.pop(key), found.pop(key)
            assert found == expected, f"after {count} lines"


def test_a_journal_of_a_newer_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    book = Journal(tmp_path / "journal.jsonl", HandClock())
    newer = events.VERSION + 1
    book.append(Submitted(text="t.1 submitted", run="t.1", resume="", clock=book.origin(), version=newer))
    book.close()
    said = f"format {newer}, and this version of swarmtrain reads up to {events.VERSION}"
    with pytest.raises(ClusterError, match=said):
        Journal(tmp_path / "journal.jsonl", HandClock())


def first_of_a_newer_version(**fields: Any) -> str:
    """The first line of its journal."""
    newer = {"seq": 1, "t": 1.0, "kind": "submitted", "text": "x", "run": "t.1", "resume": ""}
    newer |= {"clock": {"boot": "", "epoch": 0.0}, "version": events.VERSION + 1} | fields
    return json.dumps(newer) + "\n"


def lies(tmp_path: Path, line: str) -> Path:
    """The coordinator's directory of a run whose journal begins so."""
    place = Storage(tmp_path).coordinator("t.1")
    place.mkdir(parents=True)
    (place / "job.json").write_text(RunSpec(name="t", kind="script", target="train.py").dump())
    (place / names.SECRET_ON_LOCAL).write_text(RunSecret("t.1", "token").dump())
    (place / "journal.jsonl").write_text(line)
    return place


@pytest.mark.parametrize("fields", [{"resume": {"run": "t.0"}}, {"clock": 7.0}, {"version": "2.0"}])
def test_a_newer_journal_whose_first_event_this_version_cannot_load_is_refused_too(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    (tmp_path / "journal.jsonl").write_text(first_of_a_newer_version(**fields))
    with pytest.raises(ClusterError, match="reads up to"):
        Journal(tmp_path / "journal.jsonl", HandClock())


@pytest.mark.parametrize("leave", [[], ["--leave"]])
def test_a_coordinator_on_a_newer_journal_says_so_once_and_is_not_started_again(
    tmp_path: Path, leave: list[str]
) -> None:
    place = lies(tmp_path, first_of_a_newer_version(clock=7.0))
    env = os.environ | {
        names.ENV_JOB_FILE: str(place / "job.json"),
        names.ENV_SECRET_FILE: str(place / names.SECRET_ON_LOCAL),
        names.ENV_STORAGE: str(tmp_path),
        names.ENV_COORDINATOR: f"{UNIX}{place / 'agents'}",
    }
    argv = [sys.executable, "-m", "swarmtrain.inside", "coordinator", *leave]
    begun = subprocess.Popen(
        argv, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, said = begun.communicate(timeout=20)
    finally:
        with suppress(ProcessLookupError):  # a coordinator on local outlives its init
            os.killpg(begun.pid, signal.SIGKILL)
    assert begun.returncode == 0  # as of one that has done its work: Swarm, Docker and an init let it rest
    assert said == (
        f"the journal of this run has format {events.VERSION + 1}, and this version of swarmtrain reads up to "
        f"{events.VERSION}\n\nhint: use the version that the run was started with, or a newer one\n"
    )


def test_an_archive_of_a_newer_version_says_so_to_whoever_asks(tmp_path: Path) -> None:
    place = lies(tmp_path, first_of_a_newer_version())
    argv = [sys.executable, "-m", "swarmtrain.inside", "connect", str(place)]
    asked = frames.pack({"op": "status", "swarmtrain": names.PROTOCOL_VERSION})
    done = subprocess.run(argv, input=asked, capture_output=True, timeout=60)
    reply = frames.unpack(done.stdout[4:])
    assert "reads up to" in str(reply["error"]) and "use the version" in str(reply["hint"])
    assert (reply["exit"], done.returncode, done.stderr) == (3, 0, b"")


# ---- journals of this version --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENES)
def test_a_scenes_journal_is_written_as_the_version_before_wrote_it(name: str, tmp_path: Path) -> None:
    """But for the format that it tells now, for a word that was wrong, and for ranks that outlived their run."""
    path = record(name, tmp_path)
    now = [event.dump() for event in read_events(path)]
    before = [
        event.dump() for event in read_events(Path(__file__).parent / f"fixtures/journals/0.1/{name}.jsonl")
    ]
    assert now[0].pop("version") == events.VERSION
    for event in before:
        event["text"] = str(event["text"]).replace(" is back after -30 s", " is back")
        workers: Any = event.get("workers") if event["kind"] == "ended" else None
        for worker in workers or ():
            if worker["state"] == "running":
                worker |= {"state": "killed", "exit": "killed with its run"}
    assert now == before


def test_the_state_changes_by_events_alone() -> None:
    """Nobody can set any of it: it is frozen, and so is all that it is made of."""
    state = replay([])
    for name in vars(state):
        with pytest.raises(AttributeError):
            setattr(state, name, None)
    assert state == RunState()
