"""`dashboard --publish` on a real Swarm: a service that a real browser opens with its token, and nothing left of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import SWARMTRAIN, Visit, chromium
from page_image import ensure_page_image
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.docker.command import Docker
from swarmtrain.lab.lab import Lab

SCRIPT = """
import time
from swarmtrain.trainer import report
for step in range(1, 5000):
    report(loss=1 / step, step=step)
    print("step", step, flush=True)
    time.sleep(0.1)
"""
PORT = 8080


def dashboard(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [SWARMTRAIN, "dashboard", "shown", "--on", "swarm", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180)


def left() -> list[str]:
    """What there is of published dashboards."""
    label = ("--filter", "label=swarmtrain.role=dashboard")
    kinds = ("service", "config", "secret")
    return [name for kind in kinds for name in Docker().run(kind, "ls", "--quiet", *label).split()]


@pytest.fixture
def run(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunHandle]:
    """A run that trains, whose page is nowhere yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    handle = Client("swarm").run(Job(script="train.py", name="shown", image=torch_image, nodes=2))
    try:
        until(lambda: (handle.status().step or 0) > 0, 60)
        yield handle
    finally:
        if Client("swarm").runs():
            handle.remove(force=True)
        assert left() == []


def test_a_run_is_published_opened_with_its_token_and_taken_away(run: RunHandle, machines: Lab) -> None:
    done = dashboard("--publish", "--port", str(PORT), "--image", ensure_page_image(machines))
    assert done.returncode == 0, done.stderr
    address, _, token = done.stdout.strip().partition("#token=")
    assert urlsplit(address).netloc == f"{machines.node(1).address()}:{PORT}" and len(token) > 30
    with chromium() as browser:
        stranger = Visit(browser)
        stranger.page.goto(address)
        stranger.page.get_by_label("Token").fill("guess")
        stranger.page.keyboard.press("Enter")
        stranger.until("document.getElementById('said').textContent === 'This is not the token.'")
        assert stranger.page.request.get(f"{address}api/runs").status == 403
        stranger.page.get_by_label("Token").fill(token)
        stranger.page.keyboard.press("Enter")
        stranger.page.wait_for_selector("#tiles")
        (cookie,) = stranger.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

        guest = Visit(browser)  # with the whole address that was printed
        guest.page.goto(done.stdout.strip())
        guest.page.wait_for_selector("#tiles")
        guest.until("document.body.innerText.includes('shown.1')")
        guest.until("document.getElementById('state').textContent === 'running'")
        for visit in (stranger, guest):  # it goes on before their eyes
            step = "Number(document.querySelector('#tiles dd').textContent.replace(/\\D/g, ''))"
            visit.until(f"{step} > 0")
            before = visit.page.evaluate(step)
            visit.until(f"{step} > {before}")
        assert guest.page.url == address and guest.complaints == []
        assert not [
            each for each in (*guest.addresses, *stranger.addresses) if token in each.partition("#")[0]
        ]
        assert {urlsplit(each).netloc for each in guest.addresses} == {urlsplit(address).netloc}
    containers = Docker().run("service", "inspect", "shown-1_dashboard") + Docker().run(
        "service", "logs", "--raw", "shown-1_dashboard"
    )
    assert token not in containers and "docker.sock" not in containers
    assert dashboard("--unpublish").returncode == 0
    assert left() == []
    again = dashboard("--unpublish")
    assert again.returncode == 2 and "is not published" in again.stderr
    assert run.status().state == "running"


@pytest.mark.long
def test_a_run_that_has_ended_is_shown_when_its_coordinator_has_gone(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT.replace("5000", "200"))
    job = Job(script="train.py", name="shown", image=torch_image, nodes=1, linger=10.0)
    handle = Client("swarm").run(job)
    try:
        done = dashboard("--publish", "--port", str(PORT), "--image", ensure_page_image(machines))
        assert done.returncode == 0, done.stderr
        assert handle.wait(120).state == "succeeded"
        until(lambda: Client("swarm").get("shown").run.rests, 60)
        with chromium() as browser:
            guest = Visit(browser)
            guest.page.goto(done.stdout.strip())
            guest.page.wait_for_selector("#tiles")
            guest.until("document.getElementById('state').textContent === 'succeeded'")
            guest.until("document.getElementById('foot').textContent.startsWith('Kept on')")
            guest.until("document.body.innerText.includes('step 199')")
            assert guest.complaints == []
    finally:
        handle.remove(force=True)
    assert left() == []


@pytest.mark.long
def test_an_image_without_a_server_is_refused_with_what_it_lacks_and_nothing_is_left(run: RunHandle) -> None:
    done = dashboard("--publish", "--port", str(PORT))
    assert done.returncode == 3 and "RUN pip install starlette uvicorn" in done.stderr, done.stderr
    assert left() == []
    done = dashboard("--publish", "--network", "no-such-web", "--host", "train.lab")
    assert done.returncode == 3 and "there is no overlay network no-such-web" in done.stderr


def test_a_run_that_is_removed_takes_its_page_along_also_out_of_a_network_of_others(
    run: RunHandle, machines: Lab
) -> None:
    Docker().run("network", "create", "--driver", "overlay", "web")
    try:
        flags = ("--network", "web", "--host", "train.lab", "--image", ensure_page_image(machines))
        shown = dashboard("--publish", "--dry-run", *flags)
        assert "traefik.http.routers.shown-1.rule" in shown.stdout and left() == []
        done = dashboard("--publish", *flags)
        assert done.returncode == 0 and done.stdout.startswith("https://train.lab/#token="), done.stderr
        assert len(left()) == 3
        run.remove(force=True)
        assert left() == [] and Client("swarm").runs() == []
    finally:
        Docker().run("network", "rm", "web")
