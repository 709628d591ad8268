"""One attempt to tell somebody, against a real server and real commands: what is said of it, and what never is."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest
from webhook import Webhook, webhook

from swarmtrain.coordinator.run.alerts.targets import tell
from swarmtrain.errors import RequestError
from swarmtrain.protocol.alerts import delivery
from swarmtrain.protocol.alerts.alert import Alert, AlertMessage, AlertTarget, slack_text
from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.alerts.delivery import attempt, check_address
from swarmtrain.wire.machine import processes
from swarmtrain.wire.run_spec import RunSecret

SECRET = "s3cr3t-of-mine"
MESSAGE = AlertMessage.of(
    "digits.3",
    "0af1",
    Alert(number=7, kind="nan", text="rank 1 on b: the loss is nan", time=1.0, about="loss"),
)


def told(hook: Webhook, kind: str = "webhook") -> AlertAnswer:
    answer = attempt(AlertTarget.webhook(f"{kind} URL", hook.address()), MESSAGE)
    assert SECRET not in repr(answer)
    return answer


def test_a_webhook_gets_the_document_and_slack_its_text() -> None:
    with webhook() as hook:
        assert told(hook).delivered and told(hook, "slack").delivered
        (_, document), (_, text) = hook.got
    assert document == {
        "run": "digits.3",
        "kind": "nan",
        "title": "digits.3 trains with a loss that is no number",
        "text": "rank 1 on b: the loss is nan",
        "time": 1.0,
        "id": "digits.3-0af1#7",
        "about": "loss",
        "note": "",
        "test": False,
        "version": 1,
    }
    assert text == {"text": "*digits.3 trains with a loss that is no number*\nrank 1 on b: the loss is nan"}


@pytest.mark.parametrize(
    ("status", "said", "final"),
    [
        (404, "answered 404 Not Found", True),
        (403, "answered 403 Forbidden", True),
        (408, "answered 408 Request Timeout", False),
        (429, "answered 429 Too Many Requests", False),
        (500, "answered 500 Internal Server Error", False),
        (599, "answered 599", False),
    ],
)
def test_a_refusal_is_final_where_another_attempt_would_not_change_it(
    status: int, said: str, final: bool
) -> None:
    with webhook() as hook:
        hook.status = status
        answer = told(hook)
    assert (answer.delivered, answer.said, answer.final) == (False, said, final)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_told_whom_a_webhook_names(status: int) -> None:
    with webhook() as hook, webhook() as other:
        hook.status, hook.location = status, other.address()
        answer = told(hook)
        assert answer.final and "leads elsewhere, and is not followed" in answer.said
        assert not other.tries


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("99999", 3600.0), ("soon", 0.0), ("-1", 0.0)])
def test_how_long_a_webhook_asks_to_wait_is_heard_within_reason(asked: str, seconds: float) -> None:
    with webhook() as hook:
        hook.status, hook.retry_after = 503, asked
        assert told(hook).after == seconds


def test_a_webhook_that_is_not_there_or_hangs_up_is_said_without_its_address() -> None:
    with webhook() as hook:
        hook.status = 0
        assert "cannot be reached" in told(hook).said
    answer = told(hook)
    assert answer.said == "cannot be reached: Connection refused" and not answer.final
    missing = AlertTarget.webhook("webhook URL", f"http://{SECRET}.invalid/x")
    assert SECRET not in attempt(missing, MESSAGE).said


def test_a_webhook_that_says_nothing_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = AlertTarget.webhook("webhook URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert "did not answer within" in attempt(target, MESSAGE).said


def test_a_command_gets_the_document_and_the_variables_of_the_job(tmp_path: Path) -> None:
    target = AlertTarget.command(["sh", "-c", f'cat > {tmp_path}/got; echo "$TOKEN" > {tmp_path}/token'])
    answer = attempt(target, MESSAGE, {"TOKEN": "of the job"})
    assert (answer.target, answer.delivered, answer.said) == ("command sh", True, "ended with exit status 0")
    assert json.loads((tmp_path / "got").read_text())["id"] == "digits.3-0af1#7"
    assert (tmp_path / "token").read_text() == "of the job\n"


@pytest.mark.parametrize(
    ("argv", "said", "final"),
    [
        (["sh", "-c", "exit 3"], "ended with exit status 3", False),
        (["sh", "-c", "kill -9 $$"], "was ended by signal 9", False),
        (["no-such-program"], "cannot be started: No such file or directory", True),
    ],
)
def test_a_command_that_fails_is_said(argv: list[str], said: str, final: bool) -> None:
    answer = attempt(AlertTarget.command(argv), MESSAGE)
    assert (answer.delivered, answer.said, answer.final) == (False, said, final)


def test_a_command_that_takes_too_long_is_ended_with_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "COMMAND_SECONDS", 0.3)
    target = AlertTarget.command(["sh", "-c", f"(sleep 1; touch {tmp_path}/late) & sleep 60"])
    began = time.monotonic()
    assert "was ended after" in attempt(target, MESSAGE).said and time.monotonic() - began < 1
    time.sleep(1.0)
    assert not (tmp_path / "late").exists()


def tell_a_command(*argv: str) -> asyncio.Task[AlertAnswer]:
    spec = RunSecret("digits.3", "token")
    return asyncio.ensure_future(tell(AlertTarget.command(argv), MESSAGE, spec))


def is_alive(pid: Path) -> bool:
    return processes.state(int(pid.read_text())) not in ("", "Z")


def test_what_a_command_has_put_into_a_session_of_its_own_ends_with_it(tmp_path: Path) -> None:
    async def scene() -> AlertAnswer:
        return await tell_a_command(
            "sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & sleep 0.3"
        )

    assert asyncio.run(scene()).delivered
    assert not is_alive(tmp_path / "pid")


def test_a_command_goes_with_whoever_waits_for_it(tmp_path: Path) -> None:
    async def scene() -> None:
        task = tell_a_command(
            "sh", "-c", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 60"
        )
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while is_alive(tmp_path / "pid"):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # the process that had started it has been waited for

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_of_what_a_command_says_without_end_the_beginning_is_passed_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = AlertTarget.command(["sh", "-c", "echo first >&2; yes | head -c 3000000; exit 3"])
    assert attempt(target, MESSAGE).said == "ended with exit status 3"
    said = capsys.readouterr().err
    assert said.startswith("first\ny\n") and len(said) == 64 << 10


@pytest.mark.parametrize(
    "address",
    [
        "",
        "hooks.example/x",
        "ftp://example/x",
        "http:///x",
        "https://a b/x",
        "http://x:99999/",
        "http://x\n/",
        "http://[::1/",
        "https://me:word@x/",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_address(address)
    assert not address or address not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["https://hooks.slack.com/services/T/B/x", "http://10.0.0.1:8080/hook?a=b"]
)
def test_an_address_is_one(address: str) -> None:
    check_address(address)


def test_slack_s_markup_in_what_a_worker_wrote_is_only_text() -> None:
    alert = Alert(number=1, kind="failed", text="<!channel> & <https://x|y> \udcff\x1b[2J", time=1.0)
    text = slack_text(AlertMessage.of("a.1", "0af1", alert))
    assert "<" not in text and "&lt;!channel&gt; &amp;" in text
    assert (
        len(
            slack_text(
                AlertMessage.of("a.1", "0af1", Alert(number=1, kind="failed", text="x" * 9999, time=1.0))
            )
        )
        <= 2000
    )


def test_what_a_worker_wrote_that_is_no_text_is_sent_as_some() -> None:
    alert = Alert(number=1, kind="failed", text="\udcff", time=1.0)
    with webhook() as hook:
        target = AlertTarget.webhook("webhook URL", hook.address())
        assert attempt(target, AlertMessage.of("a.1", "0af1", alert)).delivered
        assert hook.got[0][1]["text"] == "?"
