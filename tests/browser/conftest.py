"""A real Chromium; tests are skipped without one (a failure where CI=true)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.stage import Stage, stage

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# The machine may be busy with the other tests; what must be quick says so itself.
expect.set_options(timeout=20_000)
Opener = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium is installed (apt-get install chromium)")
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as running:
        yield running


@pytest.fixture
def complaints() -> list[str]:
    """What pages wrote as errors; a test that expects one clears it."""
    return []


@pytest.fixture
def open_page(browser: Browser, complaints: list[str]) -> Iterator[Opener]:
    """Open a page in a browser context of its own; fails the test when a console error was left."""
    contexts: list[BrowserContext] = []

    def opener(
        address: str, *, width: int = 1680, height: int = 1000, scripts: tuple[Path, ...] = ()
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        for script in scripts:
            context.add_init_script(path=script)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not complaints
