"""How smooth the dashboard is with a million points and a million lines: frame times and memory, by Chromium.

    scripts/ensure-chromium
    python benchmarks/dashboard.py [--points 1000000] [--lines 1000000]

A short run is made on this machine, and its archive is filled as a long run would have filled it. Then its page is
opened in a Chromium without a window, every line is loaded, and somebody scrolls, searches, points and zooms. A frame
is what passes between two callbacks of `requestAnimationFrame`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import CDPSession, Page, sync_playwright

from swarmtrain import Client, Job
from swarmtrain.coordinator.store.output import OutputStore
from swarmtrain.coordinator.store.series.columns import Columns
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import SeriesLimits, SeriesStore
from swarmtrain.wire.disk.storage import Storage

_SCRIPT = 'import os\nprint("rank", os.environ["RANK"], "is there")\n'
_RANKS = 4
_SERIES = ("train/loss", "train/step_seconds", "train/learning_rate", "train/gradient_norm", "train/samples")
_EVERY = 0.05  # seconds between two steps
_BATCH = 2000  # lines that come at a time
_FRAMES = """() => new Promise((done) => {
    const times = [];
    let before = performance.now();
    window.stopFrames = () => { window.isStopped = true; };
    window.isStopped = false;
    const next = (now) => {
        times.push(now - before);
        before = now;
        if (window.isStopped) done(times.slice(1)); else requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SWARMTRAIN_HOME"] = directory
        os.chdir(directory)
        Path("train.py").write_text(_SCRIPT)
        handle = Client("local").run(
            Job(script="train.py", files=("train.py",), nodes=1, workers_per_node=_RANKS)
        )
        handle.wait(120)
        place = Storage(Path(directory)).coordinator(handle.id)
        points = _fill_series(place / "series", arguments.points)
        lines = _fill_output(place / "output.jsonl", arguments.lines)
        print(f"{points:,} points in {len(_SERIES) * _RANKS} series, and {lines:,} lines")
        serving = subprocess.Popen(
            [str(Path(sys.executable).with_name("swarmtrain")), "dashboard", "train", "--on", "local"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert serving.stdout is not None
            _visit(serving.stdout.readline().strip(), lines)
        finally:
            serving.terminate()
            serving.communicate()


def _fill_series(place: Path, points: int) -> int:
    shutil.rmtree(place, ignore_errors=True)
    store = SeriesStore(place, beside=lambda work: work())
    chance, each, made = random.Random(0), points // (len(_SERIES) * _RANKS), 0
    begin = time.time() - each * _EVERY
    for start in range(0, each, 10_000):
        count = min(10_000, each - start)
        steps = list(range(start + 1, start + count + 1))
        times = [round(begin + step * _EVERY, 2) for step in steps]
        for name in _SERIES:
            for rank in range(_RANKS):
                values = [_value(name, step, each, chance) for step in steps]
                key = StreamKey(name, (("rank", str(rank)),), "node0", 1)
                store._head.streams[key] = Columns(times, steps, values)
                made += count
        store._head.points = max(store._head.points, SeriesLimits().head)
        store._tend()
    store.close()
    return made


def _value(name: str, step: int, steps: int, chance: random.Random) -> float:
    if name == "train/loss":
        return 4 * math.exp(-3 * step / steps) + 0.2 + chance.gauss(0, 0.1)
    if name == "train/samples":
        return 256.0 * step
    return 0.05 + abs(chance.gauss(0, 0.005))


def _fill_output(path: Path, lines: int) -> int:
    store = OutputStore(path)
    offsets = {rank: store.offsets.get((1, rank), 0) for rank in range(_RANKS)}
    begin = time.time()
    for start in range(0, lines, _BATCH):
        rank = start // _BATCH % _RANKS
        text = "".join(
            f"step {at}: loss {4 / (1 + at / 1e5):.6f}, learning rate 0.0003, 1234.5 samples/s, epoch {at // 9999}\n"
            for at in range(start, min(lines, start + _BATCH))
        )
        store.append((1, rank), "node0", begin + start / lines, offsets[rank], text)
        offsets[rank] += len(text)
    store.close()
    return lines


# ---- the visit -------------------------------------------------------------------------------------------------------


def _visit(address: str, lines: int) -> None:
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(
            executable_path=path, args=[*sandbox, "--enable-precise-memory-info"]
        )
        print(f"Chromium {browser.version}, without a window, {os.cpu_count()} processors")
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        began = time.monotonic()
        page.goto(address)
        _until(page, "swarmtrain.charts.length && swarmtrain.charts[0].tracks.length === 4")
        print(f"the plots are there after {time.monotonic() - began:.1f} s")
        told = page.evaluate(
            "swarmtrain.charts.flatMap((chart) => chart.tracks).map((track) => track.columns.x.length)"
        )
        print(
            f"of {len(told)} series that are in view {sum(told):,} points are drawn, at most {max(told):,} of one"
        )
        _until(page, "swarmtrain.logs.store.count >= 20000")
        _memory(session, "with the last 20,000 lines")
        began = time.monotonic()
        page.get_by_role("button", name="Load every line").click()
        _until(page, f"swarmtrain.logs.store.count >= {lines}", 300)
        print(f"every line is there after {time.monotonic() - began:.1f} s")
        _memory(session, f"with {lines:,} lines")
        _framed(page, "at rest", lambda: time.sleep(1))
        page.locator(".lines").scroll_into_view_if_needed()
        page.locator(".lines").hover()
        _framed(page, "scrolling the lines by wheel", lambda: _wheel(page))
        page.locator(".lines").focus()
        _framed(page, "paging through the lines by keyboard", lambda: _press(page, "PageUp", 100))
        _framed(page, "jumping to the first line and the last", lambda: _press(page, "Home", 10, "End"))
        began = time.monotonic()
        _framed(page, "searching all lines as one types", lambda: _search(page, "loss 1.5"))
        print(f"  {page.evaluate('swarmtrain.logs.shown'):,} lines found in {time.monotonic() - began:.1f} s")
        page.locator("#chart-loss").scroll_into_view_if_needed()
        _framed(page, "pointing along a plot", lambda: _point(page))
        page.locator("#chart-loss .plot").focus()
        _framed(page, "zooming in and out", lambda: _zoom(page))
        _memory(session, "at the end")
        browser.close()


def _until(page: Page, holds: str, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not page.evaluate(f"() => Boolean({holds})"):
        assert time.monotonic() < limit, holds
        time.sleep(0.1)


def _framed(page: Page, what: str, act: Callable[[], None]) -> None:
    page.evaluate(f"() => {{ window.framed = ({_FRAMES})(); }}")
    act()
    page.evaluate("window.stopFrames()")
    times = sorted(page.evaluate("window.framed"))
    print(
        f"{what}: {len(times)} frames, median {statistics.median(times):.1f} ms,"
        f" 99 % within {times[int(len(times) * 0.99)]:.1f} ms, longest {times[-1]:.1f} ms"
    )


def _memory(session: CDPSession, when: str) -> None:
    session.send("HeapProfiler.collectGarbage")
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    print(f"  memory {when}: {found['JSHeapUsedSize'] / 1e6:.0f} MB of scripts, {found['Nodes']:.0f} nodes")


def _wheel(page: Page) -> None:
    for _ in range(150):
        page.mouse.wheel(0, -3000)
        time.sleep(0.01)


def _press(page: Page, key: str, times: int, other: str = "") -> None:
    for _ in range(times):
        page.keyboard.press(key)
        if other:
            page.keyboard.press(other)


def _search(page: Page, text: str) -> None:
    page.get_by_role("searchbox").press_sequentially(text, delay=60)
    _until(page, "!document.querySelector('#logs .controls').textContent.includes('so far')")


def _point(page: Page) -> None:
    box = page.locator("#chart-loss .u-over").bounding_box()
    assert box is not None
    for at in range(200):
        page.mouse.move(box["x"] + box["width"] * at / 200, box["y"] + 50 + at % 30)


def _zoom(page: Page) -> None:
    for key in ("+", "+", "+", "-", "+", "Escape") * 3:
        page.keyboard.press(key)
        time.sleep(0.15)


if __name__ == "__main__":
    main()
