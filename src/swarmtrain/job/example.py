"""The commented example that ``swarmtrain init`` writes: every key of a job, with its default.

The text is `example.yaml`, beside this module; it is documentation and a job at once, and a test holds it to `Job`.
"""

from __future__ import annotations

import json
import re
from importlib import resources

from swarmtrain.job import checks


def init_text(name: str = "", script: str = "train.py", schema: str = "") -> str:
    """The example, for a job of this name and script.

    Args:
        name: made of the script's name when empty; made valid when it is not.
        script: relative to where the file will lie.
        schema: path or address of the JSON schema (`job.schema`), for editors; empty to leave its line out.
    """
    text = resources.files("swarmtrain.job").joinpath("example.yaml").read_text(encoding="utf-8")
    name = checks.made_name(name or re.sub(r"\.py$", "", script.rpartition("/")[2]))
    if schema:
        text = f"# yaml-language-server: $schema={schema}\n{text}"
    text = text.replace("name: train\n", f"name: {_scalar(name)}\n", 1)
    return text.replace("script: train.py\n", f"script: {_scalar(script)}\n", 1)


def _scalar(text: str) -> str:
    """As a YAML scalar: plain where that is certain to stay text, else in quotes."""
    is_plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text not in ("true", "false", "null")
    return text if is_plain else json.dumps(text)
