"""A warm worker cannot be told from a fresh interpreter: where something differs, it starts cold, before it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import Spawner, plain_python, spawner


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner("warm", tmp_path_factory.mktemp("spawner")) as running:
        yield running


def start(agent: Spawner, tmp_path: Path, program: str) -> tuple[str, str, str | None]:
    """Run a program to its end: what it wrote, how it was started, and why."""
    (tmp_path / "program.py").write_text(program)
    worker = agent.run("program.py", cwd=str(tmp_path))
    assert worker.status == 0, worker.text
    assert worker.started is not None
    return worker.text, worker.started["start"], worker.started["why"]


VARIABLES = """
import argparse, asyncio, collections, ctypes, dataclasses, functools, inspect, json, logging, multiprocessing, os
import concurrent.futures, pathlib, pickle, random, runpy, subprocess, tempfile, threading, typing, unittest.mock
import numpy, typing_extensions
os.environ["OMP_NUM_THREADS"] = "2"
os.environ["TORCH_COMPILE_DISABLE"] = "1"
os.environ["TORCH_DISTRIBUTED_DEBUG"] = "DETAIL"
os.environ["PYTORCH_JIT"] = "0"
import torch, torch.distributed
import torch._dynamo.config
print(torch.get_num_threads(), torch._dynamo.config.disable, torch.distributed.get_debug_level())
print(bool(torch.jit._state._enabled))
"""


def test_variables_that_a_script_sets_before_it_imports_torch_count(agent: Spawner, tmp_path: Path) -> None:
    text, start_as, why = start(agent, tmp_path, VARIABLES)
    assert text == plain_python("program.py", cwd=tmp_path, output=tmp_path / "out")[1].decode()
    assert text.startswith("2 True DebugLevel.DETAIL")
    assert (start_as, why) == ("cold", "it sets OMP_NUM_THREADS, which is read as torch is imported")


def test_variable_that_is_set_between_two_parts_of_torch_counts(agent: Spawner, tmp_path: Path) -> None:
    program = (
        "import os, torch\nos.environ['TORCH_COMPILE_DISABLE'] = '1'\n"
        "import torch._dynamo.config as config\nprint(config.disable)\n"
    )
    text, start_as, why = start(agent, tmp_path, program)
    assert text == "True\n"
    assert (start_as, why) == ("cold", "its code names TORCH_COMPILE_DISABLE, which torch reads later")


STAYS_WARM = """
import argparse, json, logging, os, pathlib, random, sys, threading
import numpy as np
os.environ.setdefault("WANDB_MODE", "offline")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["MASTER_PORT"] = "1"
sys.path.insert(0, "/nowhere")
parser = argparse.ArgumentParser()
text = pathlib.Path(__file__).read_text()
os.listdir(".")
lock = threading.Lock()
import helper
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
print("torch._dynamo" in sys.modules, torch.cuda.is_available(), os.environ["WANDB_MODE"])
"""


def test_what_does_not_matter_to_torch_leaves_a_worker_warm(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import collections.abc, dataclasses, typing\n")
    assert start(agent, tmp_path, STAYS_WARM) == ("False False offline\n", "warm", None)


def test_a_library_that_reads_all_variables_leaves_a_worker_warm(tmp_path: Path) -> None:
    """As tqdm does, which torch imports where it is installed."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "tqdm.py").write_text("import os\ntqdm = dict(os.environ.items())\n")
    with spawner("warm", tmp_path, PYTHONPATH=str(tmp_path / "installed")) as agent:
        text, start_as, why = start(agent, tmp_path, "import torch.hub\nprint('PATH' in torch.hub.tqdm)\n")
    assert (text, start_as, why) == ("True\n", "warm", None)


def test_what_a_script_puts_first_on_the_path_wins(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "third_party").mkdir()
    for name in ("typing_extensions", "filelock"):
        (tmp_path / "third_party" / f"{name}.py").write_text("WHO = 'the script’s own'\n")
    program = (
        "import sys\nsys.path.insert(0, 'third_party')\n"
        "import filelock, typing_extensions as other\n{}print(filelock.WHO, other.WHO)\n"
    )
    assert start(agent, tmp_path, program.format(""))[0] == "the script’s own the script’s own\n"
    with_torch = "try:\n    import torch\nexcept ImportError as error:\n    print(error.name)\n"
    text, start_as, why = start(agent, tmp_path, program.format(with_torch))
    assert text == plain_python("program.py", cwd=tmp_path, output=tmp_path / "out")[1].decode()
    assert start_as == "cold"
    assert why == "what it has put first on sys.path has its own typing_extensions"


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_module_beside_the_script_hides_one_that_we_have_imported(
    agent: Spawner, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "json.py").write_text("WHO = 'the script’s own'\n")
    (tmp_path / "program.py").write_text("import json\nprint(json.WHO)\n")
    worker = agent.run("program.py", cwd=str(tmp_path), start=mode)
    assert worker.text == "the script’s own\n"


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("print('once', end='')\nsys.stdout.flush()", "it writes output, and has not imported torch by then"),
        (
            "open('once', 'a').write('once')",
            "it opens 'once' for writing, and has not imported torch by then",
        ),
        ("os.mkdir('once')", "it changes files or processes (os.mkdir), and has not imported torch by then"),
        (
            "subprocess.run(['mkdir', 'once'])",
            "it starts a process (subprocess.Popen), and has not imported torch by then",
        ),
        (
            "print('once', end='')\nos.environ['OMP_NUM_THREADS'] = '2'",
            "it sets OMP_NUM_THREADS, which is read as torch is imported",
        ),
    ],
)
def test_nothing_is_done_twice_when_a_worker_starts_anew(
    agent: Spawner, tmp_path: Path, first: str, why: str
) -> None:
    program = (
        f"import os, subprocess, sys\nos.umask(0o77)\nsys.path.append('x')\n{first}\n"
        "import torch\nprint(sys.path.count('x'))\n"
    )
    text, start_as, said = start(agent, tmp_path, program)
    assert (start_as, said) == ("cold", why)
    written = (tmp_path / "once").read_text() if (tmp_path / "once").is_file() else text[:-2]
    assert written in ("once", "")
    assert text.endswith("1\n")


UNHEARD = """
import ctypes, os, signal
signal.signal(signal.SIGALRM, signal.SIG_DFL)
found = len(os.sched_getaffinity(0)), os.nice(3), signal.alarm(100)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
ctypes.CDLL(None).puts(b"by the C library")
ctypes.CDLL(None).fflush(None)
os.environ["OMP_NUM_THREADS"] = "2"
import torch
print(*found)
"""


def test_what_nobody_hears_of_is_taken_back_when_a_worker_starts_anew(agent: Spawner, tmp_path: Path) -> None:
    text, start_as, _ = start(agent, tmp_path, UNHEARD)
    assert text == plain_python("program.py", cwd=tmp_path, output=tmp_path / "out")[1].decode()
    assert text.startswith("by the C library\n")
    assert start_as == "cold"


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (
            "multiprocessing.get_context('spawn').Process(target=print).start()",
            "it starts a process (spawnv_passfds)",
        ),
        (
            "shared_memory.SharedMemory('swarmtrain', True, 8).unlink()",
            "it imports multiprocessing.shared_memory",
        ),
    ],
)
def test_what_multiprocessing_makes_is_made_once(
    agent: Spawner, tmp_path: Path, first: str, why: str
) -> None:
    import_first = "    from multiprocessing import shared_memory\n" if "shared_memory" in first else ""
    program = (
        f"import multiprocessing\nif __name__ == '__main__':\n{import_first}"
        f"    {first}\n    import torch\n    print('trains')\n"
    )
    text, start_as, said = start(agent, tmp_path, program)
    assert (sorted(text.split()), start_as, said) == (
        ["trains"],
        "cold",
        f"{why}, and has not imported torch by then",
    )


def test_a_script_that_ends_with_words_is_not_run_again_to_write_them_down(
    agent: Spawner, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text("import sys\nsys.exit('no data')\n")
    env = {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "error")}
    worker = agent.run("program.py", cwd=str(tmp_path), env=env)
    assert worker.started is not None
    assert (worker.status, worker.text, worker.started["start"]) == (1, "no data\n", "warm")
    assert "no data" in (tmp_path / "error").read_text()


def test_worker_that_starts_anew_is_the_same_worker(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.environ['RANK'] = 'other'\n"
        "print(os.getpid(), os.getsid(0), sorted(os.listdir('/proc/self/fd'))[:-1], flush=True)\nsignal.pause()\n"
    )
    worker = agent.start("program.py", cwd=str(tmp_path), env={"RANK": "3"})
    agent.read_until(worker, "]")
    assert worker.text == f"{worker.pid} {worker.pid} ['0', '1', '2']\n"
    agent.signal(worker, 9)
    assert agent.wait(worker).status == -9
