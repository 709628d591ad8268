"""What workers write is in their files, whole and in order; commands run; what cannot start says so."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import Spawner, spawner


@pytest.fixture(scope="module", params=["warm", "cold"])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


def write(tmp_path: Path, text: str) -> Path:
    script = tmp_path / "program.py"
    script.write_text(text)
    return script


def test_long_lines_and_any_bytes_arrive_intact(agent: Spawner, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "import os, sys\n"
        "print('x' * 65536)\n"
        "sys.stdout.buffer.write(bytes(range(256)) + b'\\n')\n"
        "sys.stdout.flush()\n"
        "os.write(1, b'\\xff\\xfe\\n')\n"
        "os.write(2, b'\\x00no newline')\n",
    )
    worker = agent.run(script)
    assert worker.output == b"x" * 65536 + b"\n" + bytes(range(256)) + b"\n\xff\xfe\n\x00no newline"


def test_both_streams_and_children_keep_their_order(agent: Spawner, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "import os, subprocess, sys\n"
        "for i in range(20):\n"
        "    print(f'out {i}')\n"
        "    print(f'err {i}', file=sys.stderr)\n"
        "    os.system(f'echo child {i}')\n"
        "    subprocess.run(['echo', 'run', str(i)])\n",
    )
    expected = [f"{what} {i}" for i in range(20) for what in ("out", "err", "child", "run")]
    assert agent.run(script).text.splitlines() == expected


def test_output_until_a_kill_is_kept(agent: Spawner, tmp_path: Path) -> None:
    script = write(tmp_path, "for i in range(10**9):\n    print('line', i)\n")
    worker = agent.start(script)
    agent.read_until(worker, "line 1000\n")
    agent.signal(worker, signal.SIGKILL)
    agent.wait(worker)
    lines = worker.text.splitlines()
    assert lines[:-1] == [f"line {i}" for i in range(len(lines) - 1)]


def test_output_is_appended_to_what_is_there(agent: Spawner, tmp_path: Path) -> None:
    output = tmp_path / "some.out"
    output.write_text("before\n")
    worker = agent.start(write(tmp_path, "print('after')"), output=str(output))
    worker.output_file = output
    assert agent.wait(worker).text == "before\nafter\n"


def test_command_runs_with_the_workers_environment(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "my-command"
    command.write_text(
        '#!/bin/sh\necho "$0 $1 $RANK" $PWD $PYTHONPATH $SWARMTRAIN_SPAWNER_FD\nreadlink /proc/$$/fd/0\nexit 7\n'
    )
    command.chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RANK": "5", "PYTHONPATH": "/theirs"}
    worker = agent.run(
        "my-command", "an argument", kind="command", cwd=str(tmp_path), env=env, path=["/ours"]
    )
    assert worker.text == f"{command} an argument 5 {tmp_path} /ours:/theirs\n/dev/null\n"
    assert worker.status == 7
    by_path = agent.run("bin/my-command", kind="command", cwd=str(tmp_path), env=env)
    assert by_path.text.startswith("bin/my-command  5")
    python = agent.run(sys.executable, "-c", "import os; os.kill(os.getpid(), 15)", kind="command")
    assert python.status == -15


def test_command_gets_default_signals_and_no_files(agent: Spawner) -> None:
    status = agent.run("cat", "/proc/self/status", kind="command").text
    reserved = 0b11 << 31  # signals 32 and 33 are the C library's own: no program may change what it inherits
    assert {int(mask, 16) & ~reserved for mask in re.findall("Sig(?:Blk|Ign|Cgt):\t(.*)", status)} == {0}
    # 3 is ls's own
    assert agent.run("ls", "/proc/self/fd", kind="command").text.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            # On a PATH with a directory that may not be read, the system says "permission denied" of it.
            {"target": "no-such-command", "kind": "command", "env": {"PATH": "/usr/bin:/bin"}},
            "No such file or directory: 'no-such-command'",
        ),
        ({"target": "/etc/passwd", "kind": "command"}, "Permission denied: '/etc/passwd'"),
        ({"target": "program.py", "cwd": "/no/such/directory"}, "/no/such/directory is no directory"),
        ({"target": "ls", "kind": "command", "env": {"A=B": "c"}}, "illegal environment variable name"),
    ],
)
def test_what_cannot_start_says_why_to_the_agent_and_in_the_output(
    agent: Spawner, fields: dict[str, object], reason: str
) -> None:
    worker = agent.run(**fields)  # type: ignore[arg-type]
    assert worker.failed is not None
    assert reason in worker.failed["error"]
    assert worker.text == f"swarmtrain: cannot start this worker: {worker.failed['error']}\n"
    assert worker.started is None and worker.exited is None


def test_output_that_cannot_be_opened_fails_and_the_spawner_goes_on(agent: Spawner, tmp_path: Path) -> None:
    script = write(tmp_path, "print('fine')")
    worker = agent.start(script, output="/no/such/directory/a.out")
    assert worker.failed is not None
    assert "/no/such/directory/a.out" in worker.failed["error"]
    assert agent.run(script).text == "fine\n"


def test_key_is_free_again_after_the_end(agent: Spawner, tmp_path: Path) -> None:
    script = write(tmp_path, "import time\nprint('once')\ntime.sleep(600)\n")
    first = agent.start(script, key="same")
    agent.read_until(first, "once")
    agent.send(
        spawn={"key": "same", "kind": "script", "target": str(script), "cwd": "/", "output": "/dev/null"}
    )
    agent.until(lambda: first.failed is not None)
    first.failed = None
    agent.signal(first, signal.SIGKILL)
    agent.wait(first)
    second = agent.start(script, key="same")
    agent.signal(second, signal.SIGKILL)
    assert agent.wait(second).status == -signal.SIGKILL


def test_many_requests_at_once_are_all_served(agent: Spawner, tmp_path: Path) -> None:
    script = write(tmp_path, "import os\nprint(os.environ['RANK'], len(os.environ['LONG']))\n")
    env = {"LONG": "x" * 100_000}
    workers = [agent.start(script, env={**env, "RANK": str(rank)}, wait=False) for rank in range(16)]
    assert [agent.wait(worker).text for worker in workers] == [f"{rank} 100000\n" for rank in range(16)]


def test_warm_parent_without_torch_goes_on_cold(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libfancy.so: cannot open')\n")
    with spawner("warm", tmp_path, PYTHONPATH=str(tmp_path)) as agent:
        assert agent.ready["torch"] is None
        assert agent.ready["error"] == "ImportError: libfancy.so: cannot open"
        worker = agent.run(write(tmp_path, "print('cold')\nimport torch\n"))
        assert worker.started is not None
        assert (worker.started["start"], worker.started["why"]) == ("cold", agent.ready["error"])
        assert worker.text.startswith("cold\nTraceback")
        assert worker.status == 1


def test_warm_parent_that_has_touched_a_device_forks_no_workers(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "class cuda:\n    is_initialized = staticmethod(lambda: True)\n__version__ = '2.9'\nprint('hello')\n"
    )
    with spawner("warm", tmp_path, PYTHONPATH=str(tmp_path)) as agent:
        assert agent.ready["torch"] is None
        assert agent.ready["error"].endswith("importing torch has initialised CUDA")
        worker = agent.run(write(tmp_path, "import torch\nprint(torch.__version__)\n"))
        assert worker.started is not None
        assert worker.started["start"] == "cold"
        assert worker.text == "hello\n2.9\n"


def test_warm_parent_says_which_torch_and_how_long(tmp_path: Path) -> None:
    import torch

    with spawner("warm", tmp_path) as agent:
        assert agent.ready["torch"] == torch.__version__
        assert agent.ready["error"] is None
        assert 0 < agent.ready["seconds"] < 120
