"""What each node sends the others, as a run on a real Swarm measures it: whole, and where packets are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from firewall import dropped
from healed import reach, story
from waiting import until

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.lab.lab import Lab

# Each step sends a megabyte of gradients.
TRAINING = """
import time, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(512, 512))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
while True:
    model(torch.ones(4, 512)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.05)
"""
OVERLAY = ("-p", "udp", "--dport", "4789")  # what carries the packets of containers between engines
LOSS = ("-m", "statistic", "--mode", "random", "--probability", "0.15")


def links(handle: RunHandle, what: str) -> dict[tuple[str, str], float]:
    """The newest of a series, by node and peer."""
    found = handle.series(f"link/{what}", points=False)
    return {
        (each.labels["node"], each.labels["peer"]): each.value for each in found if each.value is not None
    }


@pytest.mark.long
@pytest.mark.usefixtures("machines")
def test_the_traffic_between_nodes_is_measured_and_where_it_is_lost(
    lab: Lab, torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAINING)
    job = Job(script="train.py", name="links", nodes=3, workers_per_node=1, image=torch_image)
    handle = Client(on="swarm").run(job)
    try:
        reach(handle, 20, seconds=120)
        nodes = sorted(member.node for member in handle.status().members)
        until(lambda: len(links(handle, "transmit_bytes_per_second")) >= 3, 60, "traffic")
        until(lambda: max(links(handle, "transmit_bytes_per_second").values()) > 1e5, 30, "gradients")
        sent, received = (links(handle, f"{way}_bytes_per_second") for way in ("transmit", "receive"))
        assert {name for pair in sent for name in pair} == set(nodes)
        for (node, peer), rate in sent.items():
            if rate > 1e5:  # both ends measure it, not at the same moments
                assert 0.3 * rate < received[peer, node] < 3 * rate, (sent, received)
        assert all(0 < seconds < 0.5 for seconds in links(handle, "round_trip_seconds").values())
        assert max(links(handle, "sent_again_ratio").values()) < 0.05

        lost_at = next(member.node for member in handle.status().members if member.node.endswith("3"))
        with dropped(lab, 3, *OVERLAY, *LOSS):
            until(
                lambda: worst(handle)[0] > 0.05,
                60,
                f"segments that are sent to {lost_at} again; {story(handle)}",
            )
            assert worst(handle)[1] == lost_at
    finally:
        handle.kill()
        handle.remove(force=True)


def worst(handle: RunHandle) -> tuple[float, str]:
    """On which way most is sent again: how much of it, and to whom."""
    return max((ratio, peer) for (_, peer), ratio in links(handle, "sent_again_ratio").items())
