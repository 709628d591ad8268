"""Whether a script has a use for torch, by its text: what has none starts cold, and so at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmtrain.job import Job, LoadedJob
from swarmtrain.payload.imports import only_standard
from swarmtrain.payload.run_spec import spec_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("print('hello')\n", True),
        ("import os, sys as system\nfrom concurrent.futures import wait\n", True),
        ("import os  # and nothing else\n", True),
        ("import os.path\n", True),
        ("import torch\n", False),
        ("def late():\n    import numpy as np\n", False),
        ("import os, numpy\n", False),
        ("import os; import numpy\n", False),
        ("from lightning import Trainer\n", False),
        ("from .model import Net\n", False),
        ("import importlib\nimportlib.import_module('torch')\n", False),
        ("import helper\n", True),
        ("import uses_numpy\n", False),
        ("import circle\n", True),
        ("import random\n", False),  # it is the one beside the script that is imported
        ("import package\n", False),
        ('"""To begin,\nimport data/labels first."""\n', False),
    ],
)
def test_a_script_that_imports_nothing_but_the_standard_library_is_known(
    tmp_path: Path, text: str, expected: bool
) -> None:
    (tmp_path / "helper.py").write_text("import json\n")
    (tmp_path / "uses_numpy.py").write_text("import numpy\n")
    (tmp_path / "circle.py").write_text("import circle\nimport helper\n")
    (tmp_path / "random.py").write_text("import pandas\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "train.py").write_text(text)
    assert only_standard(tmp_path / "train.py") is expected


def test_what_cannot_be_read_may_import_anything(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.py").write_bytes(b"#" * (1 << 21))
    names = ("binary.py", "large.py", "none.py", ".")
    assert not any(only_standard(tmp_path / name) for name in names)


@pytest.mark.parametrize(("text", "expected"), [("import torch", "warm"), ("import os", "cold")])
def test_it_is_started_cold(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "train.py").write_text(text)
    assert spec_of(LoadedJob(Job(script="train.py"), tmp_path)).start == expected
    assert spec_of(LoadedJob(Job(module="train"), tmp_path)).start == "warm"  # it may be installed there
