"""The command line as strings and exit codes, on runs that a fake launcher keeps."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from client_fakes import FakeLauncher, Receive, fixed, status, told

from swarmtrain.control import places
from swarmtrain.control.handle import RunHandle
from swarmtrain.control.places import Places
from swarmtrain.job import Job, LoadedJob
from swarmtrain.job.load import DEFAULT_FILE
from swarmtrain.job.origin import Origin
from swarmtrain.ui import terminal
from swarmtrain.ui.cli import COMMANDS, cli
from swarmtrain.ui.commands import start
from swarmtrain.wire.run_spec import Resumption

Run = Callable[..., Result]

OUTPUT = {"lines": [[1000.0, 1, 0, "lab-1", "hello"], [1001.0, 1, 1, "lab-2", "caf\udcff"]]}
EVENT = {"seq": 1, "t": 1000.0, "kind": "submitted", "text": "digits.1 submitted"}


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    ended = status(state="succeeded", step=9)
    fake = FakeLauncher(
        digits_1=fixed(
            status(), logs=told(OUTPUT, {"done": {}}), events=told({"event": EVENT}, {"done": {}})
        ),
        other_2=fixed({**ended, "run": "other.2"}, events=told({"event": EVENT}, {"done": {}})),
    )
    monkeypatch.setattr(Places, "open", lambda self, name: fake)
    monkeypatch.setattr(places, "LAUNCHERS", ("local",))
    return fake


@pytest.fixture
def run(launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARMTRAIN_ON", raising=False)
    yield lambda *words: CliRunner().invoke(cli, words, prog_name="swarmtrain")


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_teaches_with_an_example(run: Run) -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert "swarmtrain run --on local -j 3x1 train.py" in shown.stdout
    assert all(name in shown.stdout for name in COMMANDS)


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    assert run().stdout == run("--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(run: Run, name: str) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None and command.get_short_help_str(200) == COMMANDS[name].help
    assert run(name, "--help").exit_code == 0


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_ps_lists_live_runs_and_with_a_all_of_them(run: Run) -> None:
    shown = run("ps").stdout.splitlines()
    assert shown[0].split() == ["RUN", "STATE", "RESTARTS", "ON", "RANKS", "STEP", "LOSS", "AGE", "TOOK"]
    assert [line.split()[0] for line in shown[1:]] == ["digits.1"]
    assert "other.2" in run("ps", "-a").stdout


def test_ps_as_json_is_one_document(run: Run) -> None:
    found = json.loads(run("ps", "-a", "--json").stdout)
    assert [(each["run"], each["state"], each["on"]) for each in found] == [
        ("digits.1", "running", "local"),
        ("other.2", "succeeded", "local"),
    ]


def test_a_run_that_does_not_answer_is_unreachable(run: Run, launcher: FakeLauncher) -> None:
    del launcher.coordinators["digits.1"]
    assert run("ps").stdout.splitlines()[1].split()[:2] == ["digits.1", "unreachable"]
    assert json.loads(run("ps", "--json").stdout)[0]["state"] == "unreachable"


def test_a_run_that_nobody_understands_hides_no_other(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["digits.1"] = fixed({"run": 1})
    assert [line.split()[:2] for line in run("ps", "-a").stdout.splitlines()[1:]] == [
        ["digits.1", "unreachable"],
        ["other.2", "succeeded"],
    ]


def test_a_list_of_runs_starts_no_coordinator_to_ask_it(run: Run, launcher: FakeLauncher) -> None:
    """What rests is read where it lies; of what lies elsewhere it is said that it has ended, and how to learn more."""
    launcher.kept = [dataclasses.replace(each, live=False, rests=True) for each in launcher.kept]
    launcher.coordinators.clear()
    launcher.documents["digits.1"] = status(state="failed", restarts=2)
    shown = run("ps", "-a")
    assert [line.split()[:3] for line in shown.stdout.splitlines()[1:]] == [
        ["digits.1", "failed", "2"],
        ["other.2", "ended", "-"],
    ]
    assert shown.stderr == "`swarmtrain status other.2` starts its coordinator again, to ask how it ended\n"
    assert [each["state"] for each in json.loads(run("ps", "-a", "--json").stdout)] == ["failed", "ended"]
    assert run("ps").stderr == "no run is live; -a shows those that ended\n"
    assert {call[0] for call in launcher.calls} == {"left"}


def test_no_run_is_said_in_words_and_not_as_data(run: Run, launcher: FakeLauncher) -> None:
    launcher.kept.clear()
    shown = run("ps", "-a")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "no run is kept\n")


def test_status_shows_nodes_and_ranks(run: Run) -> None:
    shown = run("status", "digits").stdout
    assert shown.startswith("digits.1 is running: generation 1, 2 ranks")
    assert "lab-2  running  1      10.0.0.3  eth0       0" in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())
    assert json.loads(run("status", "digits", "--json").stdout)["world_size"] == 2


def test_status_says_how_far_a_training_is_and_how_long_the_rest_takes(
    run: Run, launcher: FakeLauncher
) -> None:
    # ten steps a second
    points = [[0, 1000.0 - 10 * ago, 100 - 100 * ago, 1, 1, 1, 1, 1, 0] for ago in (1, 0)]
    told: dict[str, dict[str, Any]] = {
        "train/total_steps": {"value": 300.0},
        "train/step_seconds": {"value": 0.1, "points": points},
    }

    def series(request: dict[str, Any], receive: Receive) -> Iterator[dict[str, Any]]:
        for name in [each for each in request["names"] if each in told]:
            yield {"series": {"name": name, "labels": {"rank": "0"}, **told[name]}}
        yield {"done": {}}

    launcher.coordinators["digits.1"] = fixed(status(step=100), series=series)
    assert "\n33 % is done: step 100 of 300, about 20 s left\n" in run("status", "digits").stdout
    shown = json.loads(run("status", "digits", "--json").stdout)
    assert (shown["step"], shown["progress"]["seconds_left"]) == (100, 20.0)
    launcher.coordinators["digits.1"] = fixed(status(state="succeeded", step=300), series=series)
    assert "is done" not in run("status", "digits").stdout  # of what has ended, the state says it


def test_a_run_that_was_given_up_before_it_began_has_failed(run: Run, launcher: FakeLauncher) -> None:
    launcher.kept = [dataclasses.replace(launcher.kept[0], live=False)]
    launcher.coordinators.clear()
    launcher.troubles = "lab-1 and lab-2 have no image me:1"
    assert run("ps", "-a").stdout.splitlines()[1].split()[:2] == ["digits.1", "failed"]
    shown = run("status", "digits").stdout
    assert shown.startswith("digits.1 failed\n")
    assert shown.count("have no image") == 1
    waited = run("wait", "digits")
    assert (waited.exit_code, waited.stderr) == (1, f"error: digits.1 failed: {launcher.troubles}\n")


def test_a_failure_is_told_once(run: Run, launcher: FakeLauncher) -> None:
    cause = {"rank": 1, "node": "lab-2", "summary": "ValueError: bad\ndata", "traceback": "Traceback (...)\n"}
    reason = "rank 1 on lab-2: ValueError: bad\ndata"
    launcher.coordinators["digits.1"] = fixed(status(state="failed", reason=reason, cause=cause))
    shown = run("status", "digits").stdout
    assert shown.count("ValueError: bad / data") == 1 and shown.count("ValueError") == 1


def test_wait_gives_the_runs_own_exit_code(run: Run, launcher: FakeLauncher) -> None:
    assert run("wait", "other").exit_code == 0
    launcher.coordinators["other.2"] = fixed(status("other.2", "failed", reason="no reason"))
    shown = run("wait", "other")
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr == (
        "error: other.2 failed: no reason\n\nhint: swarmtrain logs other.2 has the whole output\n"
    )
    launcher.coordinators["other.2"] = fixed(status("other.2", "stopped"))
    assert run("wait", "other", "--json").exit_code == 4


HEALED: dict[str, Any] = {
    "restarts": 1,
    "lost_seconds": 2.1,
    "lost_steps": 2,
    "recoveries": [
        {
            "t": 1005.0,
            "text": "rank 1 on lab-2: killed by SIGKILL at step 12; continued on 2 nodes from step 10 after 2.1 s",
            "seconds": 2.1,
            "planned": False,
        }
    ],
    "healing": None,
}


def test_a_run_that_was_healed_has_succeeded_and_says_what_it_cost(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["other.2"] = fixed(status("other.2", "succeeded", **HEALED))
    waited = run("wait", "other")
    assert waited.exit_code == 0
    lines = waited.stderr.splitlines()
    told = lines.index("  healed  1 restart, 2.1 s and 2 steps lost") + 1
    assert lines[told].endswith("continued on 2 nodes from step 10 after 2.1 s")
    assert run("status", "other").stdout.count("continued on 2 nodes from step 10 after 2.1 s") == 1
    launcher.coordinators["other.2"] = fixed(status("other.2", **HEALED))
    shown = run("status", "other").stdout
    assert (
        "continued on 2 nodes from step 10 after 2.1 s\nin all: 1 restart, 2.1 s and 2 steps lost\n" in shown
    )


def test_a_run_that_heals_is_not_said_to_run(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["digits.1"] = fixed(
        status(**HEALED | {"healing": "rank 1 on lab-2: killed by SIGKILL"})
    )
    assert run("ps").stdout.splitlines()[1].split()[:3] == ["digits.1", "healing", "1"]
    assert run("status", "digits").stdout.startswith(
        "digits.1 is healing (rank 1 on lab-2: killed by SIGKILL)"
    )
    assert json.loads(run("status", "digits", "--json").stdout)["state"] == "running"


def test_logs_are_bytes_with_the_rank_in_front(run: Run) -> None:
    assert run("logs", "digits").stdout_bytes == b"[0] hello\n[1] caf\xff\n"


def test_logs_ask_for_what_was_said(run: Run, launcher: FakeLauncher) -> None:
    run("logs", "digits", "--rank", "0,2-3", "--node", "lab-1", "--tail", "5", "-f")
    assert launcher.coordinators["digits.1"].requests[-1] == {
        "op": "logs",
        "follow": True,
        "ranks": [0, 2, 3],
        "nodes": ["lab-1"],
        "tail": 5,
    }
    assert run("logs", "digits", "--regex", "h.l", "--tail", "5").stdout_bytes == b"[0] hello\n"
    assert launcher.coordinators["digits.1"].requests[-1] == {"op": "logs", "follow": False}


def test_logs_say_why_there_is_nothing(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["digits.1"].answers["logs"] = told({"done": {}})
    assert run("logs", "digits", "--rank", "1").stderr == "rank 1 wrote nothing\n"
    assert run("logs", "digits", "--regex", "x+").stderr == "digits.1 wrote nothing in which 'x+' is found\n"
    assert run("logs", "digits", "--tail", "0").stderr == ""
    unknown = run("logs", "digits", "--rank", "1-3")
    assert (unknown.exit_code, unknown.stderr) == (2, "error: digits.1 has no ranks 2-3; its ranks are 0-1\n")
    unknown = run("logs", "digits", "--node", "lab-9")
    assert unknown.exit_code == 2
    assert unknown.stderr == "error: lab-9 took no part in digits.1\n\nhint: its nodes: lab-1, lab-2\n"
    followed = run("logs", "digits", "--rank", "3", "-f")
    assert followed.stderr.startswith("warning: digits.1 has no rank 3; its ranks are 0-1\n")


def test_logs_as_json_are_one_object_a_line(run: Run) -> None:
    first, second = run("logs", "digits", "--json").stdout.splitlines()
    assert json.loads(first) == {"time": 1000.0, "generation": 1, "rank": 0, "node": "lab-1", "text": "hello"}
    assert json.loads(second)["text"] == "caf\udcff"


def test_events_are_told_with_their_time(run: Run) -> None:
    assert run("events", "digits").stdout.endswith("   digits.1 submitted\n")
    assert json.loads(run("events", "digits", "--json").stdout) == EVENT


# ---- acting ----------------------------------------------------------------------------------------------------------


def test_stop_is_heard_once(run: Run, launcher: FakeLauncher) -> None:
    assert run("stop", "digits").exit_code == 0
    assert launcher.coordinators["digits.1"].requests[-1]["op"] == "stop"
    assert "other.2 on local has ended already: succeeded" in run("stop", "other").stderr


def test_rm_takes_the_latest_run_or_all_of_a_job(run: Run, launcher: FakeLauncher) -> None:
    assert run("rm", "other").stderr == "removed other.2 on local\n"
    assert launcher.calls == [("remove", "other.2")]
    assert run("rm", "--all", "--force", "digits", "other").exit_code == 0
    assert launcher.calls[1:] == [("remove", "digits.1"), ("remove", "other.2")]


def test_a_live_run_is_not_removed(run: Run) -> None:
    shown = run("rm", "digits")
    assert shown.exit_code == 3
    assert "hint: stop it first with `swarmtrain stop digits.1`, or let --force stop it" in shown.stderr


def test_exec_on_a_run_that_has_ended_says_so(run: Run, launcher: FakeLauncher) -> None:
    refusal = {"error": "the agent on lab-1 is not there (any more)", "exit": 3}
    launcher.coordinators["other.2"].answers["exec"] = told(refusal)
    shown = run("exec", "other", "0", "--", "ls")
    assert shown.exit_code == 3
    assert shown.stderr.startswith("error: other.2 has ended, and no process is left")
    launcher.coordinators["digits.1"].answers["exec"] = told(refusal)
    assert "the agent on lab-1 is not there" in run("exec", "digits", "0", "--", "ls").stderr


def test_exec_takes_everything_after_the_dashes(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["digits.1"].answers["exec"] = told({"stdout": "b2s="}, {"done": {"exit": 7}})
    shown = run("exec", "digits", "1", "--", "ls", "-l", "--", "x")
    assert (shown.exit_code, shown.stdout) == (7, "ok")
    first = next(each for each in launcher.coordinators["digits.1"].requests if each["op"] == "exec")
    assert first == {"op": "exec", "argv": ["ls", "-l", "--", "x"], "rank": 1}


# ---- beginning -------------------------------------------------------------------------------------------------------


def test_init_writes_a_job_file_that_plan_and_run_can_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text("")
    shown = run("init")
    assert (shown.exit_code, shown.stderr) == (
        0,
        "wrote swarmtrain.yaml for fit.py; start it with `swarmtrain run`\n",
    )
    text = (tmp_path / "swarmtrain.yaml").read_text()
    assert "script: fit.py" in text and "name: fit" in text
    again = run("init")
    assert again.exit_code == 2
    assert again.stderr.startswith("error: swarmtrain.yaml exists already\n\nhint: --force")
    assert (tmp_path / "swarmtrain.yaml").read_text() == text


def test_init_can_write_to_the_standard_output(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    assert "script: a.py" in run("init", "a.py", "-o", "-").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


def test_init_names_the_script_from_where_the_file_lies(run: Run, tmp_path: Path) -> None:
    for name in ("jobs", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "jobs" / "a.py").write_text("")
    shown = run("init", "jobs/a.py", "-o", "jobs/a.yaml")
    assert shown.stderr == "wrote jobs/a.yaml for a.py; start it with `swarmtrain run -f jobs/a.yaml`\n"
    assert "script: a.py" in (tmp_path / "jobs" / "a.yaml").read_text()
    outside = run("init", "jobs/a.py", "-o", "other/a.yaml")
    assert outside.exit_code == 2 and "jobs/a.py lies outside of other" in outside.stderr


def test_init_does_not_guess_among_several_scripts(run: Run, tmp_path: Path) -> None:
    assert "for train.py, which is not here yet; start" in run("init", "-o", "x.yaml").stderr
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("")
    shown = run("init")
    assert shown.exit_code == 2 and shown.stderr.endswith("hint: name one: a.py, b.py\n")
    (tmp_path / "train.py").write_text("")
    assert run("init").exit_code == 0


def test_init_writes_the_file_that_run_reads() -> None:
    assert start.DEFAULT_FILE == DEFAULT_FILE


def test_the_schema_is_json(run: Run) -> None:
    assert "properties" in json.loads(run("schema").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(run: Run, shell: str) -> None:
    assert "_SWARMTRAIN_COMPLETE" in run("completion", shell).stdout


def test_names_of_runs_complete(run: Run) -> None:
    words = {"_SWARMTRAIN_COMPLETE": "bash_complete", "COMP_WORDS": "swarmtrain status d", "COMP_CWORD": "2"}
    shown = CliRunner(env=words).invoke(cli, [], prog_name="swarmtrain")
    assert shown.stdout.splitlines() == ["plain,digits", "plain,digits.1"]


# ---- starting --------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "digits.py").write_text("")
    return "digits.py"


def test_run_detached_prints_the_name_alone_as_data(run: Run, launcher: FakeLauncher, script: str) -> None:
    launcher.coordinators["digits.1"] = fixed(status(state="stopped"))
    launcher.next = fixed(status("digits.2"))
    shown = run("run", "--on", "local", "-d", script)
    assert (shown.exit_code, shown.stdout) == (0, "digits.2\n")
    assert "swarmtrain: on local, as asked\n" in shown.stderr
    assert "swarmtrain: 2 nodes, as there are\n" in shown.stderr
    assert "swarmtrain attach digits.2" in shown.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_detached_run_that_has_been_submitted_goes_on_without_its_client(
    run: Run,
    launcher: FakeLauncher,
    script: str,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher.kept.clear()
    monkeypatch.setattr(terminal, "hang_up", lambda: None)

    def started(handle: RunHandle) -> None:
        signal.raise_signal(number)  # its coordinator has not answered yet

    monkeypatch.setattr(RunHandle, "started", started)
    before = signal.getsignal(number)
    shown = run("run", "--on", "local", "-d", script)
    assert signal.getsignal(number) == before
    if number == signal.SIGINT:
        assert (shown.exit_code, launcher.calls[-1]) == (130, ("kill", "digits.1", "killed by a person"))
        return
    assert (shown.exit_code, shown.stdout) == (0, "digits.1\n")
    assert "swarmtrain: left digits.1, which goes on" in shown.stderr
    assert "kill" not in [call for call, *_ in launcher.calls]


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("stopped", 4)])
def test_run_shows_everything_and_gives_the_exit_code(
    run: Run, launcher: FakeLauncher, script: str, state: str, code: int
) -> None:
    launcher.kept.clear()
    end = {"status": status(state=state), "done": {}}
    watch = told({"status": status()}, {"event": EVENT}, OUTPUT, end)
    launcher.next = fixed(status(), watch=watch)
    shown = run("run", "--on", "local", script)
    assert shown.exit_code == code
    assert shown.stdout_bytes == b"[0] hello\n[1] caf\xff\n"
    assert "swarmtrain: digits.1 submitted\n" in shown.stderr
    assert f"digits.1 {state}" in shown.stderr
    assert "\x1b" not in shown.output


def test_resume_alone_says_the_same_words_again(run: Run, launcher: FakeLauncher, script: str) -> None:
    words = ("-j", "2x1", script, "20")
    launcher.kept.clear()
    launcher.next = fixed(status(target=script))
    assert run("run", "--on", "local", "-d", *words).exit_code == 0
    origin = launcher.jobs[0].words
    assert origin == words
    launcher.kept = [dataclasses.replace(launcher.kept[0], origin=Origin.of(launcher.jobs[0]))]
    launcher.coordinators["digits.1"] = fixed(status(state="stopped", target=script))
    run("stop", "digits")
    launcher.next = fixed(status("digits.2"))
    shown = run("run", "--on", "local", "--resume", "-d", "--debug")
    assert shown.exit_code == 0, shown.stderr
    assert "swarmtrain: as digits.1 was started: swarmtrain run -j 2x1 digits.py 20\n" in shown.stderr
    job = launcher.jobs[1].job
    assert (job.nodes, job.args, job.debug) == (2, ("20",), True)
    assert launcher.calls[-1] == ("submit", "digits.2", Resumption("digits.1"))


def test_a_run_that_is_interrupted_before_it_is_there_is_not_said_to_go_on(
    run: Run, launcher: FakeLauncher, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    launcher.kept.clear()
    monkeypatch.setattr(launcher, "submit", interrupted)
    shown = run("run", "--on", "local", script)
    assert shown.exit_code == 130
    assert shown.stderr.endswith("swarmtrain: digits.1 was not started\n")


def test_resume_alone_needs_a_run_from_here(run: Run) -> None:
    shown = run("run", "--on", "local", "--resume")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: no run that is kept was started from ")


def test_stop_ends_with_the_line_that_goes_on(run: Run, launcher: FakeLauncher, tmp_path: Path) -> None:
    here = Origin.of(LoadedJob(Job(script="digits.py"), tmp_path, words=("digits.py", "a b")))
    launcher.kept = [dataclasses.replace(launcher.kept[0], origin=here)]
    line = "swarmtrain run --on local --resume digits.py 'a b'\n"
    assert run("stop", "digits").stderr.endswith(f"to go on from there:\n  {line}")
    there = dataclasses.replace(here, cwd="/some where")
    launcher.kept = [dataclasses.replace(launcher.kept[0], origin=there)]
    assert run("stop", "digits").stderr.endswith(f"\n  cd '/some where' && {line}")


def test_attach_begins_with_the_last_lines(run: Run, launcher: FakeLauncher) -> None:
    assert run("attach", "other", "--tail", "3").exit_code == 0
    request = launcher.coordinators["other.2"].requests[-1]
    assert request == {"op": "watch", "after": 1, "output": True, "tail": 3}


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["rnu"], 2, "there is no command 'rnu'", "did you mean `swarmtrain run`?"),
        (["train.py"], 2, "there is no command 'train.py'", "did you mean `swarmtrain run train.py`?"),
        (["run", "--nodse", "3"], 2, "there is no option --nodse", "did you mean --nodes?"),
        (["run", "--nodez", "3"], 2, "there is no option --nodez", "did you mean --nodes?"),
        (["lab", "staus"], 2, "there is no command 'staus'", "did you mean `swarmtrain lab status`?"),
        (["lab", "nosuch"], 2, "there is no command 'nosuch'", "`swarmtrain lab --help` lists the commands"),
        (["init", "nope.py"], 2, "there is no nope.py", "name the script that you have"),
        (["status"], 2, "missing argument", "`swarmtrain status --help`"),
        (["status", "digit"], 2, "there is no run digit", "did you mean digits?"),
        (["status", "digits.9"], 2, "there is no run digits.9", "did you mean digits.1?"),
        (["status", "Digits!"], 2, "'Digits!' is not the name of a run", "names look like"),
        (["logs", "digits", "--rank", "a"], 2, "'a' is no list of ranks", "0,2-3"),
        (["logs", "digits", "--since", "soon"], 2, "'soon' is no moment", "10m"),
        (["logs", "digits", "--tail", "x"], 2, "invalid value for '-n'", "--help"),
        (["wait", "digits", "--timeout", "soon"], 2, "'soon' is no duration", ""),
        (["exec", "digits", "0"], 2, "missing argument", "--help"),
        (["exec", "digits", "0", "--"], 2, "a command is missing", "write it after the --"),
        (["exec", "-t", "digits", "0", "--", "bash"], 2, "the input is no terminal", "leave out -t"),
        (["completion", "tcsh"], 2, "invalid value", "--help"),
        (["run", "--on", "slurm", "x.py"], 2, "invalid value for '--on'", "--help"),
        (["run", "--on", "local", "nope.py"], 2, "there is no nope.py", ""),
        (["run", "--on", "local"], 2, "nothing to run", ""),
        (["run", "--on", "local", "-f", "nope.yaml"], 2, "nope.yaml", ""),
        (
            ["run", "--on", "local", "-f", "a.yaml", "b.yaml"],
            2,
            "two job files: a.yaml and b.yaml",
            "give one",
        ),
        (["run", "--on", "local", "a.yaml", "b.py", "--", "c"], 2, "'b.py' stands before the --", "--help"),
        (
            ["run", "--on", "local", "--resume", "-m", "mod"],
            2,
            "no run of mod to resume",
            "leave out --resume",
        ),
        (["status", f"digits.{'9' * 5000}"], 2, "is not the name of a run", "digits.3"),
        (["run", "--on", "local", "--image", "", "x.py"], 2, "'' is no image reference", ""),
        (["run", "--on", "local", "--nodes", "", "x.py"], 2, "'' is not the name of a node", ""),
        (["run", "--on", "local", "--no-python", ""], 2, "'' is no program", ""),
        (["plan", "nope.py"], 2, "there is no nope.py", ""),
        (["plan", "--on", "swarm", "nope.py"], 2, "there is no nope.py", ""),
        (["plan", "--on", "local", "-m", "mod"], 2, "only a run on a Swarm has a stack", "--on swarm"),
        (["plan", "--on", "slurm", "x.py"], 2, "invalid value for '--on'", "--help"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_hint(
    run: Run, words: list[str], code: int, message: str, hint: str
) -> None:
    shown = run(*words)
    assert shown.exit_code == code
    assert shown.stdout == ""
    head, _, tail = shown.stderr.partition("\n\nhint: ")
    assert head.startswith("error: ") and message in head
    assert hint in tail
    assert "Traceback" not in shown.stderr


def test_a_live_run_refuses_a_second_one(run: Run, script: str, launcher: FakeLauncher) -> None:
    shown = run("run", "--on", "local", script)
    assert shown.exit_code == 3
    assert shown.stderr.endswith(
        "error: digits.1 is still running\n\n"
        "hint: stop it with `swarmtrain stop digits`, or let --replace stop it first\n"
    )
    assert launcher.calls == []


def test_every_mistake_in_a_job_file_is_reported_at_once(
    run: Run, tmp_path: Path, launcher: FakeLauncher
) -> None:
    (tmp_path / "job.yaml").write_text("script: nope.py\nnodse: 3\nbackend: mpi\n")
    shown = run("run", "--on", "local", "-f", "job.yaml")
    assert shown.exit_code == 2
    assert "error: the job has 3 mistakes" in shown.stderr
    assert "job.yaml:2" in shown.stderr and "job.yaml:3" in shown.stderr
    assert launcher.calls == []


def test_a_job_file_that_is_no_yaml_is_one_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"nodes: [1,\n\tx: {")
    shown = run("run", "--on", "local", "job.yaml")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: job.yaml")


# ---- top -------------------------------------------------------------------------------------------------------------


def test_top_without_a_name_shows_the_only_run_that_is_live_once_in_a_pipe(run: Run) -> None:
    shown = run("top")
    assert shown.exit_code == 0 and shown.stdout.startswith("digits.1  running")
    assert "the run is shown once, as by --once" in shown.stderr
    once = run("top", "digits", "--once")
    assert (once.stdout, once.stderr) == (shown.stdout, "") and "\x1b" not in once.stdout
    assert json.loads(run("top", "--json").stdout)["status"]["run"] == "digits.1"


def test_top_asks_which_run_where_several_are_live(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["other.2"] = fixed(status("other.2"))
    shown = run("top")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["RUN", "digits.1", "other.2"]
    assert shown.exit_code == 2
    assert shown.stderr == "error: 2 runs are live\n\nhint: say which: `swarmtrain top other.2`\n"


def test_top_says_that_no_run_is_live(run: Run, launcher: FakeLauncher) -> None:
    launcher.coordinators["digits.1"] = fixed(status(state="failed"), logs=told(OUTPUT, {"done": {}}))
    shown = run("top")
    assert (shown.exit_code, shown.stdout) == (2, "") and shown.stderr.startswith(
        "error: no run is live\n\nhint: "
    )
    assert run("top", "digits", "--once").stdout.startswith("digits.1  failed")


def test_top_of_ranks_that_there_are_not(run: Run) -> None:
    shown = run("top", "digits", "--once", "--rank", "7")
    assert (shown.exit_code, shown.stderr) == (2, "error: digits.1 has no rank 7; its ranks are 0-1\n")


def test_top_is_not_renewed_as_often_as_one_likes(run: Run) -> None:
    shown = run("top", "digits", "--every", "0.1s")
    assert (
        shown.exit_code == 2
        and "--every 0.1s: the screen is renewed every 0.2 s to every hour" in shown.stderr
    )
