"""A published dashboard: what its stack says, what its archive needs, who may read it, and what a reader may ask."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_fakes import FakeLauncher, fixed, status, told
from ruamel.yaml import YAML
from starlette.types import Message
from waiting import until

from swarmtrain.control.client import Client
from swarmtrain.coordinator.agents.connections import AgentConnections
from swarmtrain.coordinator.clients import readers
from swarmtrain.coordinator.clients.requests import ClientRequests
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.docker.command import Docker
from swarmtrain.errors import Refused, RequestError
from swarmtrain.launchers.base import Run
from swarmtrain.launchers.swarm import publishing
from swarmtrain.launchers.swarm.launcher import SwarmLauncher
from swarmtrain.launchers.swarm.published import PublishedDashboard, render, text_of
from swarmtrain.launchers.swarm.publishing import Publisher
from swarmtrain.payload import dashboard
from swarmtrain.payload.bundle import Bundle
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import ReaderRequest, StatusRequest, StopRequest
from swarmtrain.swarm.cluster import Node
from swarmtrain.ui.commands.look.publish import PublishFlags
from swarmtrain.ui.web.published import guard as published_guard
from swarmtrain.ui.web.published.afterwards import KeptPage
from swarmtrain.ui.web.published.guard import PublishedGuard, host_of
from swarmtrain.ui.web.published.reading import PublishedRuns, ReadingLauncher
from swarmtrain.wire.channel import reader_key
from swarmtrain.wire.disk.storage import Storage
from swarmtrain.wire.run_spec import RunSecret, RunSpec
from swarmtrain.wire.sockets import serve

PAGE: dict[str, Any] = {
    "run": "digits.3",
    "stack": "digits-3",
    "created": 1000.0,
    "image": "lab/torch:1",
    "python": "python3",
    "node": Node("n1", "Alice", address="10.0.0.1"),
    "coordinator": "digits-3_coordinator:29400",
    "network": "digits-3_training",
    "digest": "0123456789",
}
BEHIND_TRAEFIK = PublishedDashboard(**PAGE, proxy="web", hosts=("train.lab", "t.lab"))
ON_A_PORT = PublishedDashboard(**PAGE, port=8080)


# ---- the stack


def service(page: PublishedDashboard) -> dict[str, Any]:
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)  # as Docker reads it, whose modes are octal
    document = reader.load(io.StringIO(text_of(page)))
    assert document == render(page)  # the text says what was meant
    found: dict[str, Any] = document["services"]["dashboard"]
    return found


def test_it_has_no_way_to_docker_and_no_secret_in_sight() -> None:
    text = text_of(BEHIND_TRAEFIK)
    assert "docker.sock" not in text
    its = service(BEHIND_TRAEFIK)
    assert its["user"] == "65534:65534" and its["read_only"] and its["cap_drop"] == ["ALL"]
    assert [each["type"] for each in its["volumes"]] == ["tmpfs"]
    (secret,) = its["secrets"]
    assert (secret["uid"], secret["mode"]) == ("65534", 0o400)
    assert set(its["environment"]) == {
        "SWARMTRAIN_RUN",
        "SWARMTRAIN_CREATED",
        "SWARMTRAIN_COORDINATOR",
        "SWARMTRAIN_HOSTS",
        "NVIDIA_VISIBLE_DEVICES",
    }


def test_traefik_finds_its_labels_on_the_service_with_the_port_and_the_network_that_both_are_in() -> None:
    its = service(BEHIND_TRAEFIK)
    assert "labels" not in its  # of the container, which a Swarm's Traefik does not read
    labels = its["deploy"]["labels"]
    assert all(isinstance(value, str) for value in labels.values())
    assert labels["traefik.enable"] == "true"
    assert (
        labels["traefik.http.routers.digits-3.rule"] == "Host(`train.lab`) || Host(`t.lab`)"
        and labels["traefik.http.routers.digits-3.tls"] == "true"
    )
    assert labels["traefik.http.services.digits-3.loadbalancer.server.port"] == "8000"
    named = render(BEHIND_TRAEFIK)["networks"]
    shared = {named[key]["name"] for key in its["networks"]}
    assert shared == {"digits-3_training", "web"} and all(each["external"] for each in named.values())
    assert {labels["traefik.docker.network"], labels["traefik.swarm.network"]} == {"web"}
    assert "ports" not in its and BEHIND_TRAEFIK.address == "https://train.lab/"


def test_a_port_is_opened_on_one_machine_and_only_where_one_was_asked_for() -> None:
    its = service(ON_A_PORT)
    assert its["ports"] == [{"target": 8000, "published": 8080, "protocol": "tcp", "mode": "host"}]
    assert its["deploy"]["placement"]["constraints"] == ["node.id == n1"]
    assert not [label for label in its["deploy"]["labels"] if label.startswith("traefik")]
    assert ON_A_PORT.address == "http://10.0.0.1:8080/"
    assert its["environment"]["SWARMTRAIN_HOSTS"] == "10.0.0.1,alice"


def test_beside_a_run_in_the_machines_own_network_it_has_one_that_is_known_as_its_own() -> None:
    page = PublishedDashboard(**{**PAGE, "network": ""}, port=8080)
    assert service(page)["networks"] == ["dashboard"]  # with none Docker makes one, which --unpublish left
    assert render(page)["networks"] == {
        "dashboard": {"driver": "overlay", "labels": {"swarmtrain.role": "dashboard"}}
    }
    behind = PublishedDashboard(**{**PAGE, "network": ""}, proxy="web", hosts=("t",))
    assert service(behind)["networks"] == ["proxy"]


DOCKER = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> calls
case "$1 $2" in
    "network ls") cat network ;;
    "network rm") test -e tried && : > network; touch tried; test ! -s network ;;
esac
"""


def test_a_network_of_its_own_goes_as_soon_as_the_engine_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_POLL_SECONDS", 0.05)
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "network").write_text("n1\n")
    docker = Docker(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    Publisher(SwarmLauncher(docker), Run("digits", 3, "swarm")).unpublish()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("network rm n1") == 2 and calls[-1].startswith("network ls")


def test_an_address_of_six_is_written_as_browsers_send_it() -> None:
    page = PublishedDashboard(**{**PAGE, "node": Node("n1", "Alice", address="fd00::1")}, port=80)
    assert page.address == "http://[fd00::1]:80/" and host_of("[fd00::1]:80") in page.names


def test_labels_of_ones_own_come_last() -> None:
    page = PublishedDashboard(
        **PAGE, proxy="web", hosts=("t",), labels={"traefik.http.routers.digits-3.entrypoints": "lab"}
    )
    assert service(page)["deploy"]["labels"]["traefik.http.routers.digits-3.entrypoints"] == "lab"


NO_FLAGS = PublishFlags(False, False, False, (), None, None, None, ())


@pytest.mark.parametrize(
    ("changed", "names", "file", "why"),
    [
        ({"publish": True, "unpublish": True}, ["a"], None, "opposites"),
        ({"dry_run": True}, ["a"], None, "how a dashboard is published"),
        ({"host": ("t",)}, [], None, "how a dashboard is published"),
        ({"publish": True}, ["a", "b"], None, "shows one run"),
        ({"publish": True, "host": ("a`) || PathPrefix(`/",)}, ["a"], None, "no name of a host"),
        ({"publish": True, "host": ("a,b",)}, ["a"], None, "no name of a host"),
        ({"publish": True}, ["a"], "run.html", "publishes nothing"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    changed: dict[str, Any], names: list[str], file: str | None, why: str
) -> None:
    flags = PublishFlags(**{**vars(NO_FLAGS), **changed})
    with pytest.raises(RequestError, match=why):
        flags.check(names, file)


# ---- the archive


@pytest.fixture(scope="module")
def built() -> Bundle:
    return dashboard.build()


def test_the_archive_needs_starlette_and_uvicorn_and_nothing_else(tmp_path: Path, built: Bundle) -> None:
    archive = tmp_path / "dashboard.zip"
    archive.write_bytes(built.data)
    away = ("pydantic", "ruamel", "ruamel.yaml", "rich", "torch", "numpy")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({away}))\n")
    done = subprocess.run(
        [sys.executable, str(archive)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    assert "No such file or directory: '/run/secrets/swarmtrain'" in done.stderr  # it has come to its work
    bare = subprocess.run([sys.executable, "-I", "-S", str(archive)], capture_output=True, text=True)
    assert (bare.returncode, bare.stderr) == (dashboard.LACKS, "this image has no starlette and no uvicorn\n")


def test_the_archive_is_the_same_for_the_same_version(built: Bundle) -> None:
    assert dashboard.build() == built


# ---- who may read

HOSTS = frozenset(["train.lab"])
HERE = {"host": "Train.lab:8080"}
COOKIE = {"cookie": "cookie-1=secret"}
DONE = told({"done": {}})
NOTHING_MEASURED = {"series": DONE, "events": DONE, "logs": DONE}


async def _page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def answered(
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes = b"",
    guard: PublishedGuard | None = None,
    *,
    is_whole: bool = True,
) -> tuple[int, dict[str, str]]:
    sent: list[Message] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    said: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": not is_whole}])

    async def receive() -> Message:
        if (message := next(said, None)) is None:
            await asyncio.sleep(60)  # it listens
        return message or {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run((guard or PublishedGuard(_page, "secret", "cookie-1", HOSTS))(scope, receive, send))
    return sent[0]["status"], {key.decode(): value.decode() for key, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", HERE | COOKIE, 299),
        ("HEAD", "/api/runs", HERE | COOKIE, 299),
        ("GET", "/", HERE, 200),  # the front door
        ("GET", "/api/runs", HERE, 403),
        ("GET", "/api/runs", HERE | {"cookie": "cookie-1=secre"}, 403),
        ("GET", "/page/style.css", HERE, 299),
        ("GET", "/", {"host": "10.0.0.1"} | COOKIE, 421),
        ("GET", "/", {"host": "train.lab.evil.example"} | COOKIE, 421),
        ("GET", "/", COOKIE, 421),
        ("POST", "/api/runs", HERE | COOKIE, 405),
        ("DELETE", "/", HERE | COOKIE, 405),
        ("GET", "/", HERE | {"sec-fetch-site": "cross-site"}, 200),
        ("GET", "/api/runs", HERE | COOKIE | {"sec-fetch-site": "cross-site"}, 403),
        ("POST", "/enter", HERE | {"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_who_knows_the_token_reads_under_the_published_name(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert answered(method, path, headers)[0] == status


def test_a_token_that_is_told_once_becomes_a_cookie_that_no_script_reads() -> None:
    status, headers = answered("POST", "/enter", HERE, b"secret")
    assert status == 204
    assert headers["set-cookie"] == "cookie-1=secret; HttpOnly; Path=/; SameSite=strict"
    assert "cross-origin-opener-policy" not in headers  # which browsers complain of over plain HTTP
    _, headers = answered("POST", "/enter", HERE | {"x-forwarded-proto": "https"}, b"secret")
    assert headers["set-cookie"].endswith("; Secure") and "cross-origin-opener-policy" in headers
    for wrong in (b"", b"secre", b"secrets", b"\xff", b"secret" * 1000):
        status, headers = answered("POST", "/enter", HERE, wrong)
        assert status == 403 and "set-cookie" not in headers


def test_who_begins_to_tell_a_token_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_guard, "_SECONDS", 0.01)
    assert answered("POST", "/enter", HERE, b"secr", is_whole=False)[0] == 408


@pytest.mark.parametrize(
    ("header", "host"), [("A.lab:1", "a.lab"), ("a.lab", "a.lab"), ("[fd00::1]:80", "[fd00::1]"), ("", "")]
)
def test_a_host_is_told_from_its_port(header: str, host: str) -> None:
    assert host_of(header) == host


def test_a_run_that_has_ended_is_shown_from_memory_to_who_may_read_it() -> None:
    ended = status(state="succeeded", now=1010.0)
    launcher = FakeLauncher(digits_1=fixed(ended, **NOTHING_MEASURED))
    looks: list[float] = []
    page = KeptPage(Client("local", {"local": launcher}).get("digits.1"), looks.append)
    until(lambda: page.answer() is not None)
    guard = PublishedGuard(_page, "secret", "cookie-1", HOSTS, page.answer)
    code, headers = answered("GET", "/", HERE | COOKIE, guard=guard)
    assert code == 200 and headers["content-security-policy"].startswith("base-uri")
    assert answered("GET", "/", HERE, guard=guard)[1]["content-security-policy"].startswith(
        "default-src 'none'"
    )
    assert answered("GET", "/api/runs", HERE | COOKIE, guard=guard)[0] == 299


def test_a_run_that_goes_on_is_shown_live() -> None:
    launcher = FakeLauncher(digits_1=fixed(status()))
    looks: list[float] = []
    page = KeptPage(Client("local", {"local": launcher}).get("digits.1"), looks.append)
    until(lambda: len(looks) > 2)
    assert page.answer() is None
    launcher.coordinators["digits.1"] = fixed(status(state="failed"), **NOTHING_MEASURED)
    until(lambda: page.answer() is not None)


# ---- what a reader may ask


def read_beside_a_coordinator(directory: Path, read: Callable[[str, str], None]) -> None:
    """What somebody does, in a thread, who has the address of a run's coordinator and the reader's key."""
    place = RunPaths(Storage(directory), "t.1", "t.1", "")
    place.path.mkdir(parents=True)
    run = RunController(RunSpec("t", "script", "train.py"), RunSecret("t.1", "token"), place)
    clients = ClientRequests(run)

    async def scene() -> None:
        server = await serve("127.0.0.1:0", AgentConnections(run, clients.attend).serve)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.to_thread(read, address, reader_key("token"))
        server.close()

    asyncio.run(asyncio.wait_for(scene(), 20))
    for store in (run.journal, run.output, run.progress):
        store.close()


def test_a_reader_reads_and_may_do_nothing_else_and_is_no_agent(tmp_path: Path) -> None:
    def read(address: str, key: str) -> None:
        launcher = ReadingLauncher(Run("t", 1, "swarm"), address, key)
        handle = PublishedRuns(launcher).get("t.1")
        assert handle.status().run == "t.1"
        with launcher.connect(handle.run) as link:
            for forbidden in (StopRequest(), ReaderRequest()):
                with pytest.raises(RequestError, match="only reads"):
                    list(ask(link, forbidden))
            assert [reply.status is not None for reply in ask(link, StatusRequest())] == [True]
        with pytest.raises(RequestError, match="only reads"):
            launcher.remove(handle.run)

    read_beside_a_coordinator(tmp_path, read)


def test_so_many_readers_are_here_at_a_time_and_the_next_one_hears_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MOST", 2)

    def read(address: str, key: str) -> None:
        launcher = ReadingLauncher(Run("t", 1, "swarm"), address, key)
        (its,) = launcher.runs()

        def reads() -> bool:
            with launcher.connect(its) as link:
                return [reply.status is not None for reply in ask(link, StatusRequest())] == [True]

        with launcher.connect(its) as first, launcher.connect(its) as second:
            for link in (first, second):
                assert len(list(ask(link, StatusRequest()))) == 1
            with pytest.raises(Refused, match="2 readers of this run are here already"):
                reads()
            first.close()
            until(lambda: _is_told(reads))

    read_beside_a_coordinator(tmp_path, read)


def _is_told(reads: Callable[[], bool]) -> bool:
    try:
        return reads()
    except Refused:
        return False


def test_a_connection_that_rests_outlives_what_python_collects(tmp_path: Path) -> None:
    def read(address: str, key: str) -> None:
        launcher = ReadingLauncher(Run("t", 1, "swarm"), address, key)
        (its,) = launcher.runs()
        with launcher.connect(its) as link:
            for _ in range(3):
                # One that does not answer any more would be waited for without end.
                limit = threading.Timer(5, link.close)
                limit.start()
                assert [reply.status is not None for reply in ask(link, StatusRequest())] == [True]
                limit.cancel()
                gc.collect()

    read_beside_a_coordinator(tmp_path, read)


def test_a_published_page_knows_its_one_run() -> None:
    runs = PublishedRuns(ReadingLauncher(Run("t", 1, "swarm"), "127.0.0.1:1", "key"))
    assert [each.id for each in runs.runs()] == ["t.1"] and runs.get("t").id == "t.1"
    for other in ("t.2", "u"):
        with pytest.raises(RequestError, match="not shown here"):
            runs.get(other)
