"""What Prometheus reads of a run, by the official parser; and what is served to it."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from client_fakes import status
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from run_fakes import Theatre

from swarmtrain.control.exports.serving import ServingAddress, parse_address, serving
from swarmtrain.coordinator.clients import endpoint
from swarmtrain.coordinator.clients.endpoint import open_endpoint
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.protocol import codec
from swarmtrain.protocol.series.openmetrics import FRESH, openmetrics
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.series.table import TABLE
from swarmtrain.protocol.status import Status

NOW = 10_000.0


def of(**fields: Any) -> Status:
    return codec.load(Status, status(**{"now": NOW} | fields))


def parsed(text: str) -> dict[str, Metric]:
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert text.endswith("# EOF\n")
    return families


def point(name: str, value: float | None = 1.0, time: float = NOW, unit: str = "", **labels: str) -> Series:
    return Series(name, labels, unit, time=time, value=value)


def test_every_series_that_there_is_has_a_name_a_unit_and_a_text_that_prometheus_takes() -> None:
    series = [point(each.name.replace("*", "mine"), unit=each.unit, rank="0") for each in TABLE]
    families = parsed(openmetrics(of(), series))
    steps = families["swarmtrain_train_step_seconds"]
    assert (steps.type, steps.unit) == ("gauge", "seconds")
    assert steps.samples[0].labels == {"run": "digits.1", "rank": "0"}
    assert families["swarmtrain_node_cpu_busy_ratio"].unit == "ratio"
    assert families["swarmtrain_gpu_temperature_celsius"].unit == "celsius"
    assert families["swarmtrain_interface_receive_bytes_per_second"].unit == ""
    assert len([name for name in families if not name.startswith("swarmtrain_run")]) == len(TABLE)


def test_a_run_is_told_by_its_state_its_step_and_what_it_went_on_from() -> None:
    families = parsed(openmetrics(of(state="running", step=7, restarts=2, lost_seconds=1.5), []))
    states = {each.labels["state"]: each.value for each in families["swarmtrain_run_state"].samples}
    assert states["running"] == 1.0 and sum(states.values()) == 1.0
    assert families["swarmtrain_run_step"].samples[0].value == 7
    (restarts,) = families["swarmtrain_run_restarts"].samples
    assert (restarts.name, restarts.value) == ("swarmtrain_run_restarts_total", 2.0)
    (lost,) = families["swarmtrain_run_lost_seconds"].samples
    assert (lost.name, lost.value) == ("swarmtrain_run_lost_seconds_total", 1.5)
    (run,) = families["swarmtrain_run"].samples
    assert run.name == "swarmtrain_run_info" and run.labels["run"] == "digits.1"
    assert run.labels["training"] == "digits"
    assert not any("step" in each.labels for family in families.values() for each in family.samples)


def test_what_is_old_is_no_value_of_now_and_what_is_no_number_is_nan() -> None:
    series = [point("train/loss", None, rank="0"), point("train/loss", 2.0, NOW - FRESH - 1, rank="1")]
    (loss,) = parsed(openmetrics(of(), series))["swarmtrain_train_loss"].samples
    assert loss.labels["rank"] == "0" and loss.value != loss.value


def test_two_names_of_a_script_that_become_one_are_told_once() -> None:
    series = [
        point("train/a b", 1.0, rank="0"),
        point("train/a-b", 2.0, rank="0"),
        point("train/a-b", 3.0, rank="1"),
    ]
    samples = parsed(openmetrics(of(), series))["swarmtrain_train_a_b"].samples
    assert [(each.labels["rank"], each.value) for each in samples] == [("0", 1.0), ("1", 3.0)]


def test_no_name_of_a_script_is_taken_for_one_of_ours() -> None:
    names = [
        "run/state",
        "run_step",
        "train/x",
        "train/x_total",
        "train/x_info",
        "train/x_created",
        "train/x_bucket",
    ]
    families = parsed(openmetrics(of(state="failed"), [point(name, rank="0") for name in names]))
    assert len(families["swarmtrain_run_state"].samples) == 6
    assert families["swarmtrain_train_x_total"].samples[0].value == 1.0


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, NAMES, st.floats() | st.none()), max_size=10))
def test_whatever_a_script_calls_its_values_the_text_is_read(
    told: list[tuple[str, str, float | None]],
) -> None:
    series = [point(f"train/{name}", value, node=label) for name, label, value in told]
    families = parsed(openmetrics(of(target='a\n"b" \\ \udcff'), series))
    nodes = {
        each.labels["node"]
        for name in families
        if name.startswith("swarmtrain_train")
        for each in families[name].samples
    }
    assert nodes <= {label for _, label, _ in told}


# ---- served by the client ----------------------------------------------------------------------------------------


def get(address: object, path: str = "/metrics") -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_what_is_read_is_served_on_this_machine_and_asked_for_once_a_second() -> None:
    asked: list[int] = []

    def read() -> str:
        asked.append(1)
        return "# EOF\n"

    with serving(parse_address("0"), read) as at:
        assert at.host == "127.0.0.1"
        answers = [get(at) for _ in range(5)]
        assert answers[0] == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n")
        assert len(asked) <= 2
        assert get(at, "/")[0] == 404
        with pytest.raises(ClusterError, match=f"cannot listen on {at}"), serving(at, read):
            pass


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("localhost:9464", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("", True),
        ("elsewhere.example:9464", False),
        ("localhost.elsewhere.example", False),
        ("[", False),
    ],
)
def test_what_is_served_to_this_machine_is_no_page_s_of_elsewhere(host: str, is_served: bool) -> None:
    with serving(parse_address("0"), lambda: "# EOF\n") as at, closing(HTTPConnection(*at)) as asked:
        asked.request("GET", "/metrics", headers={"Host": host})
        assert asked.getresponse().status == (200 if is_served else 421)


def test_a_scraper_is_told_why_nothing_can_be_read() -> None:
    def read() -> str:
        raise ClusterError("the coordinator is silent")

    with serving(parse_address("127.0.0.1:0"), read) as at:
        assert get(at) == (503, "text/plain", "the coordinator is silent\n")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", "127.0.0.1:9464"),
        (":1", "127.0.0.1:1"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:80", "[::1]:80"),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize("text", ["train", "host:", "1:99999", "a:b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is no address to listen on"):
        parse_address(text)


# ---- served by the coordinator -----------------------------------------------------------------------------------


def test_the_coordinator_answers_scrapers_a_few_at_a_time_and_nothing_else(stage: Theatre) -> None:
    async def scene() -> None:
        with serving(parse_address("0"), lambda: "") as at:
            taken = at.port
        run = stage.make(metrics_port=taken)
        server = await open_endpoint(run, "unix:/nowhere")
        assert server is not None
        try:
            where = ServingAddress("127.0.0.1", taken)
            code, kind, text = await asyncio.to_thread(get, where)
            assert (code, kind[:28]) == (200, "application/openmetrics-text")
            assert parsed(text)["swarmtrain_run"].samples[0].labels["run"] == "t.1"
            assert (await asyncio.to_thread(get, where, "/etc/passwd"))[0] == 404
            head = b"GET /metrics HTTP/1.1\r\nHost: "
            assert b"421" in await said(taken, head + b"elsewhere.example\r\n\r\n")
            assert b"405" in await said(taken, b"POST /metrics HTTP/1.1\r\n\r\n")
            assert await said(taken, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n") == b""
            assert await said(taken, b"\xff\r\n\r\n") != b""
            silent = [await asyncio.open_connection("127.0.0.1", taken) for _ in range(8)]
            await asyncio.sleep(0.05)
            assert await said(taken, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
            for _, writer in silent:
                writer.close()
            await asyncio.sleep(0.05)
            assert b"200 OK" in await said(taken, b"GET /metrics HTTP/1.1\r\n\r\n")
            second = await open_endpoint(run, "unix:/nowhere")
            assert second is None and "is served to Prometheus on port" in run.journal.events[-1].text
        finally:
            server.close()

    asyncio.run(scene())


def test_who_asks_the_coordinator_without_end_costs_it_one_answer_a_second(
    stage: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []

    def make(*words: Any) -> str:
        made.append(time.monotonic())
        return openmetrics(*words)

    async def scene() -> None:
        with serving(parse_address("0"), lambda: "") as at:
            port = at.port
        server = await open_endpoint(stage.make(metrics_port=port), "unix:/nowhere")
        assert server is not None
        asked = [said(port, b"GET /metrics HTTP/1.1\r\n\r\n") for _ in range(6)]
        assert all(b"200 OK" in each for each in await asyncio.gather(*asked))
        server.close()

    monkeypatch.setattr(endpoint, "openmetrics", make)
    asyncio.run(scene())
    assert len(made) <= 1 + (made[-1] - made[0])


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()
