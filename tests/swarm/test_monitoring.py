"""deploy/monitoring on a real Swarm, with Debian's Prometheus and Alertmanager: runs and machines are found, a failed
run is alerted of, by Alertmanager and by itself, and every query of the dashboard is one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_images import DIRECTORY, debian_image
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.docker.command import Docker
from swarmtrain.job import Alerting, Restart
from swarmtrain.job.fields import ExistingNetwork
from swarmtrain.lab.lab import Lab

PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
WITHOUT_VALUES = ("Where a step's time goes (rank 0)", "GPUs busy", "GPU temperature")
STACK, HOOK = "monitoring", "alert-hook"
SECRET = "s3cr3t-of-mine"
LISTEN = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
HTTPServer(("", 8000), Hook).serve_forever()
"""
TRAIN = """
import sys, time
from swarmtrain.trainer import report
for step in range(1, 10000):
    report(step=step, loss=1.0 / step)
    time.sleep(0.05)
    if step > 100 and "fail" in sys.argv:
        raise ValueError("planted")
"""


@pytest.fixture
def monitored(whole_lab: Lab, monkeypatch: pytest.MonkeyPatch, torch_image: str) -> Iterator[Docker]:
    """The lab's Swarm with the stack on it, and with a webhook in its network that prints what it gets."""
    images = {package: debian_image(whole_lab.engine, package) for package in PACKAGES}
    whole_lab.load(*images.values())
    monkeypatch.setenv("DOCKER_HOST", whole_lab.host)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    for variable, package in zip(("PROMETHEUS", "ALERTMANAGER", "NODE_EXPORTER"), PACKAGES, strict=True):
        monkeypatch.setenv(f"{variable}_IMAGE", images[package])
    swarm = Docker()
    address = f"http://{HOOK}:8000/{SECRET}".encode()
    try:
        subprocess.run(
            ["docker", "secret", "create", "alert_url", "-"], input=address, check=True, capture_output=True
        )
        swarm.run("stack", "deploy", "--resolve-image", "never", "-c", str(DIRECTORY / "stack.yml"), STACK)
        swarm.run(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", HOOK),
            *("--endpoint-mode", "dnsrr"),
            *("--network", "monitoring", torch_image, "python3", "-uc", LISTEN),
        )
        yield swarm
    finally:
        swarm.completed("service", "rm", HOOK)
        swarm.completed("stack", "rm", STACK)
        until(
            lambda: not swarm.run("network", "ls", "-q", "--filter", "name=^monitoring$").strip(),
            90,
            "its end",
        )
        swarm.completed("secret", "rm", "alert_url")


def query(swarm: Docker, expression: str) -> str | None:
    """What Prometheus answers, as promtool prints it; None where it does not answer, or refuses."""
    found = swarm.run(
        "ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={STACK}_prometheus"
    ).split()
    if not found:
        return None
    asked = ["promtool", "query", "instant", "http://localhost:9090", expression]
    done = swarm.completed("exec", found[0], *asked)
    return done.stdout.decode() if done.returncode == 0 else None


def queried(swarm: Docker, expression: str) -> str:
    """The same; empty where it does not answer yet."""
    return query(swarm, expression) or ""


def heard(swarm: Docker) -> list[dict[str, object]]:
    """What the webhook got, in Slack's form and in ours."""
    logs = swarm.run("service", "logs", "--raw", HOOK)
    return [json.loads(line) for line in logs.splitlines() if line.startswith("{")]


@pytest.mark.long
def test_debians_prometheus_finds_runs_and_machines_and_a_failed_one_is_alerted_of(
    monitored: Docker, tmp_path: Path, torch_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_URL", f"http://{HOOK}:8000/{SECRET}")
    (tmp_path / "train.py").write_text(TRAIN)
    client = Client("swarm")
    job = Job(
        name="watched",
        script="train.py",
        args=("fail",),
        nodes=2,
        image=torch_image,
        network=ExistingNetwork(existing="monitoring"),
        metrics_port=9464,
        restart=Restart(max=0),
        alerts=Alerting(webhook=["HOOK_URL"]),
    )
    handle = client.run(job)
    try:
        until(lambda: 'rank="1"' in queried(monitored, "swarmtrain_train_loss"), 120, "the loss of each rank")
        assert 'instance="watched-1_coordinator"' in queried(monitored, 'up{job="swarmtrain"} == 1')
        machines = queried(monitored, 'node_memory_MemTotal_bytes{job="node"} > 1e9')
        assert all(f'instance="lab-{number}"' in machines for number in (1, 2, 3)), machines
        assert handle.wait(timeout=120).state == "failed"
        until(lambda: len(heard(monitored)) >= 2, 120, "the run's own alert, and that of Alertmanager")
        own = next(each for each in heard(monitored) if "kind" in each)
        assert (own["kind"], own["title"]) == ("failed", "watched.1 failed") and "planted" in str(own["text"])
        assert "watched.1 failed" in str(next(each for each in heard(monitored) if "attachments" in each))
        for panel in json.loads((DIRECTORY / "dashboard.json").read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$run", "watched.1").replace("$__rate_interval", "1m")
                answered = query(monitored, expression)
                assert answered is not None, expression
                # Of a script that only reports, on machines without GPUs, there is no more.
                if panel["title"] in WITHOUT_VALUES:
                    assert not answered.strip(), panel["title"]
                else:
                    assert answered.strip(), panel["title"]
        text = json.dumps([event.dump() for event in handle.events()]) + monitored.run(
            "service", "inspect", "watched-1_coordinator"
        )
        assert SECRET not in text and "alert_sent" in text
    finally:
        handle.remove(force=True)


def test_a_coordinator_in_a_container_tells_a_command_and_serves_its_own_network(
    machines: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    page = ["sh", "-c", 'grep -q "\\"kind\\": \\"finished\\"" && test "$TOKEN" = of-the-job']
    job = Job(
        name="told",
        script="train.py",
        image=torch_image,
        env={"TOKEN": "of-the-job"},
        metrics_port=9464,
        alerts=Alerting(command=page),
    )
    handle = Client("swarm").run(job)
    try:
        until(lambda: (handle.status().step or 0) > 10, 120, "some steps")
        ask = (
            "import sys, urllib.request as u; sys.exit(b'_train_loss{' not in u.urlopen(sys.argv[1]).read())"
        )
        assert handle.exec(["python3", "-c", ask, "http://coordinator:9464/metrics"], rank=0) == 0
        handle.stop()
        until(lambda: [each.kind for each in handle.events()][-1] == "alert_sent", 30, "what was told")
        assert "finished) was sent to command sh: ended with exit status 0" in [*handle.events()][-1].text
    finally:
        handle.remove(force=True)
