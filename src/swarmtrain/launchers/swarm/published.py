"""The stack of a published dashboard: one small service beside a run, which reads it and changes nothing. Pure.

It is deployed under the name of the run's stack, so that whatever removes the run takes it along. What each setting is
for:

- **No socket of Docker's.** Whoever has that is root on every node. The service reaches the coordinator over the run's
  network, with a key that reads and does nothing else (`wire/channel.py`).
- One secret with that key and the page's token; neither is in a label, an argument or a variable.
- ``user``, ``read_only`` and ``cap_drop``: what breaks out of the server finds nothing to write to, but for a tmpfs
  into which the archive unpacks itself.
- ``resources``: the machine may train, too.
- Traefik's labels stand below ``deploy``, where its Swarm provider reads them; on the container it would not. They name
  the port, which it cannot guess in a Swarm, and the network that Traefik shares with the service: of two it would
  take either. Traefik 2 reads ``traefik.docker.network``, Traefik 3 ``traefik.swarm.network``.
- A port is opened only where one was asked for, on the one machine that the service is pinned to, without the ingress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmtrain.docker.compose import Octal, dump
from swarmtrain.swarm.cluster import Node
from swarmtrain.swarm.parts import NO_GPU, VERSION, Document, ordered
from swarmtrain.wire import names

SECRET = "dashboard-secret"
ARCHIVE = "dashboard.zip"
_USER = "65534"  # nobody
_HEADER = """\
# The dashboard of {run} as a service beside it, made by swarmtrain: `swarmtrain dashboard {run} --publish` deploys it.
# `{secret}` is made anew each time: it holds the token of the page, and the key by which the run is read.
"""


@dataclass(frozen=True)
class PublishedDashboard:
    """All that the service is made of.

    Args:
        run: its id, ``digits.3``.
        stack: of the run.
        created: when the run was submitted, as Unix time.
        image: with Python, starlette and uvicorn.
        python: the interpreter in it.
        node: where it runs.
        coordinator: the address of the run's, host and port.
        network: in which that is; empty for the machine's own.
        proxy: the network of a reverse proxy; empty for none.
        hosts: the names under which the page may be opened, the one that is told to people first.
        port: of the node, that is opened; None for none.
        labels: of the service, besides Traefik's or in their place.
        digest: of the archive.
    """

    run: str
    stack: str
    created: float
    image: str
    python: str
    node: Node
    coordinator: str
    network: str
    proxy: str = ""
    hosts: tuple[str, ...] = ()
    port: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def service(self) -> str:
        """The full name of its service."""
        return f"{self.stack}_{names.DASHBOARD_SERVICE}"

    @property
    def names(self) -> tuple[str, ...]:
        """All names that its server answers to: also those of a machine whose port is opened."""
        of_node = (_in_address(self.node.address), self.node.hostname) if self.port is not None else ()
        return tuple(dict.fromkeys(name.lower() for name in (*self.hosts, *of_node) if name))

    @property
    def address(self) -> str:
        """Where a person opens it."""
        if self.port is None:
            return f"https://{self.hosts[0]}/"
        name = self.hosts[0] if self.hosts and not self.proxy else self.node.address
        return f"http://{_in_address(name)}:{self.port}/"


def render(page: PublishedDashboard) -> Document:
    """The Compose document."""
    ours = {names.LABEL_ROLE: names.DASHBOARD_SERVICE}
    archive = f"{names.DASHBOARD_SERVICE}-{page.digest}"
    networks = _networks(page, ours)
    service: Document = {
        "image": page.image,
        "user": f"{_USER}:{_USER}",
        "entrypoint": [page.python, names.DASHBOARD],
        "command": [],
        "read_only": True,
        "cap_drop": ["ALL"],
        "environment": {
            names.ENV_RUN: page.run,
            names.ENV_CREATED: f"{page.created:.3f}",
            names.ENV_COORDINATOR: page.coordinator,
            names.ENV_HOSTS: ",".join(page.names),
            **NO_GPU,
        },
        "networks": list(networks),
        "configs": [{"source": archive, "target": names.DASHBOARD, "mode": Octal(0o444)}],
        "secrets": [
            {
                "source": SECRET,
                "target": names.SECRET.rpartition("/")[2],
                "uid": _USER,
                "gid": _USER,
                "mode": Octal(0o400),
            }
        ],
        "volumes": [{"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 32 << 20}}],
        "healthcheck": {"disable": True},
        "stop_grace_period": "5s",
        "deploy": {
            "endpoint_mode": "dnsrr",
            "labels": ours | _traefik(page) | dict(page.labels),
            "placement": {"constraints": [f"node.id == {page.node.id}"]},
            "resources": {"limits": {"cpus": "0.5", "memory": "512M"}},
            "restart_policy": {"condition": "on-failure", "delay": "5s", "max_attempts": 100},
        },
    }
    if page.port is not None:
        service["ports"] = [
            {"target": names.DASHBOARD_PORT, "published": page.port, "protocol": "tcp", "mode": "host"}
        ]
    return {
        "version": VERSION,
        "services": {names.DASHBOARD_SERVICE: ordered(service)},
        "networks": networks,
        "configs": {archive: {"file": f"./{ARCHIVE}", "labels": ours}},
        "secrets": {SECRET: {"file": f"./{SECRET}", "labels": ours}},
    }


def _networks(page: PublishedDashboard, labels: Mapping[str, str]) -> Document:
    """Those that the service is in.

    One of its own where it would be in none: Docker would make a default one then, which no label says is the page's.
    """
    named = {"run": page.network, "proxy": page.proxy}
    found: Document = {key: {"external": True, "name": name} for key, name in named.items() if name}
    return found or {names.DASHBOARD_SERVICE: {"driver": "overlay", "labels": dict(labels)}}


def text_of(page: PublishedDashboard) -> str:
    """The text that is printed and deployed."""
    return _HEADER.format(run=page.run, secret=SECRET) + dump(render(page))


def _in_address(name: str) -> str:
    """A name, or an address, as it stands in a URL."""
    return f"[{name}]" if ":" in name else name


def _traefik(page: PublishedDashboard) -> dict[str, str]:
    """What Traefik reads: which requests, over HTTPS alone, go to which port of which network."""
    if not page.proxy:
        return {}
    rule = " || ".join(f"Host(`{host}`)" for host in page.hosts)
    router = f"traefik.http.routers.{page.stack}"
    return {
        "traefik.enable": "true",
        "traefik.docker.network": page.proxy,
        "traefik.swarm.network": page.proxy,
        f"{router}.rule": rule,
        f"{router}.entrypoints": "websecure",
        f"{router}.tls": "true",
        f"traefik.http.services.{page.stack}.loadbalancer.server.port": str(names.DASHBOARD_PORT),
    }
