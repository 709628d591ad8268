"""The JSON schema of the job file, for editors: `swarmtrain schema` prints it.

`ui.made.pages` writes docs/job.schema.json.

Editors with the YAML language server find it by a line in the job file: ``# yaml-language-server: $schema=PATH``.
"""

from __future__ import annotations

import json
from typing import Any

import pydantic

from swarmtrain.job.spec import Job

# In the schema itself, since another pydantic may put the same facts into other words of JSON schema.
MADE_WITH = f"made with pydantic {'.'.join(pydantic.VERSION.split('.')[:2])}"


def schema() -> dict[str, Any]:
    """What a job file may hold, as a JSON schema of draft 2020-12."""
    made = Job.model_json_schema()
    made.pop("description", None)
    made["properties"]["name"].pop("default")  # it is made of the script's name
    _drop_titles(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": MADE_WITH,
        "title": "A training job of swarmtrain",
        **made,
        "oneOf": [{"required": [key]} for key in ("script", "module", "command")],
    }


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _drop_titles(node: Any) -> None:
    """Remove the titles that pydantic makes out of the keys' names."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for child in node.values():
            _drop_titles(child)
    elif isinstance(node, list):
        for child in node:
            _drop_titles(child)
