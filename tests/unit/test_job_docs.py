"""The example, the schema and the reference say what `Job` says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from ruamel.yaml import YAML

from swarmtrain.job import Job, JobError, load
from swarmtrain.job.fields import Duration, Strict
from swarmtrain.job.keys import Key, described
from swarmtrain.job.made.example import init_text
from swarmtrain.job.made.schema import schema
from swarmtrain.job.spec import KEYS, NESTED

DOCS = Path(__file__).parents[2] / "docs"


def from_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def job(**fields: Any) -> Job:
    return Job(**{"script": "train.py", "name": "train", **fields})


def test_the_example_loads_beside_its_script(tmp_path: Path) -> None:
    (tmp_path / "My train.py").touch()
    (tmp_path / "swarmtrain.yaml").write_text(init_text("", "My train.py"))
    loaded = load(cwd=tmp_path, environ={})
    assert loaded.job == Job(name="my-train", script="My train.py")


@pytest.mark.parametrize("script", ["train.py", "null", "3.py", "src/a: b.py", "true", '"quoted".py', "é.py"])
def test_the_example_takes_any_script_s_name(tmp_path: Path, script: str) -> None:
    assert from_yaml(init_text("x", script))["script"] == script
    assert from_yaml(init_text("3", script))["name"] == "3"


def test_the_example_shows_every_key_with_its_true_default() -> None:
    text = re.sub(r"^# ((?:  )?[a-z_]+:(?: .*)?)$", r"\1", init_text(), flags=re.MULTILINE)
    shown = from_yaml(text)
    assert set(shown) == set(Job.model_fields)
    for key, nested in NESTED.items():
        assert set(shown[key]) == set(nested)
    assert job(**shown) == job()
    for key, value in shown.items():
        assert job(**{key: value}) == job(), key


def test_the_example_names_the_schema_where_there_is_one() -> None:
    assert init_text(schema="job.schema.json").startswith("# yaml-language-server: $schema=job.schema.json\n")
    assert "yaml-language-server" not in init_text()


def test_the_schema_is_up_to_date() -> None:
    """In what does not depend on pydantic; to the letter it is held to the pydantic that made it by test_pages."""
    stored = json.loads((DOCS / "job.schema.json").read_text(encoding="utf-8"))
    assert facts(stored) == facts(schema()), "run: make docs"


def facts(schema: dict[str, Any]) -> dict[str, Any]:
    """Keys with their defaults and descriptions, and everything that is not made by pydantic."""
    objects = {"": schema, **schema["$defs"]}
    return {
        "top": {key: schema[key] for key in ("$schema", "title", "additionalProperties", "oneOf")},
        "keys": {
            f"{name}.{key}": (value.get("default"), value.get("description"), "default" in value)
            for name, each in objects.items()
            for key, value in each["properties"].items()
        },
    }


def test_the_schema_describes_every_key() -> None:
    properties = schema()["properties"]
    assert {key: each["description"] for key, each in properties.items()} == {
        key: each.key.text for key, each in KEYS.items() if "." not in key
    }


def test_the_page_has_every_key_once() -> None:
    page = (DOCS / "job-file.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) == [*KEYS]


def test_the_page_names_the_variables_and_the_flags_that_add() -> None:
    page = " ".join((DOCS / "job-file.md").read_text(encoding="utf-8").split())
    (variables,) = re.findall(r"then a variable \(([^)]+)\)", page)
    assert variables.split(", ") == [
        f"`SWARMTRAIN_{key.upper()}`" for key, each in KEYS.items() if each.key.variable
    ]
    adding = [
        f"`{flag.spelling}`" for each in KEYS.values() if each.key.adds for flag in each.key.flags or ()
    ]
    assert set(re.findall(r"`--[a-z-]+`", page[: page.index("add to the file's list")][-60:])) == set(adding)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_described_with_its_true_default_and_an_example_that_works(key: str) -> None:
    described = KEYS[key]
    assert described.key.text.endswith(".")
    if described.written:
        assert made(key, from_yaml(described.written)) == job()
    else:
        assert described.key.default or described.nested or key in ("script", "module", "command")
    try:
        changed = made(key, from_yaml(described.key.example))
    except JobError as error:
        pytest.fail(f"{key}: {error}")
    assert changed != job() or key in ("script", "resources.gpu_kind")


class Leg(Strict):
    knees: Annotated[int, Key("Joints of a leg. They bend.", example="2")] = 1


class Animal(Strict):
    """A job of another kind, with keys that are described as little as can be."""

    tail_length: Annotated[Duration | None, Key("How long the tail is. In time.", example="2m")] = None
    furry: Annotated[bool, Key("Whether it is furry.", example="true")] = False
    coat: Annotated[Literal["fur", "wool"], Key("What it wears.", example="wool")] = "fur"
    leg: Annotated[Leg, Key("What it stands on.", example="{knees: 2}")] = Leg()


def test_a_key_that_is_added_has_its_flag_its_type_and_its_default_by_itself() -> None:
    tail, furry, coat, leg = described(Animal)
    (knees,) = leg.nested
    flags = [flag for each in (tail, furry, coat, knees) for flag in each.key.flags or ()]
    assert [(each.spelling, each.help, each.metavar, each.switch) for each in flags] == [
        ("--tail-length", "How long the tail is.", "DURATION", False),
        ("--furry", "Whether it is furry.", "", True),
        ("--coat", "What it wears.", "fur|wool", False),
        ("--knees", "Joints of a leg.", "N", False),
    ]
    assert flags[-1].parse is not None and flags[-1].parse("3") == 3
    assert [(each.name, each.takes.words, each.written) for each in (tail, furry, coat, leg, knees)] == [
        ("tail_length", "duration", ""),
        ("furry", "boolean", "false"),
        ("coat", "`fur`, `wool`", "fur"),
        ("leg", "keys below", ""),
        ("leg.knees", "number", "1"),
    ]


def made(key: str, value: Any) -> Job:
    """A job with one key set."""
    top, _, part = key.partition(".")
    fields: dict[str, Any] = {top: {part: value} if part else value}
    return Job(**fields, name="train") if key in ("script", "module", "command") else job(**fields)
