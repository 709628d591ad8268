"""The lab's argument lists and configuration."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from swarmtrain.errors import RequestError
from swarmtrain.lab import releases, wheels
from swarmtrain.lab.commands import (
    RESOLVER,
    NodeSettings,
    bits_per_second,
    build_image,
    create_network,
    daemon_config,
    digest,
    limit_link,
    run_node,
)
from swarmtrain.lab.images import Recipe, node_arguments
from swarmtrain.lab.names import LabNames, pretend_gpus

NAMES = LabNames("f2af6c", Path("/state"))
SETTINGS = NodeSettings(
    image="sha256:abc",
    engine="trixie",
    address=IPv4Address("172.19.0.12"),
    cpus=0.6,
    gpus=2,
    offline=False,
    privileged=True,
    group=1000,
)


def test_node_keeps_its_address_disk_and_directory() -> None:
    line = " ".join(run_node(NAMES, 2, SETTINGS))
    assert line.startswith("run --detach ")
    assert "--name swarmtrain-lab-f2af6c-2 --hostname lab-2 " in line
    assert "--network swarmtrain-lab-f2af6c --ip 172.19.0.12 --cpus 0.6" in line
    assert "--volume swarmtrain-lab-f2af6c-2:/var/lib/docker --volume /state/f2af6c/2:/lab" in line
    assert line.endswith(" sha256:abc")


def test_node_is_privileged_or_has_each_right_by_name() -> None:
    allowed = " ".join(run_node(NAMES, 1, SETTINGS))
    assert "--privileged" in allowed
    assert "--cap-add" not in allowed
    refused = " ".join(run_node(NAMES, 1, replace(SETTINGS, privileged=False)))
    assert "--privileged" not in refused
    assert "--cap-add SYS_ADMIN" in refused
    assert "--device-cgroup-rule a *:* rwm" in refused


def test_node_opens_no_port() -> None:
    assert "publish" not in " ".join(run_node(NAMES, 1, SETTINGS))
    hosts = daemon_config(NAMES, 1, SETTINGS)["hosts"]
    assert isinstance(hosts, list) and all(host.startswith("unix://") for host in hosts)


def test_only_a_lab_without_registry_has_a_resolver_of_its_own() -> None:
    assert "dns" not in daemon_config(NAMES, 1, SETTINGS)
    assert "/etc/resolv.conf" not in " ".join(run_node(NAMES, 1, SETTINGS))
    offline = replace(SETTINGS, offline=True)
    assert daemon_config(NAMES, 1, offline)["dns"] == [RESOLVER]
    assert "/state/f2af6c/1/resolv.conf:/etc/resolv.conf:ro" in run_node(NAMES, 1, offline)


def test_gpus_are_declared_by_full_identity() -> None:
    declared = daemon_config(NAMES, 3, SETTINGS)["node-generic-resources"]
    assert declared == [f"gpu={gpu}" for gpu in pretend_gpus("f2af6c", 3, 2)]
    assert daemon_config(NAMES, 3, SETTINGS)["labels"] == ["swarmtrain.pretend=gpu"]
    assert "node-generic-resources" not in daemon_config(NAMES, 3, replace(SETTINGS, gpus=0))


def test_any_change_of_settings_is_seen() -> None:
    changes: list[dict[str, object]] = [
        {"image": "sha256:def"},
        {"engine": "sid"},
        {"address": IPv4Address("172.19.0.13")},
        {"cpus": 0.5},
        {"gpus": 1},
        {"offline": True},
        {"group": 0},
        {"privileged": False},
    ]
    digests = {digest(NAMES, 1, replace(SETTINGS, **change)) for change in changes}  # type: ignore[arg-type]
    assert len(digests | {digest(NAMES, 1, SETTINGS)}) == len(changes) + 1
    assert digest(NAMES, 1, replace(SETTINGS)) == digest(NAMES, 1, SETTINGS)
    assert f"swarmtrain.lab.settings={digest(NAMES, 1, SETTINGS)}" in run_node(NAMES, 1, SETTINGS)


def test_network_is_first_chosen_by_docker_then_asked_for() -> None:
    assert "--subnet" not in create_network(NAMES, None)
    assert create_network(NAMES, "172.19.0.0/16")[-3:] == ["--subnet", "172.19.0.0/16", NAMES.project]


@pytest.mark.parametrize(
    ("rate", "bits"), [("200mbit", 200e6), ("1gbit", 1e9), ("2.5Gbit", 2.5e9), ("64kbit", 64e3), ("9bit", 9)]
)
def test_rate_is_read_as_tc_writes_it(rate: str, bits: float) -> None:
    assert bits_per_second(rate) == bits


@pytest.mark.parametrize("rate", ["", "1", "1gb", "fast", "0mbit", "-1gbit", "1gbit; reboot"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(RequestError):
        limit_link("node", "eth1", rate)


def test_bucket_holds_what_the_link_sends_between_two_ticks() -> None:
    slow, fast = (limit_link("node", "eth1", rate) for rate in ("1gbit", "10gbit"))
    assert slow == [
        *("exec", "node", "tc", "qdisc", "replace", "dev", "eth1", "root"),
        *("tbf", "rate", "1gbit", "burst", str(512 * 1024), "latency", "100ms"),
    ]
    assert fast[fast.index("burst") + 1] == "5000000"
    assert limit_link("node", "eth1", None) == [
        "exec",
        "node",
        "tc",
        "qdisc",
        "delete",
        "dev",
        "eth1",
        "root",
    ]


def test_image_build_takes_proxies_by_name_only() -> None:
    command = build_image("t", "base", "/context", ["a=b"], ["http_proxy"])
    assert command[-5:] == ["--label", "a=b", "--build-arg", "http_proxy", "/context"]


def test_wheels_are_for_the_image_and_never_hold_cuda() -> None:
    command = wheels.download_command(["pip"], Path("/w"), "aarch64")
    assert command[command.index("--python-version") + 1] == "3.11"
    assert "manylinux_2_28_aarch64" in command
    assert "manylinux_2_37_aarch64" not in command
    assert f"torch=={wheels.TORCH}+cpu" in command
    assert "--extra-index-url" not in command
    assert "https://example.org/cpu" in wheels.download_command(
        ["pip"], Path("/w"), "x86_64", "https://example.org/cpu"
    )


@pytest.mark.parametrize(
    ("wanted", "before", "made_of"),
    [
        ((), {}, ["trixie"] * 3),
        (("sid",), {}, ["sid"] * 3),
        (("trixie", "sid", "bookworm"), {}, ["trixie", "sid", "bookworm"]),
        ((), {1: "sid", 2: "bookworm"}, ["sid", "bookworm", "sid"]),
        (("trixie",), {1: "sid", 2: "sid", 3: "sid"}, ["trixie"] * 3),
    ],
)
def test_each_node_has_the_engine_that_was_named_or_keeps_its_own(
    wanted: tuple[str, ...], before: dict[int, str], made_of: list[str]
) -> None:
    assert list(releases.of_nodes(wanted, 3, before).values()) == made_of


def test_engines_that_cannot_be_had_are_refused() -> None:
    assert releases.parse("trixie, sid,bookworm") == ("trixie", "sid", "bookworm")
    with pytest.raises(RequestError, match="'buster' is no release") as caught:
        releases.parse("trixie,buster")
    assert "bookworm (20.10)" in caught.value.hint
    with pytest.raises(RequestError, match="3 nodes, and 2 engines"):
        releases.of_nodes(("sid", "trixie"), 3, {})


def test_the_image_of_each_engine_is_built_from_its_own_packages() -> None:
    recipes = {
        name: Recipe(("node.Dockerfile",), node_arguments(release))
        for name, release in releases.RELEASES.items()
    }
    assert "ENGINE=docker.io docker-cli" in recipes["trixie"].arguments
    assert "ENGINE=docker.io" in recipes["bookworm"].arguments
    assert "APT=-o Acquire::Check-Valid-Until=false" in recipes["sid"].arguments
    assert len({recipe.digest for recipe in recipes.values()}) == 3
    line = " ".join(build_image("t", "base", "/context", (), recipes["sid"].arguments))
    assert "--build-arg ENGINE=docker.io docker-cli --build-arg APT=-o Acquire" in line
