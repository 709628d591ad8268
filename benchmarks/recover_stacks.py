"""What people deploy without swarmtrain, as documents for `docker stack deploy`: one service a node, stock torchrun.

- `guide`: static rendezvous, no restarts, as guides for beginners have it.
- `careful`: elastic rendezvous (c10d) on the first node, torchrun's and Swarm's restarts switched on.
- `expert`: also from two to three nodes, the store in a service of its own, and the settings with which torchrun
  notices a lost agent within seconds.

Each has endpoint_mode dnsrr, since torchrun does not work with Swarm's virtual addresses in every kernel.
"""

from __future__ import annotations

import json
from typing import Any

NODES = 3
_STORE = (
    "import time; from torch.distributed import TCPStore; "
    "store = TCPStore('0.0.0.0', 29400, is_master=True, wait_for_workers=False); time.sleep(10**9)"
)
_TUNED = "is_host=false,join_timeout=600,last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3"
_OPTIONS = {
    "guide": "--nnodes=3 --node_rank={index} --master_addr=node0 --master_port=12355",
    "careful": "--nnodes=3 --max_restarts=10 --rdzv_id=train --rdzv_backend=c10d --rdzv_endpoint=node0:29400",
    "expert": "--nnodes=2:3 --max_restarts=10 --rdzv_id=train --rdzv_backend=c10d --rdzv_endpoint=rendezvous:29400 "
    f"--rdzv_conf={_TUNED}",
}
_RESTART: dict[str, dict[str, str]] = {
    "guide": {"condition": "none"},
    "careful": {"condition": "any"},
    "expert": {"condition": "on-failure", "delay": "1s"},
}
RIVALS = tuple(_OPTIONS)


def stack(rival: str, image: str, script: str, stamps: str, mount: str) -> str:
    """The document.

    Args:
        script: path of the training script on this machine.
        stamps: the directory for stamps in the containers.
        mount: where that lies on every node, as `source:target`.
    """
    services = {f"node{index}": _node(rival, index, image, stamps, mount) for index in range(NODES)}
    if rival == "expert":
        services["rendezvous"] = {
            "image": image,
            "command": ["python3", "-c", _STORE],
            "networks": ["training"],
            "deploy": {
                "endpoint_mode": "dnsrr",
                "placement": {"constraints": ["node.hostname == lab-1"]},
                "restart_policy": {"condition": "any", "delay": "1s"},
            },
        }
    document = {
        "version": "3.8",
        "services": services,
        "networks": {"training": {"driver": "overlay", "attachable": True}},
        "configs": {"script": {"file": script}},
    }
    return json.dumps(document, indent=1)


def _node(rival: str, index: int, image: str, stamps: str, mount: str) -> dict[str, Any]:
    options = _OPTIONS[rival].format(index=index)
    environment = {"OMP_NUM_THREADS": "1", "STAMPS": stamps}
    if rival == "expert":
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return {
        "image": image,
        "hostname": f"node{index}",
        "command": ["torchrun", "--nproc_per_node=1", *options.split(), "/train.py", "plain"],
        "environment": environment,
        "networks": ["training"],
        "volumes": [mount],
        "configs": [{"source": "script", "target": "/train.py"}],
        "stop_grace_period": "1s",
        "deploy": {
            "endpoint_mode": "dnsrr",
            "placement": {"constraints": [f"node.hostname == lab-{index + 1}"]},
            "restart_policy": _RESTART[rival],
        },
    }
