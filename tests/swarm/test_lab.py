"""The lab is a real Swarm, and its machines can be treated badly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from engines import ENGINES

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.lab.lab import Lab
from swarmtrain.lab.names import pretend_gpus
from swarmtrain.lab.releases import RELEASES

# A Swarm notices a dead node after three missed heartbeats of 5 s each.
NOTICED = 40.0
SERVICE = "swarmtrain-lab-test"


def eventually(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``holds`` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not after {seconds:g} s: {what}"
        time.sleep(0.2)
    return value


def state(lab: Lab, name: str) -> str:
    return lab.manager.swarm_states()[name]


def is_ready(lab: Lab, name: str) -> bool:
    return state(lab, name) == "Ready"


def starts(lab: Lab) -> list[str]:
    """Which containers the nodes are, and since when they run."""
    form = "{{.Id}} {{.State.StartedAt}}"
    return [lab.engine.run("inspect", "--format", form, node.container) for node in lab.nodes()]


def tasks(lab: Lab) -> list[dict[str, Any]]:
    return lab.manager.docker.json_lines("service", "ps", SERVICE, "--no-trunc")


@pytest.fixture
def serve(lab: Lab, torch_image: str) -> Iterator[Callable[..., None]]:
    """Create the test's service, with these options and this command."""

    def create(*options: str, image: str = torch_image, command: str = "sleep 600") -> None:
        lab.manager.docker.run(
            *("service", "create", "--detach", "--no-resolve-image", "--name", SERVICE),
            *("--stop-grace-period", "0s", *options, image, "sh", "-c", command),
        )

    yield create
    lab.manager.docker.run("service", "rm", SERVICE, check=False)


def test_three_nodes_are_ready(lab: Lab) -> None:
    status = lab.status()
    assert [node.name for node in status] == ["lab-1", "lab-2", "lab-3"]
    assert {(node.machine, node.swarm, node.gpus) for node in status} == {("running", "Ready", 2)}
    assert [node.role for node in status] == ["manager", "worker", "worker"]
    assert len({node.address for node in status}) == 3


def test_nodes_have_the_engine_that_was_asked_for(lab: Lab) -> None:
    wanted = ENGINES * 3 if len(ENGINES) == 1 else ENGINES
    assert tuple(node.engine for node in lab.status()) == wanted
    for node, release in zip(lab.nodes(), wanted, strict=True):
        version = node.docker.run("version", "--format", "{{.Server.Version}}")
        assert version.startswith(RELEASES[release].engine)


def test_a_node_reaps_the_orphans_of_what_runs_on_it(lab: Lab) -> None:
    """The shell ends before its child does, which then is the child of the machine's first process."""
    node = lab.node("lab-2")
    node.exec("sh", "-c", "for i in 1 2 3; do sh -c 'sleep 0.3 & exit 0'; done")
    time.sleep(1.0)
    states = [line.split() for line in node.exec("ps", "-e", "-o", "stat=,comm=").splitlines()]
    assert [comm for stat, comm in states if stat.startswith("Z") and comm == "sleep"] == []


@pytest.mark.long
def test_a_lab_may_have_a_different_engine_on_each_node(small_lab: Lab) -> None:
    """Making one anew of another engine leaves the others alone."""
    small_lab.up(nodes=2, cpus=0.5, engines=("bookworm", "sid"))
    first = small_lab.engine.run("inspect", "--format", "{{.Id}}", small_lab.node(1).container)
    assert [node.engine for node in small_lab.status()] == ["bookworm", "sid"]
    small_lab.up(nodes=2, cpus=0.5, engines=("bookworm", "trixie"))
    versions = [
        node.docker.run("version", "--format", "{{.Server.Version}}").split("+")[0]
        for node in small_lab.nodes()
    ]
    assert [version.rpartition(".")[0] for version in versions] == ["20.10", "26.1"]
    assert small_lab.engine.run("inspect", "--format", "{{.Id}}", small_lab.node(1).container) == first
    assert {node.swarm for node in small_lab.status()} == {"Ready"}


def test_second_up_is_quick_and_changes_nothing(lab: Lab) -> None:
    before = starts(lab)
    start = time.monotonic()
    lab.up()
    assert time.monotonic() - start < 10
    assert starts(lab) == before


def test_docker_context_leads_to_the_manager(lab: Lab) -> None:
    name = Docker(context=lab.context).run("info", "--format", "{{.Name}}").strip()
    assert name == "lab-1"


def test_lab_is_found_while_docker_points_into_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", lab.host)
    assert [node.name for node in Lab(lab.names.lab).nodes()] == ["lab-1", "lab-2", "lab-3"]


@pytest.mark.long
def test_frozen_node_goes_down_and_comes_back(lab: Lab) -> None:
    lab.node("lab-3").pause()
    eventually(lambda: state(lab, "lab-3") == "Down", NOTICED, "the frozen node is Down")
    assert lab.status()[2].machine == "paused"
    lab.node("lab-3").unpause()
    eventually(lambda: state(lab, "lab-3") == "Ready", NOTICED, "the thawed node is Ready")


def test_freezing_a_node_freezes_its_containers(lab: Lab, torch_image: str) -> None:
    node = lab.node("lab-2")
    tick = "import time\nfor _ in range(60): print(time.monotonic(), flush=True); time.sleep(0.05)"
    container = node.docker.run("run", "--detach", torch_image, "python", "-c", tick).strip()
    try:
        eventually(lambda: node.docker.run("logs", container), 10, "it ticks")
        node.pause()
        time.sleep(2)
        node.unpause()
        node.docker.run("wait", container)
        ticks = [float(line) for line in node.docker.run("logs", container).split()]
    finally:
        node.docker.run("rm", "--force", container)
    assert max(later - earlier for earlier, later in pairwise(ticks)) > 1.8


def test_cpu_share_of_a_node_holds_for_its_containers(lab: Lab, torch_image: str) -> None:
    work = (
        "import time as t; s = t.monotonic(), t.process_time()\n"
        "while t.monotonic() - s[0] < 3: pass\n"
        "print((t.process_time() - s[1]) / (t.monotonic() - s[0]))"
    )
    shared = "{{.HostConfig.NanoCpus}}"
    share = int(lab.engine.run("inspect", "--format", shared, lab.node("lab-2").container)) / 1e9
    used = float(lab.node("lab-2").docker.run("run", "--rm", torch_image, "python", "-c", work))
    assert used < share * 1.15


@pytest.mark.long
def test_unplugged_node_goes_down_and_has_its_address_when_plugged(lab: Lab) -> None:
    node = lab.node("lab-2")
    address = lab.status()[1].address
    node.unplug()
    assert lab.status()[1].address == ""
    assert node.engine_answers()
    eventually(lambda: state(lab, "lab-2") == "Down", NOTICED, "the unplugged node is Down")
    node.plug()
    eventually(lambda: state(lab, "lab-2") == "Ready", NOTICED, "the plugged node is Ready")
    assert lab.status()[1].address == address
    assert node.interface()


def test_node_without_power_keeps_its_images(lab: Lab, torch_image: str) -> None:
    node = lab.node("lab-3")
    node.kill()
    assert node.machine() == "exited"
    node.start()
    assert state(lab, "lab-3") == "Ready"
    assert node.docker.json("image", "inspect", torch_image)


def test_manager_survives_a_power_cut(lab: Lab) -> None:
    before = lab.manager.swarm()["Cluster"]["ID"]
    lab.manager.kill()
    lab.manager.start()
    assert lab.manager.swarm()["Cluster"]["ID"] == before
    for name in ("lab-2", "lab-3"):
        eventually(partial(is_ready, lab, name), NOTICED, f"{name} finds its manager")


def test_up_repairs_whatever_was_done_to_the_nodes(lab: Lab) -> None:
    lab.node("lab-1").pause()
    lab.node("lab-2").unplug()
    lab.engine.run("rm", "--force", lab.node("lab-3").container)
    lab.up()
    assert {(node.machine, node.swarm) for node in lab.status()} == {("running", "Ready")}
    everyone = {node.address() for node in lab.nodes()}
    assert [node.peers() for node in lab.nodes()] == [everyone] * 3


def test_up_helps_an_engine_that_has_lost_itself(lab: Lab) -> None:
    """One that is back before its peers saw it go may be told that it went, and takes no part in overlay networks."""
    for _ in range(2):
        container = lab.node("lab-3").container
        lab.engine.run("kill", container)
        lab.engine.run("start", container)
        lab.node("lab-3").wait_for_engine()
    lab.up()
    everyone = {node.address() for node in lab.nodes()}
    assert [node.peers() for node in lab.nodes()] == [everyone] * 3


@pytest.fixture
def small_lab() -> Iterator[Lab]:
    """Another lab beside the one that all tests share."""
    lab = Lab("test-small")
    yield lab
    lab.down()


def remains(lab: Lab) -> list[str]:
    """What there is on the host of a lab."""
    ours = ("--quiet", "--filter", f"label=swarmtrain.lab={lab.names.lab}")
    found = [lab.engine.run(*kind, *ours) for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls"))]
    contexts = [row["Name"] for row in lab.engine.json_lines("context", "ls")]
    found += [name for name in contexts if name == lab.context]
    found += [str(path) for path in [lab.names.directory] if path.exists()]
    return [each for each in found if each]


def test_lab_grows_mends_a_node_that_lost_its_disk_shrinks_and_leaves_nothing(small_lab: Lab) -> None:
    small_lab.up(nodes=1, cpus=0.5, gpus=0, engines=ENGINES[:1])
    small_lab.up(nodes=2, cpus=0.5, gpus=0)
    assert sorted(small_lab.manager.swarm_states()) == ["lab-1", "lab-2"]
    container = small_lab.node("lab-2").container
    small_lab.engine.run("rm", "--force", container)
    small_lab.engine.run("volume", "rm", container)
    small_lab.up(nodes=2, cpus=0.5, gpus=0)
    members = small_lab.manager.docker.json_lines("node", "ls")
    assert sorted(row["Hostname"] for row in members) == ["lab-1", "lab-2"]
    small_lab.up(nodes=1, cpus=0.5, gpus=1)
    assert list(small_lab.manager.swarm_states()) == ["lab-1"]
    assert small_lab.status()[0].gpus == 1
    small_lab.down()
    assert remains(small_lab) == []
    assert small_lab.status() == []


def test_failed_up_leaves_nothing(small_lab: Lab) -> None:
    with pytest.raises(ClusterError, match="CPUs"):
        small_lab.up(nodes=2, cpus=10_000)
    assert remains(small_lab) == []


def test_link_is_limited_and_freed(lab: Lab) -> None:
    node = lab.node("lab-2")
    node.limit("200mbit")
    assert lab.status()[1].rate == 200_000_000
    node.limit("1gbit")
    assert node.rate() == 1_000_000_000
    node.limit(None)
    node.limit(None)
    assert node.rate() is None


def test_tasks_on_different_nodes_find_each_other_by_name(lab: Lab, serve: Callable[..., None]) -> None:
    docker = lab.manager.docker
    docker.run("network", "create", "--driver", "overlay", "--attachable", SERVICE)
    try:
        listen = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)"
        serve(
            *("--mode", "global", "--network", SERVICE, "--endpoint-mode", "dnsrr"),
            *("--hostname", "on-{{.Node.Hostname}}"),
            command=f"exec python -c '{listen}'",
        )
        eventually(
            lambda: sum(task["CurrentState"].startswith("Running") for task in tasks(lab)) == 3,
            60,
            "one task runs on each node",
        )
        container = docker.run("ps", "--quiet", "--filter", f"name={SERVICE}").strip()
        get = "import sys, urllib.request as u; print(u.urlopen(f'http://on-{sys.argv[1]}:8000').status)"

        def answers(name: str) -> bool:
            return docker.run("exec", container, "python", "-c", get, name, check=False) == "200\n"

        for name in ("lab-2", "lab-3"):
            eventually(partial(answers, name), 60, f"{name} answers over the overlay network")
    finally:
        docker.run("service", "rm", SERVICE, check=False)
        eventually(
            lambda: docker.completed("network", "rm", SERVICE).returncode == 0,
            30,
            "the network can be removed",
        )


def test_pretend_gpus_are_scheduled(lab: Lab, serve: Callable[..., None]) -> None:
    serve(
        *("--generic-resource", "gpu=2", "--constraint", "node.hostname==lab-3"),
        command="echo $DOCKER_RESOURCE_GPU; sleep 600",
    )
    task = eventually(
        lambda: [task for task in tasks(lab) if task["CurrentState"].startswith("Running")], 30, "it runs"
    )[0]
    shown = eventually(
        lambda: lab.manager.docker.run("service", "logs", "--raw", task["ID"]), 10, "its output"
    )
    assert sorted(shown.strip().split(",")) == sorted(pretend_gpus(lab.names.lab, 3, 2))


def test_more_gpus_than_a_node_has_are_refused(lab: Lab, serve: Callable[..., None]) -> None:
    serve("--generic-resource", "gpu=3")
    error = eventually(lambda: tasks(lab) and tasks(lab)[0]["Error"], 20, "the scheduler says why not")
    assert "insufficient resources" in error


def test_missing_image_fails_fast(lab: Lab, serve: Callable[..., None]) -> None:
    start = time.monotonic()
    serve("--restart-condition", "none", image="no.such.registry/image:none")
    eventually(
        lambda: any("No such image" in task["Error"] for task in tasks(lab)), 10, "the task is rejected"
    )
    assert time.monotonic() - start < 10


def test_unknown_name_is_refused_at_once(lab: Lab, serve: Callable[..., None]) -> None:
    if not json.loads((lab.names.node_directory(1) / "daemon.json").read_text()).get("dns"):
        return  # a registry can be reached from here, so names are looked up as on any other machine
    start = time.monotonic()
    done = lab.manager.docker.completed("pull", "no.such.registry/image:none")
    assert done.returncode != 0
    assert time.monotonic() - start < 5


def test_loading_again_is_free_and_an_unknown_image_an_error(lab: Lab, torch_image: str) -> None:
    start = time.monotonic()
    lab.load(torch_image)
    assert time.monotonic() - start < 5
    with pytest.raises(RequestError, match="holds no image nothing:here"):
        lab.load("nothing:here")
