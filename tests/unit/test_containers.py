"""What docker is told: the containers of the docker launcher, the helpers of the swarm launcher."""

from __future__ import annotations

import datetime
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.job import Job, LoadedJob
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.docker import DockerLauncher, containers
from swarmtrain.launchers.docker.containers import Layout
from swarmtrain.launchers.local import LocalLauncher
from swarmtrain.swarm import helpers
from swarmtrain.swarm.cluster import Node

JOB: dict[str, Any] = {"name": "digits", "script": "train.py", "image": "me/train:1", "nodes": 2}


def layout(**keys: Any) -> Layout:
    job = Job(**{**JOB, **keys})
    return Layout(job, "digits.3", "digits-3", "d1", containers.node_names(job))


def pairs(args: list[str], flag: str) -> list[str]:
    return [args[index + 1] for index, word in enumerate(args) if word == flag]


def test_names_follow_from_the_run_and_the_nodes() -> None:
    assert layout().nodes == ("node0", "node1")
    assert layout(nodes=["a", "b"]).nodes == ("a", "b")
    assert layout().coordinator == "digits-3-coordinator"
    assert layout().node("node1") == "digits-3-node1"
    assert layout().network == "digits-3"
    assert layout(network={"existing": "ddp-net"}).network == "ddp-net"


def test_the_coordinators_container() -> None:
    args = containers.create_coordinator(layout(python="/opt/python"))
    assert args[:3] == ["create", "--name", "digits-3-coordinator"]
    assert args[-5:] == [
        "--entrypoint",
        "/opt/python",
        "me/train:1",
        "/opt/swarmtrain/bundle.zip",
        "coordinator",
    ]
    assert pairs(args, "--restart") == ["on-failure"]
    assert "SWARMTRAIN_COORDINATOR=digits-3-coordinator:29400" in pairs(args, "--env")
    assert "NVIDIA_VISIBLE_DEVICES=void" in pairs(args, "--env")
    assert "SWARMTRAIN_SUBMITTED=/opt/swarmtrain/submitted" in pairs(args, "--env")
    assert pairs(args, "--label") == [
        "swarmtrain.job=digits",
        "swarmtrain.run=digits.3",
        "swarmtrain.deployment=d1",
        "swarmtrain.role=coordinator",
        "swarmtrain.origin=",
    ]


def test_a_nodes_container() -> None:
    args = containers.create_agent(
        layout(
            resources={"cpus": 1.5, "memory": "2g", "gpus": 2},
            memlock=True,
            shm_size="1g",
            stop_grace="30s",
            volumes=["/a,b:/data:ro", "models:/models"],
        ),
        1,
        ["/opt/swarmtrain/code-00", "/opt/swarmtrain/code-01"],
        open_files=524288,
    )
    assert pairs(args, "--hostname") == ["node1"]
    assert pairs(args, "--gpus") == ['"device=2,3"']
    assert pairs(args, "--mount") == [
        "type=volume,source=swarmtrain,target=/swarmtrain",
        'type=bind,"source=/a,b",target=/data,readonly',
        "type=volume,source=models,target=/models",
    ]
    assert (pairs(args, "--cpus"), pairs(args, "--memory")) == (["1.5"], ["2147483648"])
    assert (pairs(args, "--shm-size"), pairs(args, "--stop-timeout")) == (["1073741824"], ["45"])
    assert pairs(args, "--ulimit") == ["memlock=-1:-1", "nofile=524288:524288"]
    assert "SWARMTRAIN_CODE=/opt/swarmtrain/code-00:/opt/swarmtrain/code-01" in pairs(args, "--env")
    assert not any("NVIDIA" in each for each in pairs(args, "--env"))


@pytest.mark.parametrize(
    ("gpus", "has_nvidia", "flags", "hidden"),
    [
        (None, True, ["all"], False),
        (None, False, [], False),
        (0, True, [], True),
        (0, False, [], True),
        (1, True, ['"device=1"'], False),
    ],
)
def test_a_nodes_gpus(gpus: int | None, has_nvidia: bool, flags: list[str], hidden: bool) -> None:
    args = containers.create_agent(layout(resources={"gpus": gpus}), 1, [], has_nvidia=has_nvidia)
    assert pairs(args, "--gpus") == flags
    assert ("NVIDIA_VISIBLE_DEVICES=void" in pairs(args, "--env")) is hidden


class Engine:
    """An engine that has every image, and the runtimes that it is given."""

    def __init__(self, *runtimes: str) -> None:
        self.info = {
            "Name": "lab",
            "NCPU": 8,
            "MemTotal": 1 << 34,
            "Runtimes": {name: {} for name in runtimes},
        }

    def json_lines(self, *args: str, timeout: float) -> list[dict[str, Any]]:
        return [self.info]

    def completed(self, *args: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(args, 0)


@pytest.mark.parametrize(
    ("gpus", "runtimes", "told"),
    [
        (None, ["runc", "nvidia"], "every node sees all GPUs of this engine"),
        (None, ["runc"], "training on CPUs: this engine has no nvidia runtime"),
        (0, ["runc", "nvidia"], ""),
        (1, ["runc", "nvidia"], ""),
    ],
)
def test_an_engine_is_asked_for_gpus_before_anything_starts(
    tmp_path: Path, gpus: int | None, runtimes: list[str], told: str
) -> None:
    (tmp_path / "train.py").touch()
    launcher = DockerLauncher(cast(Docker, Engine(*runtimes)))
    wanted = LoadedJob(Job(**JOB | {"nodes": 1, "resources": {"gpus": gpus}}), tmp_path)
    notices = [
        notice.text
        for notice in launcher.check(wanted).notices
        if "GPU" in notice.text or "CPU" in notice.text
    ]
    assert [notice.startswith(told) for notice in notices] == [True] * bool(told)


def test_nodes_that_would_see_the_same_gpus_are_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    launcher = DockerLauncher(cast(Docker, Engine("runc", "nvidia")))
    with pytest.raises(ClusterError, match="all 2 nodes would see the same GPUs") as caught:
        launcher.check(LoadedJob(Job(**JOB), tmp_path))
    assert "--gpus 0" in caught.value.hint and "--backend gloo" in caught.value.hint
    for keys in ({"backend": "gloo"}, {"resources": {"gpus": 0}}, {"resources": {"gpus": 1}}):
        launcher.check(LoadedJob(Job(**JOB | keys), tmp_path))


def test_gpus_that_an_engine_cannot_show_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(ClusterError, match="no nvidia runtime"):
        DockerLauncher(cast(Docker, Engine("runc"))).check(
            LoadedJob(Job(**JOB | {"resources": {"gpus": 1}}), tmp_path)
        )


def test_no_variable_of_the_user_is_in_an_argument() -> None:
    wanted = layout(env={"WANDB_API_KEY": "very-secret"})
    every = [*containers.create_coordinator(wanted), *containers.create_agent(wanted, 0, [])]
    assert not any("very-secret" in word for word in every)


def test_files_are_delivered_with_modes_and_the_secret_is_roots_alone() -> None:
    data = containers.tar({"/opt/swarmtrain/bundle.zip": b"zip"}, {"/run/secrets/swarmtrain": b"secret"})
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        modes = {entry.name: entry.mode for entry in archive}
    assert modes == {
        "opt/swarmtrain": 0o755,
        "run/secrets": 0o755,
        "opt/swarmtrain/bundle.zip": 0o444,
        "run/secrets/swarmtrain": 0o400,
    }
    assert data == containers.tar(
        {"/opt/swarmtrain/bundle.zip": b"zip"}, {"/run/secrets/swarmtrain": b"secret"}
    )


MODEL = {
    "Spec": {
        "Labels": {"swarmtrain.job": "digits", "swarmtrain.role": "agent"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "me/train:1",
                "Command": ["/opt/my python", "/opt/swarmtrain/bundle.zip"],
                "User": "0:0",
                "Env": ["SWARMTRAIN_NODE={{.Node.Hostname}}", "A=b=c"],
                "Configs": [
                    {
                        "ConfigName": "digits-3_bundle-1",
                        "File": {"Name": "/opt/swarmtrain/bundle.zip", "Mode": 292},
                    }
                ],
                "Secrets": [{"SecretName": "digits-3_secret", "File": {"Name": "swarmtrain", "Mode": 256}}],
            },
            "Networks": [{"Target": "netid"}],
        },
    }
}


def test_a_helper_is_made_after_the_runs_own_service_and_goes_with_its_stack() -> None:
    node = Node("abcdefgh1234", "Lab.1")
    args = helpers.create("digits-3", MODEL, node, ["files"], {"SWARMTRAIN_NODE": "Lab.1"})
    assert pairs(args, "--name") == ["digits-3_files-abcdefgh"]
    assert "com.docker.stack.namespace=digits-3" in pairs(args, "--label")
    assert "swarmtrain.role=helper" in pairs(args, "--label")
    assert pairs(args, "--constraint") == ["node.id==abcdefgh1234"]
    assert pairs(args, "--restart-condition") == ["none"]
    assert pairs(args, "--env") == ["SWARMTRAIN_NODE=Lab.1", "A=b=c", "NVIDIA_VISIBLE_DEVICES=void"]
    assert pairs(args, "--config") == ["source=digits-3_bundle-1,target=/opt/swarmtrain/bundle.zip,mode=0444"]
    assert pairs(args, "--secret") == ["source=digits-3_secret,target=swarmtrain,mode=0400"]
    assert pairs(args, "--network") == ["netid"]
    assert pairs(args, "--entrypoint") == ["'/opt/my python' /opt/swarmtrain/bundle.zip"]
    assert args[-2:] == ["me/train:1", "files"]


def test_names_of_helpers_fit_into_what_swarm_allows() -> None:
    node = Node("abcdefgh1234", "a.hostname.with.dots")
    assert len(helpers.service_name("a" * 40 + "-999", "clean", node)) <= 63


class Objects(Docker):
    """An engine with containers and networks, by name, whose labels are all that is known of them."""

    def __init__(self, fails_at: str = "", error: BaseException | None = None) -> None:
        super().__init__()
        self.kept: dict[str, list[str]] = {}
        self.fails_at, self.error = fails_at, error
        self.did: list[tuple[tuple[str, ...], bytes | None]] = []

    def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        code, answer = 0, ""
        self.did.append((args, options.get("input")))
        if self.error is not None and self.fails_at in args:
            raise self.error
        match args:
            case ["info", *_]:
                answer = json.dumps({"NCPU": 8, "MemTotal": 1 << 34, "Runtimes": {}})
            case ["network", "create", *_] | ["create", *_]:
                name = args[-1] if args[0] == "network" else pairs(list(args), "--name")[0]
                code = 1 if name in self.kept else 0
                self.kept.setdefault(name, pairs(list(args), "--label"))
            case ["ps", *_, wanted] | ["network", "ls", *_, wanted]:
                label = wanted.removeprefix("label=")
                found = [name for name, labels in self.kept.items() if label in labels]
                networks = [name for name in found if "swarmtrain.role=network" in self.kept[name]]
                answer = "\n".join(networks if args[0] == "network" else sorted({*found} - {*networks}))
            case ["inspect", _, "container", *ids]:
                answer = json.dumps([self._inspected(each) for each in ids])
            case ["rm", _, *gone] | ["network", "rm", *gone]:
                code = int(any(self.kept.pop(name, None) is None for name in gone))
        return subprocess.CompletedProcess(args, code, answer.encode(), b"exists already" if code else b"")

    def _inspected(self, name: str) -> dict[str, Any]:
        labels = dict(label.split("=", 1) for label in self.kept[name])
        config = {"Labels": labels, "Entrypoint": ["python3"]}
        return {"Id": name, "Image": "sha256:1", "Config": config, "State": {"Status": "running"}}


def submit(engine: Objects, directory: Path) -> None:
    (directory / "train.py").touch()
    launcher = DockerLauncher(engine)
    checked = launcher.check(LoadedJob(Job(**JOB, backend="gloo"), directory))
    launcher.submit(checked, Run("digits", 3, "docker"))


def test_a_submission_that_comes_second_takes_nothing_of_the_first_away(tmp_path: Path) -> None:
    engine = Objects()
    submit(engine, tmp_path)
    first = dict(engine.kept)
    assert first.keys() == {"digits-3", "digits-3-coordinator", "digits-3-node0", "digits-3-node1"}
    with pytest.raises(ClusterError, match="exists already"):
        submit(engine, tmp_path)
    assert engine.kept == first


def test_a_coordinator_hears_that_all_was_started_when_it_was(tmp_path: Path) -> None:
    engine = Objects()
    submit(engine, tmp_path)
    (start, _), (copy, content) = [each for each in engine.did if each[0][0] in ("start", "cp")][-2:]
    assert start == ("start", "digits-3-coordinator", "digits-3-node0", "digits-3-node1")
    assert copy == ("cp", "-", "digits-3-coordinator:/")
    with tarfile.open(fileobj=io.BytesIO(content or b"")) as archive:
        assert archive.getnames() == ["opt/swarmtrain", "opt/swarmtrain/submitted"]


@pytest.mark.parametrize(("age", "live"), [(30, True), (600, False)])
def test_a_run_whose_client_was_killed_before_it_had_started_anything_is_not_in_the_way(
    age: int, live: bool
) -> None:
    """Its containers are there; they may still be started for a while."""

    class Engine(Docker):
        def completed(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
            answer = ""
            match args:
                case ["info", *_]:
                    made = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
                    now = made + datetime.timedelta(seconds=age)
                    answer = json.dumps({"SystemTime": now.strftime("%Y-%m-%dT%H:%M:%S.000000000Z")})
                case ["ps", *_]:
                    answer = "c\na\n"
                case ["inspect", *_]:
                    answer = json.dumps([_unstarted("c", "coordinator"), _unstarted("a", "agent")])
            return subprocess.CompletedProcess(args, 0, answer.encode(), b"")

    launcher = DockerLauncher(Engine())
    (run,) = launcher.runs()
    assert (run.id, run.live, run.rests) == ("digits.3", live, False)
    handle = RunHandle(run, launcher)
    assert handle.is_live() is live
    if not live:
        status = handle.status()
        assert status.state == "failed"
        assert status.reason == "the client that submitted it went before it had started all of it"


def _unstarted(name: str, role: str) -> dict[str, Any]:
    labels = {"swarmtrain.run": "digits.3", "swarmtrain.role": role}
    state = {"Status": "created", "Error": "", "ExitCode": 0, "OOMKilled": False}
    made = "2026-01-01T00:00:00.000000000Z"
    return {"Id": name, "Name": f"/{name}", "Created": made, "State": state, "Config": {"Labels": labels}}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ClusterError("no room")])
def test_nothing_is_left_of_a_submission_that_did_not_come_to_its_end(
    tmp_path: Path, error: BaseException
) -> None:
    engine = Objects("start", error)
    with pytest.raises(type(error)):
        submit(engine, tmp_path)
    assert engine.kept == {}


def test_a_removal_that_is_broken_off_can_be_asked_for_again(tmp_path: Path) -> None:
    """Files that no run tells of would stay for ever."""
    engine, run = Objects(), Run("digits", 3, "docker")
    submit(engine, tmp_path)
    engine.fails_at, engine.error = "--attach", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        DockerLauncher(engine).remove(run)
    assert engine.kept.keys() == {"digits-3", "digits-3-coordinator"}
    engine.error = None
    DockerLauncher(engine).remove(run)
    assert engine.kept == {}
    assert ("start", "--attach", "digits-3-clean") in [args for args, _ in engine.did]


def test_what_no_container_can_clean_is_removed_all_the_same(tmp_path: Path) -> None:
    engine = Objects()
    submit(engine, tmp_path)
    engine.fails_at, engine.error = "--attach", ClusterError("there is no python3 in it")
    with pytest.raises(ClusterError, match="no python3"):
        DockerLauncher(engine).remove(Run("digits", 3, "docker"))
    assert engine.kept == {}


def test_a_place_without_stacks_has_no_plan(tmp_path: Path) -> None:
    wanted = LoadedJob(Job(**JOB), tmp_path)
    for launcher in (DockerLauncher(Objects()), LocalLauncher()):
        with pytest.raises(
            RequestError, match=f"only a run on a Swarm has a stack.*{launcher.name}"
        ) as caught:
            launcher.plan(wanted)
        assert "--on swarm" in caught.value.hint


def test_what_was_checked_of_one_job_is_what_is_submitted_of_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    engine = Objects()
    launcher = DockerLauncher(engine)
    first, second = (
        launcher.check(LoadedJob(Job(**JOB | {"nodes": nodes}, backend="gloo"), tmp_path)) for nodes in (1, 2)
    )
    launcher.submit(first, Run("digits", 3, "docker"))
    assert engine.kept.keys() == {"digits-3", "digits-3-coordinator", "digits-3-node0"}
    launcher.submit(second, Run("digits", 4, "docker"))
    assert {"digits-4-node0", "digits-4-node1"} <= engine.kept.keys()
