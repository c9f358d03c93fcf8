"""Chromium without a screen or a graphics card, driven by Playwright; loopback only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from tests.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext

_OPTIONS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SCREEN = (1280, 800)


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """Run Chromium with an empty profile.

    Raises:
        AssertionError: At the end, if a page asked for anything outside of this machine.
    """
    program = require("chromium")
    elsewhere: set[str] = set()
    width, height = SCREEN
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=_OPTIONS) as browser,
        browser.new_context(viewport={"width": width, "height": height}) as context,
    ):
        context.on("request", lambda request: elsewhere.add(urlsplit(request.url).hostname or ""))
        yield context
    assert elsewhere <= {"127.0.0.1", ""}, elsewhere
