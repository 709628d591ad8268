"""The keys of a job that say who is told: where addresses come from, and where none of them ever shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmtrain.job import Alerting, Job, JobError, LoadedJob, load
from swarmtrain.job.flags import overrides_from_flags
from swarmtrain.payload.code import of
from swarmtrain.payload.run_spec import secret_of, spec_of
from swarmtrain.wire.run_spec import RunSecret

SECRET = "https://hooks.example/s3cr3t-of-mine"


def loaded(tmp_path: Path, alerts: str, environ: dict[str, str] | None = None, **flags: Any) -> LoadedJob:
    (tmp_path / "train.py").touch()
    (tmp_path / "swarmtrain.yaml").write_text(f"script: train.py\nalerts: {alerts}\n")
    return load(cwd=tmp_path, environ=environ or {}, overrides=overrides_from_flags(**flags))


def test_addresses_come_from_variables_and_files_and_travel_in_the_secret_alone(tmp_path: Path) -> None:
    (tmp_path / "hook-url").write_text(f"{SECRET}\n")
    job = loaded(tmp_path, "{slack: SLACK_URL, webhook: [./hook-url], on: [failed]}", {"SLACK_URL": SECRET})
    secret, spec = secret_of(job, "train.1"), spec_of(job)
    assert secret.webhooks == {"slack SLACK_URL": SECRET, "webhook ./hook-url": SECRET}
    assert "s3cr3t" not in spec.dump() + repr(secret) + repr(job)
    assert spec.alert_on == ("failed",) and spec.alerts_per_hour == 20
    path = tmp_path / "secret.json"
    path.write_text(secret.dump())
    assert RunSecret.load(path) == secret


def test_a_file_with_an_address_is_not_sent_to_the_nodes_whatever_names_it(tmp_path: Path) -> None:
    (tmp_path / "hook-url").write_text(SECRET)
    job = loaded(tmp_path, "{webhook: ./hook-url}", files=("*",))
    assert job.job.files == ("*",)
    code = of(job)
    assert "hook-url" not in code.names and "train.py" in code.names
    assert any("hook-url" in notice for notice in code.notices)


def test_the_flags_say_the_same(tmp_path: Path) -> None:
    job = loaded(
        tmp_path,
        "{}",
        {"A": SECRET, "B": SECRET},
        alert_slack=("A",),
        alert_webhook=("B",),
        alert_command="page 'the team'",
        alert_on="failed,nan",
        alerts_per_hour="3",
    )
    alerts = job.job.alerts
    assert (alerts.slack, alerts.webhook, alerts.command) == (("A",), ("B",), ("page", "the team"))
    assert (alerts.on, alerts.per_hour) == (("failed", "nan"), 3)


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        (
            "{slack: SLACK_URL}",
            "swarmtrain.yaml:2: alerts.slack[1]: SLACK_URL is taken from here, where it is not set",
        ),
        (
            "{slack: BAD}",
            "alerts.slack[1]: BAD holds no address of a webhook, which looks like https://HOST/PATH",
        ),
        ("{webhook: [./none]}", "alerts.webhook[1]: ./none cannot be read: No such file or directory"),
        (f"{{webhook: {SECRET}}}", "alerts.webhook[1]: the address of a webhook is a secret: give the name"),
        ("{webhook: 'a b'}", "'a b' is neither the name of a variable nor a path, which has a / in it"),
        ("{webhook: [A, A]}", "alerts.webhook: the same twice: A"),
        (
            "{on: [failed, lost]}",
            "alerts.on: 'lost' is no event: they are failed, finished, healed, node_lost",
        ),
        ("{on: [node-lost]}", "(did you mean node_lost?)"),
        ("{on: never}", "alerts.on: must be all or a list of events, not 'never'"),
        ("{command: [./page.sh]}", "alerts.command: './page.sh': give a program's name or an absolute path"),
        ("{command: []}", "alerts.command: is empty"),
        ("{per_hour: 0}", "alerts.per_hour: must be at least 1"),
        ("{to: A}", "alerts.to: unknown key"),
    ],
)
def test_a_mistake_is_named_where_it_is_and_no_address_with_it(
    tmp_path: Path, alerts: str, said: str
) -> None:
    with pytest.raises(JobError) as error:
        loaded(tmp_path, alerts, {"BAD": "s3cr3t-of-mine"})
    assert said in str(error.value) and "s3cr3t" not in str(error.value)


def test_a_job_of_python_takes_them_from_here_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    job = Job(script="train.py", alerts=Alerting(slack=["A"]))
    assert LoadedJob.of(job, tmp_path, {"A": SECRET}).webhooks == {"slack A": SECRET}
    with pytest.raises(JobError, match="A is taken from here"):
        LoadedJob.of(job, tmp_path, {})
