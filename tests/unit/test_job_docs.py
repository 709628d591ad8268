"""The example, the schema and the reference say what `Job` says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from swarmtrain.job import Job, JobError, load
from swarmtrain.job.example import init_text
from swarmtrain.job.schema import MADE_WITH, schema, schema_text
from swarmtrain.job.spec import NESTED

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "job-file.md").read_text(encoding="utf-8")


def reference_rows() -> Iterator[tuple[str, str, str]]:
    """Key, default and example of each row of the reference's tables."""
    for line in REFERENCE.splitlines():
        if match := re.match(r"\| `([\w.]+)` \|[^|]*\|([^|]*)\|.*\|([^|]*)\|$", line):
            yield match[1], match[2].strip(), match[3].strip()


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
        assert set(shown[key]) == set(nested.model_fields)
    assert job(**shown) == job()
    for key, value in shown.items():
        assert job(**{key: value}) == job(), key


def test_the_example_names_the_schema_where_there_is_one() -> None:
    assert init_text(schema="job.schema.json").startswith("# yaml-language-server: $schema=job.schema.json\n")
    assert "yaml-language-server" not in init_text()


def test_the_schema_is_up_to_date() -> None:
    """To the letter under the pydantic that made it; under another, in what does not depend on pydantic."""
    text = (DOCS / "job.schema.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert facts(stored) == facts(schema()), "run: python -m swarmtrain.job.schema > docs/job.schema.json"
    if stored["$comment"] == MADE_WITH:
        assert text == schema_text()


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
    assert set(properties) == set(Job.model_fields)
    assert [key for key, field in Job.model_fields.items() if not field.description] == []


def test_the_reference_has_every_key() -> None:
    parts = {f"{key}.{part}" for key, nested in NESTED.items() for part in nested.model_fields}
    assert {key for key, _, _ in reference_rows()} == set(Job.model_fields) | parts


@pytest.mark.parametrize(("key", "default", "example"), list(reference_rows()))
def test_the_reference_tells_true_defaults_and_working_examples(key: str, default: str, example: str) -> None:
    if default.startswith("`"):
        value = from_yaml(default.strip("`"))
        assert made(key, value) == job()
    value = from_yaml(example.strip("`"))
    try:
        changed = made(key, value)
    except JobError as error:
        pytest.fail(f"{key}: {error}")
    assert changed != job() or key in ("script", "resources.gpu_kind")


def made(key: str, value: Any) -> Job:
    """A job with one key set."""
    top, _, part = key.partition(".")
    fields: dict[str, Any] = {top: {part: value} if part else value}
    return Job(**fields, name="train") if key in ("script", "module", "command") else job(**fields)
