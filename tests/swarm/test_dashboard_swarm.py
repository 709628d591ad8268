"""The dashboard of a run on a Swarm: what its page asks comes from the nodes, by way of the coordinator's container."""

from __future__ import annotations

import json
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from browser import dashboard
from waiting import until

from swarmtrain import Client, Job

SCRIPT = """
import time
from swarmtrain.trainer import report
for step in range(1, 2000):
    report(loss=1 / step, step=step)
    print("step", step, flush=True)
    time.sleep(0.1)
"""

pytestmark = pytest.mark.usefixtures("machines")


class Asked:
    """The server of a page, as its browser asks it."""

    def __init__(self, address: str) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._base = address.partition("?")[0]
        self._opener.open(address, timeout=30).close()

    def series(self, query: str) -> list[Any]:
        with self._opener.open(f"{self._base}api/series?{query}", timeout=60) as answer:
            found: list[Any] = json.load(answer)["series"]
        return found

    def lasts(self) -> dict[str, float]:
        """The last step of which each rank's loss is there."""
        found = self.series("run=page&name=train/loss&x=step")
        return {str(each["labels"]): each["columns"]["x"][-1] for each in found}

    def heard(self, query: str, wanted: set[str]) -> dict[str, Any]:
        """The first of each of these events."""
        found: dict[str, Any] = {}
        with self._opener.open(f"{self._base}api/live?{query}", timeout=60) as stream:
            name = ""
            while not wanted <= set(found):
                head, _, data = stream.readline().decode().partition(": ")
                if head == "event":
                    name = data.strip()
                elif head == "data":
                    found.setdefault(name, json.loads(data))
        return found


def test_a_run_on_a_swarm_is_shown_live(
    torch_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    handle = Client("swarm").run(Job(script="train.py", name="page", image=torch_image, nodes=2))
    try:
        with dashboard("page", "--on", "swarm") as address:
            page = Asked(address)
            heard = page.heard("run=page&tail=100", {"begin", "status", "happened", "lines"})
            assert heard["status"]["status"]["run"] == handle.id
            assert {line[3] for line in heard["lines"]["lines"]} <= {"lab-1", "lab-2", "lab-3"}
            # They begin when they are ready, not together.
            until(lambda: len(page.lasts()) == 2, 60, "each rank's loss")
            first = page.lasts()
            until(
                lambda: all(page.lasts()[rank] > first[rank] for rank in first), 20, "later ones of each rank"
            )
            began = time.monotonic()
            page.series("run=page&list=1")
            assert time.monotonic() - began < 1.0  # over the connection that is there already
    finally:
        handle.remove(force=True)
