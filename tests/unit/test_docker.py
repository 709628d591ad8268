"""The docker command line: how its complaints are told to a person, and how it is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from swarmtrain.docker.command import NOT_FOUND, TIMED_OUT, Docker, DockerFailed, explain, pointer
from swarmtrain.errors import ClusterError

COMPLAINTS = [
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "the Docker daemon does not answer",
        "systemctl start docker",
    ),
    (
        "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct",
        "the Docker daemon does not answer",
        "DOCKER_HOST",
    ),
    (
        'error during connect: Get "http://docker/v1.24/info": command [ssh -- box docker] exited: status 255',
        "the Docker daemon does not answer",
        "DOCKER_CONTEXT",
    ),
    (
        (
            'error during connect: Get "http://docker.example.com/v1.24/info": command [ssh -l you -- box docker '
            "system dial-stdio] has exited with exit status 255, please make sure the URL is valid, and Docker 18.09 "
            "or later is installed on the remote host: stderr=you@box: Permission denied (publickey).\r\n"
        ),
        "the Docker daemon is out of reach by ssh: you@box: Permission denied (publickey)",
        "ssh HOST docker version",
    ),
    (
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
            'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/info": dial unix /var/run/docker.sock: connect: '
            "permission denied"
        ),
        "this user may not speak to the Docker daemon",
        "docker group",
    ),
    (
        "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
        "this user may not speak to the Docker daemon",
        "docker group",
    ),
    (
        "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
        "this user may not speak to the Docker daemon",
        "docker group",
    ),
    (
        (
            'Error response from daemon: This node is not a swarm manager. Use "docker swarm init" or '
            '"docker swarm join" to connect this node to swarm and try again.'
        ),
        "this Docker engine is not in a Swarm",
        "docker swarm init",
    ),
    (
        (
            "Error response from daemon: This node is not a swarm manager. Worker nodes can't be used to view or "
            "modify cluster state. Please run this command on a manager node or promote the current node to a "
            "manager."
        ),
        "this Docker engine is a worker of its Swarm, not a manager",
        "speak to a manager",
    ),
    (
        (
            "Error response from daemon: rpc error: code = Unknown desc = The swarm does not have a leader. It's "
            "possible that too few managers are online."
        ),
        "this Swarm has no leader: most of its managers are gone",
        "--force-new-cluster",
    ),
    (
        'Failed to initialize: unable to resolve docker endpoint: context "nope": context not found: open x',
        "Docker knows no such context",
        "docker context ls",
    ),
    # Of Docker 29 and about it.
    (
        (
            "Error response from daemon: client version 1.41 is too old. Minimum supported API version is 1.44, "
            "please upgrade your client to a newer version"
        ),
        "this docker command line is too old for the engine: it speaks API 1.41, the engine 1.44 or newer",
        "min-api-version",
    ),
    (
        "Error response from daemon: client version 1.52 is too new. Maximum supported API version is 1.41",
        "this docker command line speaks API 1.52, and the engine 1.41 at most",
        "unset DOCKER_API_VERSION",
    ),
    (
        "API version 1.41 is not supported by this client: the minimum supported API version is 1.44",
        (
            "the engine is too old for this docker command line: it speaks API 1.41, the command line 1.44 or newer"
        ),
        "update the engine",
    ),
]


@pytest.mark.parametrize(("stderr", "message", "hint"), COMPLAINTS)
def test_well_known_complaint_is_told_with_a_hint(stderr: str, message: str, hint: str) -> None:
    error = DockerFailed(["docker", "info"], 1, stderr)
    assert isinstance(error, ClusterError)
    assert error.exit_code == 3
    assert error.message == message
    assert hint in error.hint


def test_what_points_docker_at_an_engine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    docker = tmp_path / "docker"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    docker.write_text('#!/bin/sh\n[ "$2" = inspect ] && echo default\n')
    docker.chmod(0o755)
    assert pointer() == ""
    docker.write_text("#!/bin/sh\necho lab\n")
    assert pointer() == "docker's context is lab"
    docker.write_text("#!/bin/sh\necho 'no such context' >&2; exit 1\n")
    assert pointer() == "docker's context is broken"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert pointer() == ""
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert pointer() == "DOCKER_CONTEXT is lab"
    monkeypatch.setenv("DOCKER_HOST", "ssh://bob")
    assert pointer() == "DOCKER_HOST is ssh://bob"


def test_without_docker_nothing_points_at_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pointer() == ""


def test_unknown_complaint_is_passed_on_with_its_command() -> None:
    argv = ["docker", "--context", "lab", "service", "create", "--name", "a b"]
    stderr = "Error response from daemon: rpc error: name conflicts with an existing object.\n"
    message, hint = explain(argv, 1, stderr)
    assert message == "docker service create failed: rpc error: name conflicts with an existing object"
    assert hint == "the command was: docker --context lab service create --name 'a b'"


def test_advertised_help_does_not_hide_the_reason() -> None:
    stderr = (
        "docker: Error response from daemon: Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs.\n\n"
        "Run 'docker run --help' for more information\n"
    )
    expected = "docker run failed: Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs"
    assert explain(["docker", "run", "x"], 125, stderr)[0] == expected


def test_silent_failure_names_its_exit_status() -> None:
    assert explain(["docker", "ps"], 7, "")[0] == "docker ps failed: exit status 7"


@pytest.mark.parametrize(
    ("docker", "argv"),
    [
        (Docker(), ["docker", "ps", "-a"]),
        (Docker(context="lab"), ["docker", "--context", "lab", "ps", "-a"]),
        (Docker(host="unix:///run/x.sock"), ["docker", "--host", "unix:///run/x.sock", "ps", "-a"]),
    ],
)
def test_engine_is_named_before_the_command(docker: Docker, argv: list[str]) -> None:
    assert docker.argv("ps", "-a") == argv


@pytest.fixture
def stand_in(tmp_path: Path) -> Docker:
    """A docker command that does as its arguments say, so that its starting can be tried without an engine."""
    script = tmp_path / "docker"
    script.write_text('#!/bin/sh\nexec sh -c "$1"\n')
    script.chmod(0o755)
    return Docker(env={"PATH": f"{tmp_path}:/usr/bin:/bin"})


def test_run_returns_what_was_printed(stand_in: Docker) -> None:
    assert stand_in.run("cat; echo end", input=b"through\n") == "through\nend\n"


def test_run_reads_nothing_unless_it_is_given_input(stand_in: Docker) -> None:
    assert stand_in.run("cat") == ""


def test_failure_carries_command_status_and_complaint(stand_in: Docker) -> None:
    with pytest.raises(DockerFailed) as caught:
        stand_in.run("echo no >&2; exit 5")
    error = caught.value
    assert (error.returncode, error.stderr, error.argv[0]) == (5, "no", "docker")


def test_unchecked_failure_raises_nothing(stand_in: Docker) -> None:
    assert stand_in.run("echo partly; exit 5", check=False) == "partly\n"


def test_command_past_its_time_is_killed(stand_in: Docker) -> None:
    with pytest.raises(DockerFailed, match=r"did not finish in 0\.2 s") as caught:
        stand_in.run("echo slow >&2; exec sleep 60", timeout=0.2)
    assert caught.value.returncode == TIMED_OUT
    assert caught.value.stderr == "slow"


def test_missing_docker_says_how_to_get_it(tmp_path: Path) -> None:
    docker = Docker(env={"PATH": str(tmp_path)})
    for attempt in (lambda: docker.run("ps"), lambda: docker.popen("ps")):
        with pytest.raises(DockerFailed, match="not installed") as caught:
            attempt()
        assert caught.value.returncode == NOT_FOUND
        assert "--on local" in caught.value.hint


def test_json_is_parsed_and_anything_else_is_an_error(stand_in: Docker) -> None:
    assert stand_in.json("""echo '[{"Id": "x"}]'""") == [{"Id": "x"}]
    with pytest.raises(DockerFailed, match="not JSON: oops"):
        stand_in.json("echo oops")


def test_listing_is_parsed_line_by_line(stand_in: Docker) -> None:
    rows = stand_in.json_lines("""printf '{"ID": "a"}\\n{"ID": "b"}\\n'""")
    assert [row["ID"] for row in rows] == ["a", "b"]


def test_popen_streams(stand_in: Docker) -> None:
    with stand_in.popen("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.communicate(b"\x00\xff")[0] == b"\x00\xff"
