"""A private image from a registry with a password: nodes pull it with the login of whoever submits, and not without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_images import debian_image
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.startup import CannotStart
from swarmtrain.docker.command import Docker
from swarmtrain.lab.lab import Lab

PORT = 5000
USER, PASSWORD = "lab", b"lab-registry"
ITS_HASH = b"$2b$04$uvZk3zJ25CNyMi9IYfk2Au0zWv3s1e6yHKnGqyuXOgicMTt0/5/LS"  # by bcrypt, of 16 rounds
REGISTRY = "registry-of-a-lab"


@pytest.fixture
def image(machines: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an image that only a registry on the first node holds. Nobody is logged in."""
    registry, python = (debian_image(machines.engine, package) for package in ("docker-registry", "python3"))
    machines.load(registry, python)
    address = f"{machines.node(1).address()}:{PORT}"
    private = f"{address}/private/train:1"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "of-another"))
    certificate, key = _certificate(tmp_path, str(machines.node(1).address()))
    swarm = Docker()
    given = {"users": f"{USER}:".encode() + ITS_HASH, "certificate": certificate, "key": key}
    try:
        for name, content in given.items():
            swarm.run("config", "create", f"{REGISTRY}-{name}", "-", input=content)
        swarm.run(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", REGISTRY),
            *(
                "--constraint",
                "node.hostname==lab-1",
                "--publish",
                f"mode=host,target={PORT},published={PORT}",
            ),
            *(word for name in given for word in ("--config", f"source={REGISTRY}-{name},target=/{name}")),
            *("--env", "REGISTRY_AUTH=htpasswd", "--env", "REGISTRY_AUTH_HTPASSWD_REALM=lab"),
            *("--env", "REGISTRY_AUTH_HTPASSWD_PATH=/users", "--env", f"REGISTRY_HTTP_ADDR=:{PORT}"),
            *("--env", "REGISTRY_HTTP_TLS_CERTIFICATE=/certificate", "--env", "REGISTRY_HTTP_TLS_KEY=/key"),
            *(registry, "serve", "/etc/docker/registry/config.yml"),
        )
        for node in machines.nodes():
            trusted = f"/etc/docker/certs.d/{address}"
            node.exec("sh", "-c", f"mkdir -p {trusted} && echo '{certificate.decode()}' > {trusted}/ca.crt")
        with pytest.MonkeyPatch.context() as login:
            login.setenv("DOCKER_CONFIG", str(tmp_path / "of-mine"))
            until(lambda: _logged_in(swarm, address), what="an answer of the registry")
            swarm.run("tag", python, private)
            swarm.run("push", private, timeout=120)
        _forget(machines, private, python)
        yield private
    finally:
        swarm.completed("service", "rm", REGISTRY)
        for name in given:
            config = f"{REGISTRY}-{name}"
            until(lambda config=config: _gone(swarm, config), what="the registry's end")  # type: ignore[misc]
        _forget(machines, private, python)


def _certificate(directory: Path, address: str) -> tuple[bytes, bytes]:
    """One that is its own authority, and its key."""
    files = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{address}"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files[0].read_bytes(), files[1].read_bytes()


def _logged_in(swarm: Docker, address: str) -> bool:
    asked = ["login", "--username", USER, "--password-stdin", address]
    return swarm.completed(*asked, input=PASSWORD).returncode == 0


def _gone(swarm: Docker, config: str) -> bool:
    swarm.completed("config", "rm", config)
    return not swarm.run("config", "ls", "--quiet", "--filter", f"name={config}").strip()


def _forget(machines: Lab, *images: str) -> None:
    for node in machines.nodes():
        node.docker.completed("image", "rm", "--force", *images)


@pytest.mark.long
def test_nodes_pull_a_private_image_with_the_login_of_who_submits(
    image: str, machines: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("print('pulled')\n")
    monkeypatch.chdir(tmp_path)
    job = Job(name="private", script="train.py", files=("train.py",), image=image, nodes=3, start="cold")
    client = Client("swarm")
    with pytest.raises(CannotStart, match=f"have no image {image} and cannot pull it"):
        client.run(job)
    refused = client.get("private")
    try:
        assert "docker login" in str(refused.explain().dump())
    finally:
        refused.remove(force=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "of-mine"))
    handle = client.run(job)
    try:
        assert handle.wait(timeout=120).state == "succeeded", handle.explain()
        assert all(
            image in node.docker.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
            for node in machines.nodes()
        )
    finally:
        handle.remove(force=True)
