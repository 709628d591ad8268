"""The dashboard in a real browser: a run while it trains, runs that have ended, and a page that was kept."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import SWARMTRAIN, Visit, chromium, dashboard
from healed import events, reach
from healed_local import agent_of
from playwright.sync_api import Browser

from swarmtrain import Client, Job
from swarmtrain.control.handle import RunHandle
from swarmtrain.job import Restart
from swarmtrain.launchers.local import LocalLauncher

# Its stamp is the time at which a step ended, in as many digits as travel.
LIVE = """
import sys, time, torch, torch.distributed as dist
from torch import nn
from swarmtrain.trainer import report
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(8, 1))
for step in range(4000):
    time.sleep(0.05)
    loss = model(torch.randn(4, 8)).square().mean()
    loss.backward()
    report(loss=loss, stamp=time.time() % 10000)
    print(f"step {step}", flush=True)
"""
SHORT = """
import os, sys, time
from swarmtrain.trainer import report
for step in range(1, 61):
    time.sleep(0.01)
    report(loss=1 / step, step=step)
    print(f"<b>step</b> {step}", flush=True)
    if sys.argv[1:] == [str(step)]:
        raise ValueError("shard 7 is damaged")
"""
LAST = "swarmtrain.charts[0].tracks.map((track) => track.columns.step.at(-1))"

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


# What can be operated and seen. Of a choice one is a stop, from which arrows go on.
OPERABLE = """() => {
    const all = [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")];
    window.operable = new Set(all.filter((each) => each.checkVisibility() && each.tabIndex >= 0 && !each.disabled
        && (each.type !== "radio" || each.checked)));
    document.addEventListener("focusin", (event) => window.operable.delete(event.target));
    return window.operable.size;
}"""


# Newer points in place of the last; a gap; another generation. Where nothing was measured, and what a plot makes of it.
COLUMNS = """async () => {
    const { align, gaps, grow, whole } = await import("/page/data/columns.js");
    const of = (x, generation = 1) => whole({ x, mean: x, time: x, step: x, generation: x.map(() => generation) });
    const had = of([1, 2, 3]);
    const fits = [grow(had, of([3, 9])), grow(had, of([10])), grow(had, of([9, 10], 2))];
    const long = of([1, 2, 3, 40]);
    const [, one, other] = align([of([5, 6, 7, 60]), of([6.5, 8, 9])], "time", [0, 0]);
    return [...fits, [...had.x], gaps(long, "time"), [...one], [...other].slice(0, 3)];
}"""


def submit(text: str, name: str, *args: str, nodes: int = 1) -> RunHandle:
    script = Path(f"{name}.py")
    script.write_text(text)
    wanted = Job(
        name=name, script=script.name, files=(script.name,), args=args, nodes=nodes, restart=Restart(max=0)
    )
    return Client("local").run(wanted)


def answer(address: str, **headers: str) -> int:
    """The status of what somebody else is answered who knows no cookie."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.alone
def test_a_run_is_shown_while_it_trains(browser: Browser) -> None:
    handle = submit(LIVE, "live", nodes=2)
    reach(handle, 5)
    visit = Visit(browser, viewport={"width": 1200, "height": 900})
    page = visit.page
    with dashboard("live", "--on", "local") as address:
        strange = address.partition("?")[0]
        assert answer(strange) == 403
        assert answer(f"{strange}api/series?run=live") == 403
        assert answer(address, Host="evil.example") == 421
        assert answer(address, **{"Sec-Fetch-Site": "cross-site"}) == 403
        page.goto(address)
        assert "token" not in page.url
        visit.until("document.querySelector('#state').textContent === 'running'")
        assert visit.text("#title") == handle.id  # and nothing is laid over it
        visit.until("document.querySelector('#chart-loss')")
        page.locator("#chart-loss").scroll_into_view_if_needed()  # what nobody sees is not asked for
        visit.until(f"{LAST}.length === 2 && {LAST}.every(Boolean)")

        # A point is there two seconds after its step, seen from a place of its own.
        visit.until("document.querySelector('#chart-train-stamp')")
        page.locator("#chart-train-stamp").scroll_into_view_if_needed()
        late = page.evaluate(
            """async () => {
            const chart = document.querySelector("#chart-train-stamp").chart;
            const late = [];
            let before = 0;
            for (const end = performance.now() + 4000; performance.now() < end;) {
                await new Promise(requestAnimationFrame);
                const stamp = chart.tracks[0]?.columns.mean.at(-1) ?? 0;
                if (stamp > before && before) late.push((Date.now() / 1000) % 10000 - stamp);
                before = stamp;
            }
            return late;
        }"""
        )
        assert len(late) >= 2 and max(late) < 2.0, late

        by_keyboard(visit)

        # The coordinator dies and comes back: nothing that it was away for is missing, and nothing comes twice.
        page.evaluate(
            """() => {
            window.said = [];
            const place = document.querySelector("#connection");
            new MutationObserver(() => window.said.push(place.textContent)).observe(place, { childList: true });
        }"""
        )
        assert visit.complaints == []
        with paused(LocalLauncher().roots(handle.run)[""]):  # its init, which starts it again
            os.kill(agent_of(handle, ""), signal.SIGKILL)
            time.sleep(2.0)
        back = time.time()
        reach(handle, (handle.status().step or 0) + 20)
        page.locator("input[value=time]").check(force=True)
        page.locator("#chart-loss").scroll_into_view_if_needed()
        visit.until(f"swarmtrain.charts[0].tracks.some((track) => track.columns.time.at(-1) > {back} + 1)")
        visit.until("document.querySelector('#connection').textContent === ''")
        assert any("training goes on, trying again" in each for each in page.evaluate("window.said"))
        gaps = page.evaluate(
            """async () => {
            const { gaps } = await import("/page/data/columns.js");
            return swarmtrain.charts[0].tracks.map((track) => gaps(track.columns, "time"));
        }"""
        )
        assert gaps == [[], []]
        with dashboard("live", "--on", "local") as another:
            other = Visit(browser)
            other.page.goto(another)
            other.until("document.querySelector('#state').textContent === 'running'")
        other.until("document.querySelector('#connection').textContent.includes('is away')")
        other.context.close()
        handle.stop()
        visit.until("document.querySelector('#state').textContent === 'stopped'")
        told = sum(len(lines) for lines in handle.logs())
        visit.until(f"swarmtrain.logs.store.count >= {told}")
        assert page.evaluate("swarmtrain.logs.store.count") == told
        numbers = page.evaluate("swarmtrain.shown.get(swarmtrain.runs[0]).events.map((event) => event.seq)")
        assert numbers == list(range(1, len(list(handle.events())) + 1))
        assert events(handle, "coordinator")
    assert visit.complaints == []
    assert {urlsplit(each).netloc for each in visit.addresses} == {urlsplit(address).netloc}


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def by_keyboard(visit: Visit) -> None:
    """Everything that can be done is reached and done without a mouse."""
    page = visit.page
    count = page.evaluate(OPERABLE)
    page.evaluate("document.activeElement.blur()")
    for _ in range(count + 20):
        page.keyboard.press("Tab")
    left = (
        "[...window.operable].filter((each) => each.isConnected && each.checkVisibility())"
        ".map((each) => each.outerHTML)"
    )
    assert page.evaluate(left) == []
    page.locator("#chart-loss .plot").focus()
    page.keyboard.press("ArrowLeft")
    visit.until("document.querySelector('#said').textContent.startsWith('step ')")
    page.keyboard.press("+")
    visit.until("swarmtrain.range('step') !== null")
    page.keyboard.press("Escape")
    visit.until("swarmtrain.range('step') === null")
    page.keyboard.press("/")
    page.keyboard.type("step 1")
    visit.until("swarmtrain.logs.shown > 0 && swarmtrain.logs.shown < swarmtrain.logs.store.count")
    page.locator("#main").focus()
    page.keyboard.press("?")
    visit.until("document.querySelector('dialog').open")
    page.keyboard.press("Escape")
    visit.until("!document.querySelector('dialog').open")
    bars = page.locator(".strip [tabindex='0']")
    bars.focus()
    assert "generation 1" in visit.text("#timeline .detail")


def shows_both(visit: Visit, first: RunHandle, other: RunHandle) -> None:
    """Two runs on one plot, with the first one's end in words."""
    visit.until("document.querySelector('#diagnosis .verdict') && document.querySelector('#chart-loss')")
    visit.page.locator("#chart-loss").scroll_into_view_if_needed()  # what nobody sees is not asked for
    visit.until(f"{LAST}.join() === '40,60'")
    visit.until("document.querySelectorAll('#chart-loss .legend button').length === 2")
    legend = visit.text("#chart-loss .legend")
    assert first.id in legend and other.id in legend
    assert "ValueError: shard 7 is damaged" in visit.text("#diagnosis .verdict")
    assert "raise ValueError" in visit.text("#diagnosis .evidence")
    assert visit.text("#state") == "failed"
    visit.page.locator("#logs").scroll_into_view_if_needed()
    visit.until("document.querySelector('#logs .lines').innerText.includes('ValueError')")
    assert visit.page.locator("#logs .lines b").count() == 0  # what workers write is text


def test_runs_that_have_ended_are_laid_over_each_other_and_kept(browser: Browser, tmp_path: Path) -> None:
    good, bad = submit(SHORT, "good"), submit(SHORT, "bad", "40")
    assert good.wait(60).state == "succeeded" and bad.wait(60).state == "failed"
    phone = Visit(browser, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    with dashboard("bad", "good", "--on", "local") as address:
        phone.page.goto(address)
        shows_both(phone, bad, good)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = phone.page.evaluate(ground)
        phone.page.locator("#theme").click()
        assert phone.text("#theme") == "Theme: light"
        assert phone.page.evaluate(ground) != dark
        phone.page.locator("#choose").click()
        phone.page.locator("#dialog select").select_option(good.id)
        phone.page.keyboard.press("Escape")
        phone.until(f"document.querySelector('#diagnosis').textContent.includes('{good.id} succeeded')")
        assert good.id in phone.text("#title")
        phone.until(
            "swarmtrain.logs.store.line(59)?.text === '<b>step</b> 60' && swarmtrain.logs.store.count === 60"
        )
        fits, had, gaps, one = [True, False, False], [1, 2, 3, 9], [3], [5, 6, None, 7, None, None, None, 60]
        assert phone.page.evaluate(COLUMNS) == [*fits, had, gaps, one, [None, None, 6.5]]
    assert phone.complaints == []

    kept = tmp_path / "kept.html"
    subprocess.run(
        [SWARMTRAIN, "dashboard", "bad", "good", "--on", "local", "--export", str(kept)],
        check=True,
        timeout=60,
    )
    file = Visit(browser)
    file.page.goto(kept.as_uri())
    shows_both(file, bad, good)
    file.page.locator("input[value=time]").check(force=True)
    file.until("swarmtrain.charts[0].axis === 'time' && swarmtrain.charts[0].tracks.length === 2")
    assert file.complaints == []
    assert {each for each in file.addresses if not each.startswith("data:")} == {kept.as_uri()}
