"""Job files, variables and flags: what wins, and where a mistake is said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmtrain.job import Job, JobError, LoadedJob, Override, load, overrides_from_flags


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with two scripts in it."""
    for name in ("train.py", "other.py"):
        (tmp_path / name).touch()
    return tmp_path


def read(home: Path, text: str | bytes, environ: dict[str, str] | None = None, **flags: Any) -> LoadedJob:
    """Load ``text`` as the job file of ``home``."""
    content = text.encode() if isinstance(text, str) else text
    (home / "swarmtrain.yaml").write_bytes(content)
    return load(None, overrides_from_flags(**flags), cwd=home, environ=environ or {})


def mistakes(home: Path, text: str | bytes, environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    with pytest.raises(JobError) as caught:
        read(home, text, environ, **flags)
    assert caught.value.exit_code == 2
    return [str(problem).replace(str(home), "HOME") for problem in caught.value.problems]


def test_scalars_arrive_as_they_are_written(home: Path) -> None:
    loaded = read(
        home,
        """
script: train.py
args: [--lr, 1e-3, 1.10, 20, 0x10, true, No, 2024-01-01, 22:30, "007"]
env: {A: 1.10, B: True, C: 1_000, D: null, E: "null", F: ~}
""",
        {"D": "from here", "F": ""},
    )
    assert loaded.job.args == (
        *("--lr", "1e-3", "1.10", "20", "0x10", "true", "No", "2024-01-01", "22:30", "007"),
    )
    expected = {"A": "1.10", "B": "True", "C": "1_000", "D": "from here", "E": "null", "F": ""}
    assert loaded.environment == expected


def test_variables_keep_dollars_braces_and_newlines(home: Path) -> None:
    text = """
script: train.py
env:
  A: $HOME ${x:-y} $$
  B: "{{.Node.Hostname}} {{ x"
  C: |
    one
      two
  D: "a\\tb\\u00e9"
"""
    assert read(home, text).environment == {
        "A": "$HOME ${x:-y} $$",
        "B": "{{.Node.Hostname}} {{ x",
        "C": "one\n  two\n",
        "D": "a\tbé",
    }


def test_folded_text_holds_nothing_of_its_folds(home: Path) -> None:
    job = read(home, "script: train.py\nargs:\n  - >-\n    one\n    two\n\n    three\n").job
    assert list(job.args) == ["one two\nthree"]


def test_every_mistake_has_its_line_or_its_flag(home: Path) -> None:
    text = """
script: tran.py
nodez: 3
nodes: [a, b, a]
env:
  RANK: 1
  TOKEN:
volumes:
  - a:/a
  - ./b:/b
nodes: 3
timeout: soon
resources: {gpu: 1}
"""
    assert mistakes(home, text, memory="8x", env=["3x=1"], j="3y1", backend="mpi") == [
        "swarmtrain.yaml:2: script: there is no tran.py in HOME (did you mean train.py?)",
        "swarmtrain.yaml:3: nodez: unknown key (did you mean nodes?)",
        "swarmtrain.yaml:4: nodes: the same node twice: a",
        "swarmtrain.yaml:6: env.RANK: RANK cannot be set: swarmtrain sets it in every worker",
        "swarmtrain.yaml:10: volumes[2]: './b:/b': a path on the nodes must be absolute",
        "swarmtrain.yaml:11: nodes: the same key twice (first in line 4)",
        "swarmtrain.yaml:12: timeout: 'soon' is no duration (write 90s, 10m or 1h30m; a bare number is seconds)",
        "swarmtrain.yaml:13: resources.gpu: unknown key (did you mean gpus?)",
        "-j: '3y1' is not nodes x workers, which looks like 3x1, 2..4x1 or 2..4",
        "-e 3x: '3x' is no variable's name: letters, digits and _, not beginning with a digit",
        "--memory: '8x' is no size (write 512m or 8g; a bare number is bytes)",
        "--backend: 'mpi' is not one of auto, nccl, gloo",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "swarmtrain.yaml: holds nothing, not keys and values"),
        ("# only a comment\n", "swarmtrain.yaml: holds nothing"),
        ("- script: train.py", "swarmtrain.yaml: holds a list, not keys and values"),
        ("train.py", "swarmtrain.yaml: holds a single value, not keys and values"),
        ("a: b: c", "swarmtrain.yaml:1: is not YAML: a second colon here"),
        ("a: 1\n\tb: 2", "swarmtrain.yaml:2: is not YAML: a tab cannot indent"),
        ("a: [b", "swarmtrain.yaml:1: is not YAML: expected ',' or ']'"),
        ("a: 'b", "is not YAML"),
        ("script: train.py\nargs: &a []\nconstraints: &a []\nx: 1", "swarmtrain.yaml:4: x: unknown key"),
        ("a: *b", "is not YAML: found undefined alias 'b'"),
        ("a: @b", "is not YAML: a value that begins with @ needs quotes"),
        ("a: 1\n---\na: 2", "swarmtrain.yaml:2: is not YAML: a second document begins"),
        ("[" * 500, "swarmtrain.yaml: is nested too deeply"),
        (b"\x00\x01\x02\x03", "swarmtrain.yaml:1: is not text: it holds a control character"),
        ("a: 1\nb: \x07", "swarmtrain.yaml:2: is not text"),
        (b"a: 1\n\xff\xfe", "swarmtrain.yaml:2: is not UTF-8 text"),
        ("a: 1\n".encode("utf-16"), "swarmtrain.yaml:1: is not UTF-8 text"),
        (b"#" * (1 << 21), "swarmtrain.yaml: is larger than 1 MiB"),
        ("script: train.py\n{a: b}: 3\n", "swarmtrain.yaml:2: a key must be a single word"),
        ("nodes: 3", "swarmtrain.yaml: nothing to run: give script, module or command"),
        ("script: train.py\nargs: &a [*a]", "swarmtrain.yaml:2: args[1]: must be text, not a list"),
        (
            "script: train.py\nargs: [a,\n  ]\nargs: []",
            "swarmtrain.yaml:4: args: the same key twice (first in line 2)",
        ),
        (
            "script: train.py\nnodes:",
            "swarmtrain.yaml:2: nodes: must be a count (3), a range (2..4) or a list",
        ),
        ("script: train.py\n3: 4", "swarmtrain.yaml:2: 3: unknown key"),
        ("script: train.py\nargs: [~]", "swarmtrain.yaml:2: args[1]: must be text, not nothing"),
        ("script: train.py\ndebug: yes", "swarmtrain.yaml:2: debug: must be true or false, not 'yes'"),
        ("script: no.py", "there is no no.py in HOME (there is other.py, train.py)"),
        ("script: no/no.py", "there is no no/no.py in HOME"),
        ("script: .", "script: . is a directory: name the script in it"),
        (
            "script: train.py\nenv:\n  TOKEN:",
            "swarmtrain.yaml:3: env.TOKEN: TOKEN is taken from here, where it is",
        ),
    ],
)
def test_a_bad_file_gets_one_clear_error(home: Path, text: str | bytes, expected: str) -> None:
    found = mistakes(home, text)
    assert len(found) == 1
    assert expected in found[0]


def test_a_file_that_is_not_there_or_no_file_is_an_error(home: Path) -> None:
    for path, expected in [
        ("nope.yaml", "nope.yaml: there is no such file"),
        (".", ".: is a directory, not a job file"),
        ("train.py/x", "train.py/x: cannot be read: Not a directory"),
    ]:
        with pytest.raises(JobError) as caught:
            load(Path(path), cwd=home, environ={})
        assert caught.value.message == expected


def test_a_byte_order_mark_and_an_alias_are_fine(home: Path) -> None:
    text = "script: train.py\nenv: {A: &a x, B: *a}\n"
    assert read(home, "\ufeff" + text).environment == {"A": "x", "B": "x"}


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(home: Path) -> None:
    text = "script: train.py\nimage: file\nnodes: 2\nname: file\n"
    environ = {"SWARMTRAIN_IMAGE": "variable", "SWARMTRAIN_NODES": "2..4", "SWARMTRAIN_BACKEND": ""}
    loaded = read(home, text, environ, nodes="a,b")
    job = loaded.job
    assert (job.name, job.image, job.node_names, job.backend) == ("file", "variable", ("a", "b"), "auto")
    assert loaded.sources == {
        "script": "swarmtrain.yaml:1",
        "image": "SWARMTRAIN_IMAGE",
        "nodes": "--nodes",
        "name": "swarmtrain.yaml:4",
    }
    assert loaded.file == home / "swarmtrain.yaml"


def test_a_bad_variable_is_named(home: Path) -> None:
    assert mistakes(home, "script: train.py", {"SWARMTRAIN_NODES": "a,a"}) == [
        "SWARMTRAIN_NODES: the same node twice: a"
    ]


def test_flags_set_one_entry_of_a_mapping_and_add_to_lists(home: Path) -> None:
    text = """
script: train.py
env: {A: file, B: file}
resources: {gpus: 1, memory: 8g}
volumes: [a:/a]
constraints: [node.role == worker]
"""
    flags: dict[str, Any] = {"env": ["A=flag=$x", "C"], "gpus": "2", "volume": ["b:/b"]}
    loaded = read(home, text, {"C": "here"}, constraint=("node.labels.x == 1",), **flags)
    assert loaded.environment == {"A": "flag=$x", "B": "file", "C": "here"}
    assert (loaded.job.resources.gpus, loaded.job.resources.memory) == (2, 8 << 30)
    assert loaded.job.volumes == ("a:/a", "b:/b")
    assert loaded.job.constraints == ("node.role == worker", "node.labels.x == 1")
    assert mistakes(home, text, {"C": ""}, volume=("x",))[0].startswith("--volume: 'x' is no volume")


def test_a_setting_of_any_shape_is_checked_like_the_file(home: Path) -> None:
    text = "script: train.py\nvolumes: [a:/a]\nenv: {A: x}\n"
    settings = (
        "volumes=b:/b",
        "foo.bar=1",
        "env=3",
        "nodes.x=1",
        "resources.gpus=two",
        "script=3",
        "start.x.y=",
    )
    assert mistakes(home, text, settings=settings) == [
        "--set foo.bar: unknown key",
        "--set nodes.x: unknown key (did you mean nodes?)",
        "--set start.x.y: unknown key (did you mean start?)",
        "--set script: must be text, not 3 (put it in quotes)",
        "--set env: must be a mapping of names to values, not '3'",
        "--set resources.gpus: must be a whole number, not 'two'",
        "--set volumes: must be a list, not 'b:/b'",
    ]


def test_a_file_that_nobody_named_is_left_alone_for_another_script(home: Path) -> None:
    loaded = read(home, "module: digits\nargs: [a]\nnodes: 2\n", script="other.py")
    assert (loaded.job, loaded.directory, loaded.file) == (Job(script="other.py"), home, None)
    assert loaded.notices == (
        "swarmtrain.yaml is left alone, since it is for digits; -f swarmtrain.yaml takes the rest of it",
    )


def test_a_named_file_gives_another_script_all_but_its_arguments_and_name(home: Path) -> None:
    (home / "job.yaml").write_text("name: digits\ncommand: [./x, y]\nargs: [a]\nnodes: 2\n")
    loaded = load(Path("job.yaml"), overrides_from_flags(script="other.py"), cwd=home, environ={})
    assert loaded.job == Job(script="other.py", nodes=2, name="other")
    assert loaded.notices == ("the job is in job.yaml, less what belongs to ./x y: its args and name",)


def test_a_file_without_a_script_goes_with_any(home: Path) -> None:
    loaded = read(home, "nodes: 2", script="other.py")
    assert (loaded.job, loaded.notices) == (
        Job(script="other.py", nodes=2),
        ("the job is in swarmtrain.yaml",),
    )


def test_the_file_s_own_script_on_the_command_line_keeps_its_arguments(home: Path) -> None:
    assert read(home, "script: train.py\nargs: [a]", script=str(home / "train.py")).job.args == ("a",)
    assert read(home, "script: train.py\nargs: [a]", script="train.py", args=("b",)).job.args == ("b",)


def test_without_a_file_the_script_is_enough(home: Path) -> None:
    loaded = load(None, overrides_from_flags(script="train.py"), cwd=home, environ={})
    assert (loaded.job, loaded.directory, loaded.file) == (Job(script="train.py"), home, None)


def test_a_script_elsewhere_brings_its_own_directory(home: Path) -> None:
    below = home / "below"
    below.mkdir()
    loaded = load(None, overrides_from_flags(script="../train.py"), cwd=below, environ={})
    assert (loaded.job.script, loaded.directory) == ("train.py", home)
    loaded = load(None, overrides_from_flags(script=str(home / "train.py")), cwd=home, environ={})
    assert (loaded.job.script, loaded.directory) == ("train.py", home)


def test_a_file_elsewhere_brings_its_own_directory(home: Path) -> None:
    below = home / "below"
    below.mkdir()
    (below / "job.yaml").write_text("script: train.py")
    (below / "train.py").touch()
    loaded = load(Path("below/job.yaml"), cwd=home, environ={})
    assert (loaded.directory, loaded.sources) == (below, {"script": "below/job.yaml:1"})
    with pytest.raises(JobError, match=r"^SCRIPT: \.\./other.py lies outside the job's directory"):
        load(Path("below/job.yaml"), {"script": Override("other.py", "SCRIPT")}, cwd=home, environ={})


def test_a_script_in_the_image_is_not_looked_for_here(home: Path) -> None:
    loaded = load(None, overrides_from_flags(script="/app/train.py", no_files=True), cwd=home, environ={})
    assert (loaded.job.script, loaded.job.files) == ("/app/train.py", ())


def test_a_warm_command_is_said_to_start_cold(home: Path) -> None:
    said = "a command is always started cold: only a Python script or module can be started warm"
    assert said in read(home, "command: [./x]\nstart: warm").notices
    assert said not in read(home, "command: [./x]").notices


def test_a_job_made_in_python_finds_its_place(home: Path) -> None:
    job = Job(script="train.py", env={"A": None})
    loaded = LoadedJob.of(job, home, {"A": "here"})
    assert (loaded.directory, loaded.environment) == (home, {"A": "here"})
    with pytest.raises(JobError, match=r"there is no tran.py in .* \(did you mean train.py\?\)"):
        LoadedJob.of(Job(script="tran.py"), home)
    with pytest.raises(JobError, match=r"^env.A: A is taken from here, where it is not set"):
        LoadedJob.of(job, home, {})


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(LoadedJob(Job(script="a.py"), Path("/"), {"A": "hunter2"}))
