"""A real Chromium, without a window, that reads the dashboard as a person does; scripts/ensure-chromium installs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

SWARMTRAIN = str(Path(sys.executable).with_name("swarmtrain"))
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    found = os.environ.get("SWARMTRAIN_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    assert found, "there is no Chromium: scripts/ensure-chromium installs one"
    return found


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """The browser; as root it runs without its sandbox, which it cannot have there."""
    with sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=executable(), args=[*sandbox, *flags])
        yield browser
        browser.close()


@contextmanager
def dashboard(*words: str) -> Iterator[str]:
    """`swarmtrain dashboard`, as a person types it, and the address that it prints."""
    argv = [SWARMTRAIN, "dashboard", *words]
    serving = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        yield address
        serving.send_signal(signal.SIGINT)
        _, said = serving.communicate(timeout=15)
        assert (serving.returncode, said.strip()) == (130, "")
    finally:
        serving.kill()
        serving.communicate()


class Visit:
    """A page in a browser, and everything about it that a person would not want.

    Attributes:
        page: it.
        complaints: what its console said, and what it could not do.
        addresses: everything that it asked for.
    """

    def __init__(self, browser: Browser, **settings: Any) -> None:
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.context = browser.new_context(**settings)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def until(self, holds: str, seconds: float = 30) -> None:
        """Wait until an expression is true in the page. It is asked from here: the page's policy allows no `eval`."""
        limit = time.monotonic() + seconds
        while not self.page.evaluate(f"() => Boolean({holds})"):
            if time.monotonic() > limit:
                words = self.page.evaluate("document.body.innerText")[:2000]
                raise AssertionError(f"not within {seconds:.0f} s: {holds}; {self.complaints}\n{words}")
            time.sleep(0.05)
