"""From the words after `swarmtrain run` to the job that they ask for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import pytest

from swarmtrain.errors import RequestError
from swarmtrain.job import LoadedJob, Restart
from swarmtrain.ui import job_options


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("SWARMTRAIN_ON", "SWARMTRAIN_NODES", "SWARMTRAIN_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "never.yaml").write_text("script: train.py\nrestart: never\n")
    (tmp_path / "job.yaml").write_text("script: train.py\nargs: [1, 2]\nnodes: 2\n")


def asked(line: str) -> LoadedJob:
    """The job of a command line."""
    found: list[LoadedJob] = []

    @click.command(
        cls=job_options.JobCommand,
        context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
    )
    @job_options.job_options
    def command(**flags: Any) -> None:
        found.append(job_options.load_job(**flags))

    command.main(line.split(), standalone_mode=False)
    return found[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train.py", {"script": "train.py", "args": (), "nodes": 1}),
        ("train.py 20 5 --batch_size 64", {"args": ("20", "5", "--batch_size", "64")}),
        ("-j 3x1 train.py 20 5", {"nodes": 3, "workers_per_node": 1, "args": ("20", "5")}),
        ("train.py --nodes 2", {"nodes": 1, "args": ("--nodes", "2")}),
        ("--nodes 2 train.py --nodes 7 -- tail", {"nodes": 2, "args": ("--nodes", "7", "--", "tail")}),
        ("train.py --lr 1 -- tail", {"script": "train.py", "args": ("--lr", "1", "--", "tail")}),
        ("-j 2..3 -- train.py --lr 1", {"script": "train.py", "nodes": "2..3", "args": ("--lr", "1")}),
        ("--nnodes 2:4 --nproc_per_node 2 train.py", {"nodes": "2..4", "workers_per_node": 2}),
        ("--nproc-per-node=gpu --nnodes=3 train.py", {"nodes": 3, "workers_per_node": "auto"}),
        ("--nodes a,b train.py", {"nodes": ("a", "b")}),
        ("--nproc-per-node=cpu train.py", {"workers_per_node": "cpu"}),
        ("-m pkg.train 20 --x", {"module": "pkg.train", "args": ("20", "--x")}),
        (
            "--name one -m pkg.train --lr 1 --name two -j 4x4 -- x",
            {
                "name": "one",
                "nodes": 1,
                "module": "pkg.train",
                "args": ("--lr", "1", "--name", "two", "-j", "4x4", "--", "x"),
            },
        ),
        ("--module --nnodes 2 pkg.train -h", {"module": "pkg.train", "nodes": 2, "args": ("-h",)}),
        ("--no-python ./run.sh --fast", {"command": ("./run.sh", "--fast"), "args": ()}),
        ("--no-python -- ./run.sh --fast", {"command": ("./run.sh", "--fast"), "args": ()}),
        ("--no-python ./run.sh -- --fast", {"command": ("./run.sh", "--", "--fast"), "args": ()}),
        ("-f job.yaml", {"script": "train.py", "args": ("1", "2"), "nodes": 2}),
        ("job.yaml", {"script": "train.py", "args": ("1", "2"), "nodes": 2}),
        ("-f job.yaml -- 20 5", {"args": ("20", "5"), "nodes": 2}),
        ("-f job.yaml --nodes 3 train.py", {"nodes": 3, "args": ("1", "2")}),
        ("job.yaml 20 5", {"args": ("20", "5")}),
        (
            "--nodes 3 job.yaml --nodes 4 --debug -- 7 -- 8",
            {"nodes": 4, "debug": True, "args": ("7", "--", "8")},
        ),
        ("-e A=1 -e B=x=y train.py", {"env": {"A": "1", "B": "x=y"}}),
        ("-v /data:/data:ro --volume c:/c train.py", {"volumes": ("/data:/data:ro", "c:/c")}),
        ("--shm-size 8g --join_deadline 10m train.py", {"shm_size": 8 << 30, "join_deadline": 600.0}),
        ("--linger 10m train.py", {"linger": 600.0}),
        ("--debug --memlock --backend gloo train.py", {"debug": True, "memlock": True, "backend": "gloo"}),
        ("--timeout 90s --start cold train.py", {"timeout": 90.0, "start": "cold"}),
        ("--set stop_grace=30s --set debug=true train.py", {"stop_grace": 30.0, "debug": True}),
        (
            "--set args=[--lr,1e-3] --set env.V=1.10 train.py",
            {"args": ("--lr", "1e-3"), "env": {"V": "1.10"}},
        ),
        ("--restart never train.py", {"restart": Restart(max=0)}),
        ("--max_restarts=3 --restart-window 1d train.py", {"restart": Restart(max=3, window=86400.0)}),
        (
            "--restart never --hang-timeout 5m --node-timeout 1h train.py",
            {"restart": Restart(max=0, hang_timeout=300.0, node_timeout=3600.0)},
        ),
        (
            "--set restart.max=3 --set restart.hang_timeout=off train.py",
            {"restart": Restart(max=3, hang_timeout="off")},
        ),
        ("--max-restarts 0 -f never.yaml", {"restart": Restart(max=0)}),
        ("--max-restarts 3 -f never.yaml", {"restart": Restart(max=3)}),
        ("--restart auto -f never.yaml", {"restart": Restart()}),
        (
            "--name fit --image a/b:1 --network host train.py",
            {"name": "fit", "image": "a/b:1", "network": "host"},
        ),
    ],
)
def test_words_become_a_job(line: str, expected: dict[str, object]) -> None:
    job = asked(line).job
    assert {key: getattr(job, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("line", "again"),
    [
        ("train.py 20 --x=1", "train.py 20 --x=1"),
        ("-j 3x1 --debug train.py --nodes 2", "-j 3x1 --debug train.py --nodes 2"),
        ("--nodes 2 train.py --nodes 7 -- tail", "--nodes 2 train.py --nodes 7 -- tail"),
        ("job.yaml --nodes 2 -- --nodes 7", "--nodes 2 job.yaml -- --nodes 7"),
        ("-f job.yaml --shm_size=8g", "--file job.yaml --shm-size 8g"),
        ("--max-restarts 0 --hang-timeout off train.py", "--max-restarts 0 --hang-timeout off train.py"),
        ("--no-python -- ./run.sh --fast", "--no-python -- ./run.sh --fast"),
        ("-v /a:/a -m -v /b:/b pkg.train -v", "--module --volume /a:/a --volume /b:/b pkg.train -v"),
        ("-r 3 --nnodes=2 --rdzv_id=7 train.py", "--rdzv-id 7 --redirects 3 --nnodes 2 train.py"),
        (
            """-e HOME=secret --set env.PATH=secret --set env={"A":"secret"} train.py""",
            "--env HOME --env PATH train.py",
        ),
    ],
)
def test_a_job_keeps_the_words_that_ask_for_it_again_without_its_variables_values(
    line: str, again: str
) -> None:
    first = asked(line)
    assert " ".join(first.words) == again
    assert asked(again).words == first.words
    if "secret" not in line:
        assert asked(again).job == first.job


def test_resources_come_together_from_their_flags() -> None:
    resources = asked("--gpus 2 --cpus 1.5 --memory 4g --gpu-kind NVIDIA-GPU train.py").job.resources
    assert (resources.gpus, resources.cpus, resources.memory) == (2, 1.5, 4 << 30)
    assert resources.gpu_kind == "NVIDIA-GPU"


@pytest.mark.parametrize("line", ["train.py", "-f job.yaml"])
def test_a_default_job_file_is_read_where_there_is_one(line: str, tmp_path: Path) -> None:
    (tmp_path / "swarmtrain.yaml").write_text("script: train.py\nnodes: 4\n")
    assert asked(line).job.nodes == (4 if line == "train.py" else 2)


@pytest.mark.parametrize(
    "line",
    [
        *("-j 3 train.py", "--gpus two train.py", "--set x train.py", "--set a=[ train.py"),
        *("--max-restarts many train.py", "--restart often train.py", "--hang-timeout soon train.py"),
        *("--max-restarts 3 --restart never train.py", "--no-python", "--module"),
        *(
            "--rdzv-conf=soon train.py",
            "--rdzv-conf=join_timeout=soon train.py",
            "--shutdown-timeout=x train.py",
        ),
    ],
)
def test_a_wrong_flag_is_named(line: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(line)
    assert line.split()[0].partition("=")[0] in caught.value.message


def test_every_flag_of_the_job_is_offered() -> None:
    from swarmtrain.job.flags import FLAGS

    offered = {parameter.name for parameter in job_options._parameters()}
    assert set(FLAGS) - {"script", "command", "args"} <= offered


# torch 2.13, torch/distributed/run.py
TORCHRUN = [
    *(
        "--nnodes=2:3",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=host:29400",
        "--rdzv-id=7",
    ),
    *(
        "--rdzv-conf=join_timeout=90,read_timeout=30",
        "--standalone",
        "--max-restarts=3",
        "--monitor-interval=0.1",
    ),
    *(
        "--start-method=spawn",
        "--event-log-handler=console",
        "--role=trainer",
        "--run-path",
        "--log-dir=/tmp/x",
    ),
    *("--redirects=3", "--tee=3", "--local-ranks-filter=0", "--duplicate-stdout-filters=a", "--node-rank=1"),
    *(
        "--duplicate-stderr-filters=b",
        "--master-addr=10.0.0.1",
        "--master-port=29500",
        "--local-addr=10.0.0.2",
    ),
    *("--logs-specs=x", "--numa-binding=node", "--signals-to-handle=SIGTERM", "--shutdown-timeout=20"),
    "--virtual-local-rank",
]


def underscored(word: str) -> str:
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


@pytest.mark.parametrize(
    "flags",
    [
        TORCHRUN,
        [part for word in TORCHRUN for part in word.split("=", 1)],
        list(map(underscored, TORCHRUN)),
        [*(word for word in TORCHRUN if word not in ("--redirects=3", "--tee=3")), "-r", "3", "-t", "3"],
    ],
)
def test_a_command_line_of_torchrun_works_with_one_word_exchanged(flags: list[str]) -> None:
    loaded = asked(" ".join([*flags, "train.py", "--rdzv-id", "mine", "--lr", "1e-3"]))
    job = loaded.job
    assert (job.nodes, job.workers_per_node, job.restart.max) == ("2..3", 2, 3)
    assert (job.join_deadline, job.stop_grace) == (90.0, 20.0)
    assert job.args == ("--rdzv-id", "mine", "--lr", "1e-3")
    said = [notice for notice in loaded.notices if "ignored, since" in notice]
    assert len(said) == len({notice.partition(": ")[2] for notice in said}), "a reason is said once"
    assert said[0].startswith("--standalone, --rdzv-backend, --rdzv-endpoint, --rdzv-id, --node-rank, ")
    taken = {"--nnodes", "--nproc-per-node", "--max-restarts", "--rdzv-conf", "--shutdown-timeout"}
    ignored = {flag for notice in said for flag in notice.partition(": ")[0].split(", ")}
    assert ignored == {word.partition("=")[0] for word in TORCHRUN} - taken


def test_a_torchrun_flag_that_was_not_given_is_not_spoken_of() -> None:
    assert not [notice for notice in asked("--nnodes 2 train.py").notices if "ignored" in notice]


@pytest.mark.parametrize(
    ("words", "completes"),
    [
        (["--nod"], ["--nodes", "--node-timeout"]),
        (["--rdzv"], []),
        (["-j", "2x1", "train.py", "--nod"], ["--nod"]),  # a file, to the shell
        (["-m", "pkg.train", "--nod"], ["--nod"]),
        (["-j", "2x1", "tr"], ["tr"]),
    ],
)
def test_the_shell_completes_our_options_before_the_script_only(
    words: list[str], completes: list[str]
) -> None:
    from click.shell_completion import ShellComplete

    from swarmtrain.ui.commands.run import run

    found = ShellComplete(run, {}, "run", "_X").get_completions(words[:-1], words[-1])
    assert [each.value for each in found] == completes
    if completes == [words[-1]]:
        assert [each.type for each in found] == ["file"]


def test_the_command_line_reads_no_job_before_it_is_asked_to() -> None:
    import subprocess

    code = (
        "import sys, swarmtrain.ui.cli as c\n"
        "try: c.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'ruamel', 'torch', 'numpy', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("-j 3x2", {"nodes": "2"}, {"nodes": 2, "workers_per_node": 2}),
        ("-j 2..4x2", {"nproc_per_node": "1"}, {"nodes": "2..4", "workers_per_node": 1}),
        ("--nnodes 2:4 --nproc-per-node 2", {"j": "1x1"}, {"nodes": 1, "workers_per_node": 1}),
        ("--nodes 3 --timeout 5m", {"nnodes": "1:2"}, {"nodes": "1..2", "timeout": 300.0}),
        ("--no-files", {"files": ("*.py",)}, {"files": ("*.py",)}),
        ("-e A=1 -e B=2", {"env": ("B=3", "C=4")}, {"env": {"A": "1", "B": "3", "C": "4"}}),
        ("--set nodes=3 --set debug=true", {"settings": ("nodes=2",)}, {"nodes": 2, "debug": True}),
        ("-j 3x2", {"debug": True}, {"nodes": 3, "workers_per_node": 2, "debug": True}),
    ],
)
def test_what_is_said_anew_wins_over_what_was_said_before_in_whatever_spelling(
    before: str, now: dict[str, Any], expected: dict[str, Any]
) -> None:
    command = job_options.JobCommand("run", params=job_options._parameters(), callback=lambda **_: None)
    nothing: dict[str, Any] = command.make_context("run", []).params
    job = job_options.load_job(
        **job_options.as_before(command, [*before.split(), "train.py", "7"], nothing | now)
    ).job
    assert {name: getattr(job, name) for name in expected} == expected
    assert (job.script, job.args) == ("train.py", ("7",))
