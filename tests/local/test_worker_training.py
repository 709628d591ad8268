"""Training scripts that know nothing of swarmtrain, as warm and as cold workers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_harness import SCRIPTS, Spawner, Worker, free_port, rank_env, spawner


@pytest.fixture(scope="module", params=["warm", pytest.param("cold", marks=pytest.mark.long)])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with spawner(request.param, tmp_path_factory.mktemp("spawner")) as running:
        yield running


def train(agent: Spawner, script: str, world_size: int = 2, **env: str) -> list[Worker]:
    port = free_port()
    workers = [
        agent.start(SCRIPTS / script, env={**rank_env(rank, world_size, port), **env}, wait=False)
        for rank in range(world_size)
    ]
    for worker in workers:
        assert agent.wait(worker).status == 0, worker.text
    return workers


def test_two_ranks_train_one_model(agent: Spawner) -> None:
    workers = train(agent, "ddp.py")
    found = [re.search(r"rank (\d) of 2 on \1: (.*)", worker.text) for worker in workers]
    assert [match and match[1] for match in found] == ["0", "1"]
    assert len({match[2] for match in found if match}) == 1
    for worker in workers:
        line, step = (float(re.findall(f"first {what} (.*)", worker.text)[0]) for what in ("line", "step"))
        print(f"{agent.mode}: first line {line - worker.asked:.3f} s, first step {step - worker.asked:.3f} s")


def test_sharded_model_trains(agent: Spawner) -> None:
    first, second = train(agent, "shard.py")
    assert first.text == second.text
    assert len(re.findall("step . loss", first.text)) == 3


@pytest.mark.parametrize(
    ("kind", "method"),
    [("script", "fork"), ("script", "spawn"), ("script", "forkserver"), ("module", "spawn")],
)
def test_children_of_every_start_method_find_the_program(agent: Spawner, kind: str, method: str) -> None:
    script = agent.run("children.py" if kind == "script" else "children", method, kind=kind, cwd=str(SCRIPTS))
    assert script.text.splitlines() == [
        "loader [[0, 1, 4, 9], [16, 25, 36, 49]]",
        "pool [4, 9]",
        "process True",
        "pickle True 0",
    ]
    assert script.status == 0


def test_children_find_the_program_from_another_directory(agent: Spawner, tmp_path: Path) -> None:
    (tmp_path / "code").symlink_to(SCRIPTS)
    worker = agent.run("code/children.py", "spawn", cwd=str(tmp_path))
    assert worker.text.endswith("pickle True 0\n")


SAVES_WHEN_ASKED = """
import signal, time, torch
from torch.utils.data import DataLoader
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
for step, batch in enumerate(DataLoader(torch.arange(10.0).repeat(10_000), batch_size=4, num_workers=2)):
    time.sleep(0.02)
    if step == 10:
        print("running")
    if asked:
        asked.append(step)
    if len(asked) > 20:
        print("saved")
        break
"""


def test_script_that_saves_when_it_is_asked_to_end_keeps_its_loader_workers(
    agent: Spawner, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(SAVES_WHEN_ASKED)
    worker = agent.start(script)
    agent.read_until(worker, "running")
    agent.stop(worker, 60.0)
    assert agent.wait(worker).status == 0, worker.text
    assert worker.text == "running\nsaved\n"


TIMEOUT = """
import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_timeout
print(_get_default_timeout("gloo").total_seconds())
dist.init_process_group("gloo")
print(dist.distributed_c10d._get_default_group()._get_backend(__import__("torch").device("cpu")).options._timeout.total_seconds())
"""


def test_default_timeout_of_process_groups_is_the_jobs(agent: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(TIMEOUT)
    env = rank_env(0, 1, free_port())
    assert agent.run(script, env={**env, "SWARMTRAIN_TIMEOUT": "77.5"}).text == "77.5\n77.5\n"
    assert agent.run(script, env=env).text == "1800.0\n1800.0\n"


def test_script_without_torch_does_not_import_it_because_of_us(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys\nprint('torch' in sys.modules, len(sys.meta_path))\n")
    with spawner("cold", tmp_path) as agent:
        assert agent.run(script, env={"SWARMTRAIN_TIMEOUT": "5"}).text.startswith("False")


RECORD = """
import sys
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError("recorded: ü")

main()
"""


def error_of(agent: Spawner, tmp_path: Path, program: str) -> dict[str, object] | None:
    script = tmp_path / "program.py"
    script.write_text(program)
    file = tmp_path / "error.json"
    agent.run(script, env={"TORCHELASTIC_ERROR_FILE": str(file)})
    assert not list(tmp_path.glob("error.json.*"))
    return json.loads(file.read_text())["message"] if file.exists() else None


def test_uncaught_exception_is_in_the_error_file_as_record_writes_it(agent: Spawner, tmp_path: Path) -> None:
    ours = error_of(agent, tmp_path, "def main():\n    raise ValueError('plain: ü')\n\nmain()\n")
    (tmp_path / "error.json").unlink()
    recorded = error_of(agent, tmp_path, RECORD)
    assert ours is not None and recorded is not None
    assert ours["message"] == "ValueError: plain: ü"
    assert recorded["message"] == "ValueError: recorded: ü"
    assert ours.keys() == recorded.keys()
    details, recorded_details = ours["extraInfo"], recorded["extraInfo"]
    assert isinstance(details, dict) and isinstance(recorded_details, dict)
    assert details.keys() == recorded_details.keys()
    assert abs(float(details["timestamp"]) - time.time()) < 600
    lines = details["py_callstack"].splitlines()[1:]
    assert [line for line in lines if line.strip(" ~^")] == [
        f'  File "{tmp_path}/program.py", line 4, in <module>',
        "    main()",
        f'  File "{tmp_path}/program.py", line 2, in main',
        "    raise ValueError('plain: ü')",
        "ValueError: plain: ü",
    ]
    # What @record wrote begins with its own wrapper: it was not written again by us.
    assert "wrapper" in recorded_details["py_callstack"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("x = = 1", "SyntaxError: invalid syntax (program.py, line 1)"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit(3)", None),
        ("import sys; sys.exit('no data in /data')", "no data in /data"),
        ("import sys; sys.exit(OSError('the disk'))", "the disk"),
        ("raise KeyboardInterrupt", None),
        ("print('well')", None),
        ("class E(Exception):\n    def __str__(self):\n        1/0\nraise E", "E: <its __str__ failed>"),
    ],
)
def test_error_file_tells_of_exceptions_and_last_words_only(
    agent: Spawner, tmp_path: Path, program: str, message: str | None
) -> None:
    error = error_of(agent, tmp_path, program)
    assert (error and error["message"]) == message
