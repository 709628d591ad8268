"""Events of the journal: each line is read as its kind, and written as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.journal.event import UnknownEvent
from swarmtrain.protocol.journal.events import Ended, NodeJoined, StopAsked
from swarmtrain.protocol.journal.remarks import Chosen, Remark
from swarmtrain.wire.disk.records import parse

JOURNALS = sorted(Path(__file__).with_name("fixtures").glob("journals/*/*.jsonl"))


def records(path: Path) -> list[dict[str, Any]]:
    return [record for line in path.read_bytes().splitlines(keepends=True) if (record := parse(line))]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_every_line_of_an_earlier_version_has_a_type_and_is_written_as_it_was(path: Path) -> None:
    assert len(records(path)) >= 3
    for record in records(path):
        event = events.load(record)
        assert not isinstance(event, UnknownEvent), record
        assert json.dumps(event.dump()) == json.dumps(record)


def test_the_earlier_versions_journals_hold_every_kind_that_changes_a_run() -> None:
    kinds = {record["kind"] for path in JOURNALS for record in records(path)}
    words = {kind for kind, made in events.KINDS.items() if issubclass(made, Remark)}
    assert events.KINDS.keys() - words - {"damaged", "stall"} <= kinds


JOINED: dict[str, Any] = {
    "seq": 2,
    "t": 1.5,
    "kind": "joined",
    "text": "a joined",
    "node": "a",
    "node_id": "1",
}
JOINED |= {"incarnation": "a-1", "address": "10.0.0.1", "interface": "eth0", "gpus": 0}


def test_what_a_newer_version_adds_is_kept() -> None:
    told = JOINED | {"rack": [7]}
    event = events.load(told)
    assert isinstance(event, NodeJoined) and event.node == "a" and event.dump() == told
    other = {"seq": 3, "t": 2, "kind": "promoted", "text": "b leads", "by": {"who": "c"}}
    assert events.load(other).kind == "promoted" and events.load(other).dump() == other


def test_what_a_newer_version_tells_in_another_way_is_kept_as_it_was() -> None:
    told = JOINED | {"gpus": ["A100"]}
    event = events.load(told)
    assert isinstance(event, UnknownEvent) and event.kind == "joined" and event.dump() == told


@pytest.mark.parametrize(
    "told",
    [{}, {"seq": 1, "t": 1.0, "kind": 7, "text": ""}, {"seq": "x", "t": 1.0, "kind": "stop", "text": ""}],
)
def test_what_is_no_event_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        events.load(told)


def test_an_event_gets_its_number_and_time_from_the_journal_and_leaves_out_what_it_has_not() -> None:
    event = StopAsked(text="asked to stop").numbered(4, 9.5)
    assert event.dump() == {"seq": 4, "t": 9.5, "kind": "stop", "text": "asked to stop"}
    ended = Ended(text="x", outcome=Outcome.STOPPED, reason="y", generation=1, workers=[])
    assert "causes" not in ended.dump()


def test_what_others_say_for_the_journal_never_changes_a_run() -> None:
    assert events.remark("choice", "eth0", node="a") == Chosen(text="eth0", node="a")
    for kind in ("stop", "ended", "never heard of"):
        event = events.remark(kind, "a: x", node="a")
        assert isinstance(events.load(event.numbered(1, 1.0).dump()), UnknownEvent)
