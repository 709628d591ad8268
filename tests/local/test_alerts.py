"""Alerts of real runs: they arrive once, whatever dies, and nobody but the webhook sees its address."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from healed import events, reach, story
from healed_local import agent_of, start, worker_of
from waiting import until
from webhook import Webhook, webhook

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.wire.machine.processes import descendants

pytestmark = pytest.mark.usefixtures("home")

SECRET = "s3cr3t-of-mine"
REPORTS = """
import time
from swarmtrain.trainer import report
for step in range(1, 30):
    report(step=step, loss=float("nan") if step >= 20 else 1.0 / step)
    time.sleep(0.02)
"""
FAILS = """
import time
time.sleep(0.5)
raise ValueError("planted <& \\udcff")
"""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    with webhook() as made:
        monkeypatch.setenv("HOOK_URL", made.address())
        yield made


def run(tmp_path: Path, script: str, name: str = "told", **keys: Any) -> RunHandle:
    (tmp_path / "train.py").write_text(script)
    keys = {"alerts": {"webhook": "HOOK_URL"}, "restart": "never"} | keys
    return Client(on="local").run(Job(name=name, script="train.py", files=("train.py",), **keys))


def settled(handle: RunHandle) -> bool:
    """Whether everybody was told of the end, so that the coordinator goes."""
    end = next((event.seq for event in handle.events() if event.kind == "ended"), 0)
    told = [event.dump() for event in handle.events() if event.kind.startswith("alert_")]
    return end > 0 and any(event["number"] == end for event in told)


def check_secret(home: Path) -> None:
    """The address is in the run's secret, and nowhere else below the home of all runs, nor in a command line."""
    holds = [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert [path.name for path in holds] == ["ticket.json"], holds
    assert stat.S_IMODE(holds[0].stat().st_mode) == 0o600
    for pid in descendants(1):
        try:
            assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            pass


def test_a_failed_run_is_told_of_with_its_cause_in_each_form(
    tmp_path: Path, home: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_URL", hook.address(f"/slack/{SECRET}"))
    copy = tmp_path / "copy.json"
    alerts = {
        "slack": "SLACK_URL",
        "webhook": "HOOK_URL",
        "command": ["sh", "-c", f"cat > {copy}; echo $TOKEN >> {copy}"],
    }
    handle = run(tmp_path, FAILS, alerts=alerts, env={"TOKEN": "of-the-job"})
    until(lambda: copy.exists() and len(hook.got) == 2, what="three alerts")
    documents = dict(hook.got)
    document = documents[f"/hook/{SECRET}"]
    assert (document["kind"], document["title"], document["version"]) == ("failed", "told.1 failed", 1)
    assert "ValueError: planted" in document["text"] and document["diagnosis"]["remedies"]
    text = documents[f"/slack/{SECRET}"]["text"]
    assert text.startswith("*told.1 failed*\n") and "planted &lt;&amp;" in text and "try: " in text
    until(lambda: copy.read_text().endswith("of-the-job\n"), what="the command's end")
    assert json.loads(copy.read_text().splitlines()[0]) == document
    until(lambda: len(events(handle, "alert_sent")) == 3, what="what was told")
    check_secret(home)


def test_a_loss_that_is_no_number_is_told_of_once_and_then_the_end(
    tmp_path: Path, home: Path, hook: Webhook
) -> None:
    handle = run(tmp_path, REPORTS, nodes=2)
    until(lambda: "finished" in hook.kinds(), what="the end")
    assert hook.kinds() == ["nan", "finished"], story(handle)
    assert re.search(r"the loss is nan at step 2\d$", hook.got[0][1]["text"])
    assert hook.got[0][1]["about"] == "loss in generation 1"


def test_what_befalls_a_run_is_told_once_though_its_coordinator_dies(
    tmp_path: Path, home: Path, hook: Webhook
) -> None:
    handle = start(tmp_path, alerts={"webhook": "HOOK_URL"}, pause=0.05)
    reach(handle, 30)
    os.kill(worker_of(handle, 1), signal.SIGKILL)
    until(lambda: hook.kinds() == ["healed"], what="an alert")
    coordinator = agent_of(handle, "")
    hook.status = 503
    reach(handle, 45)
    os.kill(agent_of(handle, "node1"), signal.SIGKILL)
    until(lambda: hook.tries >= 2, what="an attempt")
    os.kill(coordinator, signal.SIGKILL)
    until(lambda: len(events(handle, "coordinator")) == 1, what="the coordinator's next life")
    hook.status = 200
    assert handle.wait(timeout=150).state == "succeeded", story(handle)
    until(lambda: settled(handle), what="the last alert")
    kinds = hook.kinds()
    assert sorted(kinds) == ["finished", "healed", "healed", "node_lost"], story(handle)
    assert kinds[-1] == "finished"
    assert len({document["id"] for _, document in hook.got}) == len(kinds)
    check_secret(home)


@pytest.mark.long
def test_a_group_that_stands_still_is_told_of_and_then_that_it_was_healed(
    tmp_path: Path, home: Path, hook: Webhook
) -> None:
    alerts = {"webhook": "HOOK_URL", "on": ["hung", "healed", "failed"]}
    handle = start(
        tmp_path, alerts=alerts, fault="hang", at=[1, 12], pause=0.0, restart={"hang_timeout": "3s"}
    )
    until(lambda: "healed" in hook.kinds(), what="the alert of its healing")
    handle.stop()
    assert hook.kinds() == ["hung", "healed"], story(handle)
    assert re.search(r"no step for 3 s: .*in stuck", hook.got[0][1]["text"]), hook.got
    assert hook.got[0][1]["about"] == "generation 1"


def test_a_webhook_that_is_down_delays_neither_healing_nor_others(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answers nothing for long, the second leads elsewhere, the third is down and comes up."""
    with webhook() as slow, webhook() as leads, webhook() as stranger, webhook() as late:
        port = late.port
        slow.status, slow.delay = 0, 60.0
        leads.status, leads.location = 307, stranger.address("/elsewhere")
        for name, each in (("SLOW", slow), ("LEADS", leads), ("LATE", late)):
            monkeypatch.setenv(name, each.address())
        late.close()
        handle = start(
            tmp_path,
            alerts={"webhook": ["SLOW", "LEADS", "LATE"], "on": ["healed"]},
            pause=0.02,
            epochs=6,
        )
        reach(handle, 20)
        os.kill(worker_of(handle, 1), signal.SIGKILL)
        assert handle.wait(timeout=150).state == "succeeded", story(handle)
        (recovery,) = events(handle, "recovered")
        assert recovery["seconds"] < 10, story(handle)
        with webhook(port) as up:
            until(lambda: up.kinds() == ["healed"], what="the alert of the one that came up")
        (unsent,) = events(handle, "alert_unsent")
        assert "leads elsewhere" in unsent["text"] and unsent["target"] == "webhook LEADS"
        assert not stranger.tries and slow.tries >= 1
        handle.kill()


def swarmtrain(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person types it."""
    code = "from swarmtrain.ui.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


def test_a_test_goes_to_everybody_from_a_run_and_from_a_job_file(
    tmp_path: Path, home: Path, hook: Webhook
) -> None:
    (tmp_path / "address").write_text(hook.address(f"/file/{SECRET}") + "\n")
    (tmp_path / "train.py").write_text("import time; time.sleep(600)")
    alerts = "{webhook: [HOOK_URL, ./address], command: [no-such-program]}"
    (tmp_path / "swarmtrain.yaml").write_text(f"script: train.py\nname: tried\nalerts: {alerts}\n")
    assert swarmtrain("run", "-d", "--on", "local").returncode == 0
    for done in (swarmtrain("alert", "test"), swarmtrain("alert", "test", "tried", "--on", "local")):
        assert sorted(done.stdout.splitlines()) == [
            "! command no-such-program: cannot be started: No such file or directory",
            "+ webhook ./address: answered 200 OK",
            "+ webhook HOOK_URL: answered 200 OK",
        ], done.stderr
        assert done.returncode == 3 and SECRET not in done.stderr
        assert "1 target of 3 did not take the test" in done.stderr
    assert [document["test"] for _, document in hook.got] == [True] * 4
    assert not list((home / "data").rglob("address")), "the file with the address was sent to the nodes"
    handle = Client("local").get("tried")
    handle.stop()
    until(lambda: len(events(handle, "alert_sent") + events(handle, "alert_unsent")) == 3, what="its end")
