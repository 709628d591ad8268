"""A worker, warm or cold, finds what the same program finds under plain Python, and leaves what it leaves there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_harness import SCRIPTS, Spawner, make_bundle, plain_python, spawner

# Until a program has imported torch, a warm worker may still start anew: see test_worker_trial.py. One that costs
# nothing to import serves all that is tested here, and is ended by us like the real one.
TORCH = """
from . import distributed
__version__ = "0"
class cuda:
    is_initialized = staticmethod(lambda: False)
class default_generator:
    seed = staticmethod(lambda: None)
"""


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("torch")
    (directory / "torch" / "distributed").mkdir(parents=True)
    (directory / "torch" / "__init__.py").write_text(TORCH)
    (directory / "torch" / "distributed" / "__init__.py").write_text("")
    return str(directory)


@pytest.fixture(scope="module", params=["warm", pytest.param("cold", marks=pytest.mark.long)])
def agent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, torch: str
) -> Iterator[Spawner]:
    directory = tmp_path_factory.mktemp("spawner")
    with spawner(request.param, directory, make_bundle(directory), PYTHONPATH=torch) as running:
        yield running


def seen(output: bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(output)
    for environment in ("environment", "environment of C"):
        # the last is set by an import
        for name in ("TEST_COOKIE", "SWARMTRAIN_WORKER", "TORCHINDUCTOR_CACHE_DIR"):
            values[environment].pop(name, None)
    return values


def differences(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """What is not the same, as pairs, down to single variables."""
    found: dict[str, Any] = {}
    for name in ours.keys() | plain.keys():
        ours_here, plain_here = ours.get(name), plain.get(name)
        if isinstance(ours_here, dict) and isinstance(plain_here, dict):
            found |= {f"{name}: {key}": pair for key, pair in differences(ours_here, plain_here).items()}
        elif ours_here != plain_here:
            found[name] = (ours_here, plain_here)
    return found


def place(tmp_path: Path) -> Path:
    """A working directory with a script in a subdirectory, a module, a package, and a link to the script."""
    (tmp_path / "code").mkdir()
    (tmp_path / "extra").mkdir()
    shutil.copy(SCRIPTS / "attributes.py", tmp_path / "code" / "script.py")
    shutil.copy(SCRIPTS / "attributes.py", tmp_path / "extra" / "single.py")
    package = tmp_path / "extra" / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(SCRIPTS / "attributes.py", package / "__main__.py")
    shutil.copy(SCRIPTS / "attributes.py", package / "part.py")
    for script in tmp_path.rglob("*.py"):
        script.write_text(script.read_text().replace("import ctypes\n", "import torch\nimport ctypes\n"))
    (tmp_path / "link.py").symlink_to("code/script.py")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("script", "code/script.py"),
        ("script", "./code/../code/script.py"),
        ("script", "{cwd}/code/script.py"),
        ("script", "link.py"),
        ("module", "single"),
        ("module", "package"),
        ("module", "package.part"),
    ],
)
def test_program_sees_what_plain_python_shows(
    agent: Spawner, tmp_path: Path, torch: str, kind: str, target: str
) -> None:
    cwd = place(tmp_path)
    target = target.format(cwd=cwd)
    env = {"RANK": "3", "ÜMLAUT": "é\udcff", "PYTHONPATH": "relative::/absolute"}
    worker = agent.run(
        target,
        "--flag",
        "a b",
        kind=kind,
        cwd=str(cwd),
        env=env,
        path=["extra", str(cwd / "no-such-directory"), torch],
    )
    assert worker.started is not None
    assert (worker.started["start"], worker.started["why"]) == (agent.mode, None)
    expected_env = {**env, "PYTHONPATH": f"extra:{cwd}/no-such-directory:{torch}:{env['PYTHONPATH']}"}
    command = ["-m", target] if kind == "module" else [target]
    status, output = plain_python(
        *command, "--flag", "a b", cwd=cwd, output=tmp_path / "plain.out", **expected_env
    )
    assert status == worker.status == 0, worker.text
    ours, plain = seen(worker.output), seen(output)
    for name in ("path", "meta_path", "warnings"):  # libraries that the warm parent has imported add to these
        ours[name] = [entry for entry in ours[name] if entry in plain[name]]
    assert differences(ours, plain) == {}


PROGRAMS = {
    "chained": """
        def inner():
            raise ValueError("the first\\nin two lines")
        def outer():
            try:
                inner()
            except ValueError as error:
                raise RuntimeError("the sécond") from error
        outer()
    """,
    "during handling": "try:\n    1/0\nexcept Exception:\n    {}['x']",
    "context through import": "import broken",
    "group": """
        import sys
        if sys.version_info >= (3, 11):
            raise ExceptionGroup("g", [ValueError(1), KeyError("k")])
    """,
    "syntax error": "x = = 1",
    "bad indentation": "def f():\npass",
    "syntax error in import": "import malformed",
    "missing import": "import no_such_module",
    "notes": "e = ValueError('x')\nif hasattr(e, 'add_note'):\n    e.add_note('a note')\nraise e",
    "no message": "assert False",
    "bad str": "class E(Exception):\n    def __str__(self):\n        raise TypeError('no')\nraise E()",
    "base exception": "class E(BaseException):\n    pass\nraise E('x')",
    "generator exit": "raise GeneratorExit('x')",
    "interrupt": """
        import os, signal, time
        def f():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(9)
        f()
    """,
    "interrupt and atexit": "import atexit\natexit.register(print, 'last words')\nraise KeyboardInterrupt",
    "exit none": "import sys; sys.exit()",
    "exit code": "import sys; sys.exit(3)",
    "exit big": "import sys; sys.exit(256 + 7)",
    "exit negative": "import sys; sys.exit(-1)",
    "full disk": "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('x')",
    "closed streams": "import sys\nsys.stdout.close()\nsys.stderr = None\nsys.exit('words')",
    "exit text": "import sys; print('out', end=''); sys.exit('why it ended, ü')",
    "exit object": "raise SystemExit({'a': 1})",
    "exit true": "raise SystemExit(True)",
    "os exit": "import os; print('kept', flush=True); os._exit(5)",
    "abort": "import os; print('kept', flush=True); os.abort()",
    "own excepthook": """
        import sys
        def hook(kind, error, frames):
            print("hook", kind, error, frames.tb_lineno, frames.tb_next, sys.exc_info())
        sys.excepthook = hook
        1/0
    """,
    "broken excepthook": "import sys\ndef hook(*a):\n    raise KeyError('in hook')\nsys.excepthook = hook\n1/0",
    "exit in excepthook": "import sys\nsys.excepthook = lambda *a: sys.exit(9)\n1/0",
    "excepthook none": "import sys\nsys.excepthook = None\n1/0",
    "atexit": "import atexit\natexit.register(print, 'first registered')\natexit.register(print, 'last registered')",
    "atexit raises": "import atexit\ndef f():\n    raise ValueError('late')\natexit.register(f)",
    "thread": "import threading, time\ndef f():\n    time.sleep(0.2); print('thread done')\n"
    "threading.Thread(target=f).start()\nprint('main done')",
    "thread raises": "import threading\nt = threading.Thread(target=lambda: 1/0, name='T')\nt.start(); t.join()",
    "daemon thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "unclosed file": "f = open('left-open.txt', 'w')\nf.write('x' * 100)",
    "destructor": "class C:\n    def __del__(self):\n        print('deleted')\nc = C()",
    "no newline": "print('a', end='')\nimport sys\nsys.stderr.write('b')\nsys.stdout.flush()\nprint('c', end='')",
    "surrogates": "import sys; print('\\udcff\\udc80', flush=True)\nprint('\\ud800', file=sys.stderr)",
    "unencodable": "print('\\ud800')",
    "warning": "import warnings\nwarnings.warn('careful')\nwarnings.warn('old', DeprecationWarning)",
    "stdin": "print(repr(input()))",
    "sigterm": "import os, signal\nprint('before', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)",
    "broken pipe": "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')",
    "last exception": "import sys, atexit\natexit.register(lambda: print(sys.last_type, sys.last_value))\n1/0",
    "inspect": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
    "annotations": "x: int = 1\nprint(__annotations__)\nprint(__doc__)",
    "docstring": "'''The doc.'''\nprint(__doc__)",
    "cookie": "# -*- coding: latin-1 -*-\nprint(len('\u00e9'))",
    "pickle": "import pickle\nclass C:\n    pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C, C)",
    "two streams": "import sys\nfor i in range(50):\n    print('out', i, file=sys.stdout, flush=True)\n"
    "    print('err', i, file=sys.stderr)",
}


def program(tmp_path: Path, name: str) -> Path:
    text = PROGRAMS[name]
    if text.startswith("\n"):
        text = "\n".join(line[8:] for line in text.splitlines())
    (tmp_path / "broken.py").write_text("def f():\n    raise OSError(2, 'it', 'file')\nf()\n")
    (tmp_path / "malformed.py").write_text("a b c\n")
    script = tmp_path / "program.py"
    script.write_text(text)
    return script


def without_addresses(output: bytes) -> str:
    return re.sub(" at 0x[0-9a-f]+", "", output.decode(errors="backslashreplace"))


@pytest.mark.parametrize("first", ["", "import torch\n"], ids=["", "with torch"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_ends_as_under_plain_python(
    agent: Spawner, tmp_path: Path, torch: str, name: str, first: str
) -> None:
    script = program(tmp_path, name)
    script.write_text(first + script.read_text())
    status, output = plain_python(script.name, cwd=tmp_path, output=tmp_path / "plain.out", PYTHONPATH=torch)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.txt")}
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    worker = agent.run(script.name, cwd=str(tmp_path))
    assert without_addresses(worker.output) == without_addresses(output)
    assert worker.status == status
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.txt")} == files


def without_runpy(output: bytes) -> str:
    return re.sub(r'  File "[^"]*runpy(\.py|>)", .*\n(    .*\n)?', "", output.decode())


@pytest.mark.parametrize("name", ["chained", "syntax error", "context through import", "exit code"])
def test_module_ends_as_under_plain_python_less_the_frames_of_runpy(
    agent: Spawner, tmp_path: Path, name: str
) -> None:
    script = program(tmp_path, name)
    status, output = plain_python("-m", script.stem, cwd=tmp_path, output=tmp_path / "plain.out")
    worker = agent.run(script.stem, kind="module", cwd=str(tmp_path))
    assert worker.status == status
    expected = without_runpy(output)
    if name == "syntax error":
        expected = expected.replace("Traceback (most recent call last):\n", "")
        expected = re.sub('  File "<frozen.*\n', "", expected)
    assert worker.text == expected


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("script", "missing.py"),
        ("module", "no_such_module"),
        ("module", "no_such_package.module"),
        ("module", "empty_package"),
        ("module", "os.path.no"),
    ],
)
def test_missing_program_is_refused_in_pythons_words(
    agent: Spawner, tmp_path: Path, kind: str, target: str
) -> None:
    (tmp_path / "empty_package").mkdir()
    (tmp_path / "empty_package" / "__init__.py").write_text("")
    command = ["-m", target] if kind == "module" else [target]
    status, output = plain_python(*command, cwd=tmp_path, output=tmp_path / "plain.out")
    worker = agent.run(target, kind=kind, cwd=str(tmp_path))
    assert worker.status == status
    assert worker.text == output.decode()


def test_output_of_a_program_appears_line_by_line(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import time\nprint('a line')\ntime.sleep(600)\n")
    worker = agent.start(script)
    agent.read_until(worker, "a line\n")
    agent.signal(worker, 9)
    assert agent.wait(worker).status == -9


def test_ranks_draw_different_random_numbers_unless_seeded(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import random, uuid, torch, multiprocessing, tempfile\nimport numpy as np\n"
        "print(random.random(), np.random.rand(), np.random.default_rng().random(), uuid.uuid4().hex,\n"
        "      multiprocessing.current_process().authkey.hex(), torch.rand(1).item(), torch.initial_seed())\n"
    )
    with spawner("warm", tmp_path) as agent:
        workers = [agent.start(script, wait=False) for _ in range(3)]
        outputs = [agent.wait(worker).text.splitlines() for worker in workers]
    for column in zip(*(output[0].split() for output in outputs), strict=True):
        assert len(set(column)) == 3, column


def test_variable_that_is_read_at_start_is_honoured(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys\nprint(hash('a'), sys.flags.hash_randomization)\n")
    workers = [agent.run(script, env={"PYTHONHASHSEED": "0"}) for _ in range(2)]
    assert workers[0].text == workers[1].text
    assert workers[0].started is not None
    assert workers[0].started["start"] == "cold"


def test_umask_of_the_agent_is_kept(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import os\nprint(os.umask(0))\n")
    mask = os.umask(0o22)
    os.umask(mask)
    assert agent.run(script).text == f"{mask}\n"


def test_status_that_is_too_large_is_255(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import torch, sys\nsys.exit(2**70)\n")
    assert agent.run("program.py", cwd=str(tmp_path)).status == 255
