"""What the sides say, as types: each recorded message is read, and written as it was; nonsense is named."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from swarmtrain import structs
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import Family, dump, load
from swarmtrain.protocol.facts import MasterAddress
from swarmtrain.protocol.from_agent import FROM_AGENT, OutputPiece
from swarmtrain.protocol.replies import NodeReply, RunReply
from swarmtrain.protocol.requests import REQUESTS, TerminalInput
from swarmtrain.protocol.schema import Struct, tag_of
from swarmtrain.protocol.status import Status
from swarmtrain.protocol.to_agent import TO_AGENT, KnownOffset

RECORDED = Path(__file__).parent / "fixtures" / "protocol"
READ: dict[str, Callable[[dict[str, Any]], Any]] = {
    "from_agent": FROM_AGENT.load,
    "to_agent": TO_AGENT.load,
    "requests": REQUESTS.load,
    "input": lambda message: load(TerminalInput, message),
    "run_reply": lambda message: load(RunReply, message),
    "node_reply": lambda message: load(NodeReply, message),
}


def recorded(version: str, direction: str) -> list[dict[str, Any]]:
    """Messages of real runs and of the code that made them, as they were sent."""
    messages: list[dict[str, Any]] = json.loads((RECORDED / version / f"{direction}.json").read_text())
    return messages


def test_messages_of_every_direction_are_kept() -> None:
    for version in RECORDED.iterdir():
        assert {path.stem for path in version.iterdir()} == set(READ)


# What is said since, and what was said once and is passed over.
ADDED = {"status": {"unsaved"}, "refuse": {"moved"}}
PASSED_OVER = {"join": {"drained"}, "logs": {"regex"}}


@pytest.mark.parametrize("direction", READ)
@pytest.mark.parametrize("version", sorted(path.name for path in RECORDED.iterdir()))
def test_a_recorded_message_is_read_and_written_as_it_was(version: str, direction: str) -> None:
    for message in recorded(version, direction):
        written = json.loads(json.dumps(dump(READ[direction](message))))
        for tag, keys in PASSED_OVER.items():
            said = message if message.get("op") == tag else message.get(tag, {})
            for key in keys & set(said):
                del said[key]
        for tag, keys in ADDED.items():
            says = written.get(tag, {})
            for key in keys:
                (says if isinstance(says, dict) else written).pop(key, None)
        for pulse, told in zip(written.get("pulses", []), message.get("pulses", []), strict=True):
            del pulse[len(told) :]
        assert written == message


@pytest.mark.parametrize(
    ("family", "direction"), [(FROM_AGENT, "from_agent"), (TO_AGENT, "to_agent"), (REQUESTS, "requests")]
)
def test_every_kind_of_message_is_among_the_recorded(family: Family[Any], direction: str) -> None:
    kinds = {type(READ[direction](message)) for message in recorded("1", direction)}
    assert kinds == set(family.kinds)


@pytest.mark.parametrize(("kind", "direction"), [(RunReply, "run_reply"), (NodeReply, "node_reply")])
def test_every_part_of_a_reply_is_among_the_recorded(kind: type, direction: str) -> None:
    replies = [READ[direction](message) for message in recorded("1", direction)]
    for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        assert any(getattr(reply, name) for reply in replies), name


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"output": {"g": 1, "r": 0, "o": "x", "d": ""}}, "output.o: a whole number is wanted, not 'x'"),
        ({"output": {"g": 1, "r": 0, "o": True, "d": ""}}, "output.o: a whole number is wanted, not True"),
        ({"output": {"g": 1, "r": 0, "o": 0}}, "output.d: is missing"),
        ({"output": [1, 0, 0, ""]}, "output: an object is wanted, not [1, 0, 0, '']"),
        ({"beat": 1.0, "pulses": [[1, 2]]}, "beat.pulses.0: 11 values are wanted, not 2"),
        ({"beat": 1.0, "pulses": [[*range(10), None, "x"]]}, "beat.pulses.0.lived_ago: a number is wanted"),
        ({"stacks": {"g": 1, "ranks": {"one": {}}}}, "stacks.ranks: whole numbers are wanted as its keys"),
        ({"join": {"role": "king"}}, "join.role: one of 'agent', 'files', 'client' is wanted, not 'king'"),
        ({"join": {"role": "agent", "node": "a"}}, "join.node_id: is missing"),
        (
            {"worker": {"g": 1, "rank": 0, "state": "exited", "t": 1.0, "code": 1}},
            "worker.signal: is missing",
        ),
        ({"hello": 1}, "a message of an agent that this version does not know: 'hello'"),
        ({}, "a message of an agent that this version does not know: nothing"),
    ],
)
def test_what_makes_no_sense_is_named(message: dict[str, Any], words: str) -> None:
    with pytest.raises(ChannelError) as caught:
        FROM_AGENT.load(message)
    assert caught.value.message.startswith(words)
    assert caught.value.__cause__ is None  # or strangers could fill the coordinator's log with tracebacks


def test_a_request_of_no_name_is_refused_with_the_name_that_it_has() -> None:
    wrong: list[Any] = ["dance", None, 5, [], {}]
    for op in wrong:
        with pytest.raises(ChannelError, match="a request that this version does not know: op"):
            REQUESTS.load({"op": op})


def test_keys_that_nobody_knows_are_passed_over() -> None:
    """A newer side may have added them."""
    message = {"output": {"g": 1, "r": 0, "o": 0, "d": "x", "colour": "red"}, "sealed": True}
    assert FROM_AGENT.load(message) == OutputPiece(1, 0, 0, "x")
    line = [1.0, 1, 0, "a", "x", "of a newer side"]
    assert load(RunReply, {"lines": [line]}).lines == load(RunReply, {"lines": [line[:5]]}).lines


def test_a_whole_number_stands_for_any_other_and_stays_as_it_was() -> None:
    document = {"run": "t.1", "job": "t", "state": "running", "created": 5, "loss": 1, "eval": {"n": 3}}
    status = load(Status, document)
    assert (status.created, status.loss) == (5, 1)
    assert {key: value for key, value in dump(status).items() if key in document} == document


def test_a_status_of_a_coordinator_that_says_less_is_read() -> None:
    status = load(Status, {"run": "t.1", "job": "t", "state": "failed"})
    assert (status.has_ended, status.workers, status.cause, status.healing) == (True, [], None, None)


def test_no_two_messages_of_one_direction_have_one_tag() -> None:
    for family in (FROM_AGENT, TO_AGENT, REQUESTS):
        tags = [tag_of(kind) for kind in family.kinds]
        assert None not in tags and len(set(tags)) == len(tags)


@dataclass(frozen=True)
class AsDataclass:
    node: str
    ranks: list[int] = field(default_factory=list)
    port: int = 0
    name: str = field(kw_only=True)


class AsStruct(Struct):
    node: str
    ranks: list[int] = field(default_factory=list)
    port: int = 0
    name: str = field(kw_only=True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("a",), {"name": "x"}),
        (("a", (1,), 2), {"name": "x"}),
        ((), {"name": "x", "port": 3, "node": "a"}),
        ((), {"node": "a"}),
        ((), {"name": "x"}),
        (("a", (1,), 2, "x"), {"name": "x"}),
        (("a",), {"node": "a", "name": "x"}),
        (("a",), {"name": "x", "colour": "red"}),
        (("a",), {"colour": "red"}),
    ],
)
def test_a_struct_is_a_frozen_dataclass(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    def told(make: Callable[..., Any]) -> tuple[Any, ...]:
        try:
            made = make(*values, **named)
        except TypeError:
            return ("no arguments of it",)
        same, other = make(*values, **named), replace(made, port=made.port + 1)
        with pytest.raises(FrozenInstanceError):
            made.port = 5
        with pytest.raises(FrozenInstanceError):
            del made.port
        assert made == same == copy.copy(made) and made != other and made != vars(made)
        return asdict(made), repr(made).replace("AsDataclass", "AsStruct"), repr(other)[-30:]

    assert told(AsStruct) == told(AsDataclass)


def test_a_struct_has_the_signature_and_the_hash_of_a_dataclass() -> None:
    of_struct, of_dataclass = (inspect.signature(kind).parameters for kind in (AsStruct, AsDataclass))
    assert [(each.name, each.kind, each.annotation) for each in of_struct.values()] == [
        (each.name, each.kind, each.annotation) for each in of_dataclass.values()
    ]
    one, again = MasterAddress("a", "10.0.0.1", 1), MasterAddress(port=1, node="a", address="10.0.0.1")
    assert {one: 1, again: 2} == {one: 2} and hash(one) != hash(replace(one, port=2))
    assert MasterAddress("a", "b", 1) != KnownOffset("a", 1, 1, 1)


def test_a_struct_is_made_a_dataclass_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of those that a process defines as it starts it never uses."""
    made: list[type] = []

    def noted(**options: bool) -> Callable[[type], type]:
        def make(kind: type) -> type:
            made.append(kind)
            return dataclass(**options)(kind)

        return make

    monkeypatch.setattr(structs, "dataclass", noted)

    class First(Struct):
        ranks: list[int] = field(default_factory=list)

    class Second(First):
        port: int = 0

    assert made == []
    assert (Second([1]), Second()) == (Second([1], 0), Second([], 0))
    assert [each.name for each in fields(First)] == ["ranks"]
    assert made == [Second, First]


def test_a_struct_is_made_a_dataclass_once_also_by_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared(Struct):
        ranks: list[int] = field(default_factory=list)

    values: list[Struct] = []
    other = threading.Thread(target=lambda: values.append(Shared()))
    made: list[type] = []

    def interrupted(**options: bool) -> Callable[[type], type]:
        def make(kind: type) -> type:
            made.append(kind)
            if len(made) == 1:
                other.start()
                other.join(0.1)  # it has to wait, and does until this is done
            return dataclass(**options)(kind)

        return make

    monkeypatch.setattr(structs, "dataclass", interrupted)
    values.append(Shared())
    other.join()
    assert values == [Shared([]), Shared([])] and made == [Shared]


def test_every_struct_can_be_made_a_dataclass() -> None:
    """What is wrong with a field is seen when its class is first used, which may be on a day of need."""
    for part in ("protocol", "wire", "files", "diagnosis", "coordinator", "agent"):
        package = importlib.import_module(f"swarmtrain.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    kinds = [Struct]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    assert len(kinds) > 200
    for kind in kinds[1:]:
        assert {each.name for each in fields(cast(Any, kind))} == kind._defaults.keys()


def test_nothing_of_the_protocol_is_compiled_as_it_is_imported() -> None:
    """What a dataclass compiles made of the import the dearest part of every start."""
    code = (
        "import builtins, dataclasses, enum, inspect, typing\n"
        "real, compiled = builtins.exec, []\n"
        "builtins.exec = lambda code, *scope: (compiled.append(code), real(code, *scope))[1]\n"
        "import swarmtrain.protocol.ask, swarmtrain.protocol.from_agent, swarmtrain.protocol.to_agent\n"
        "import sys; print([each for each in compiled if isinstance(each, str) and 'self' in each])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
