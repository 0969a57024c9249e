"""Debian's Chromium without a screen. It trusts the test authority as a browser of a person would: by its own store.

One browser serves a whole session of tests. Each test talks to it by a connection of its own, since a connection of
Playwright belongs to one event loop, and in contexts of its own, since these share no cookies.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.peers import ROOT
from tests.servers.authority import Authority
from tests.servers.process import environ, found, run, running, workplace

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

_SCREENSHOTS = ROOT / "build" / "screenshots"
_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--remote-debugging-port=0", "about:blank",
]  # fmt: skip


class Chromium(NamedTuple):
    """Where it takes connections of the DevTools protocol."""

    endpoint: str


@contextlib.contextmanager
def chromium(authority: Authority) -> Iterator[Chromium]:
    with workplace("chromium") as place:
        profile = place / "profile"
        _trust(place, authority.ca_file)
        # It chooses its port itself and leaves the address here.
        address = profile / "DevToolsActivePort"
        argv = [found("chromium"), f"--user-data-dir={profile}", *_ARGUMENTS]
        env = environ(place, XDG_CONFIG_HOME=str(place / "config"), XDG_CACHE_HOME=str(place / "cache"))
        with running(argv, lambda: address.exists() and "\n" in address.read_text(), place / "chromium.log", env=env):
            yield Chromium(f"http://127.0.0.1:{address.read_text().splitlines()[0]}")


@contextlib.asynccontextmanager
async def connected(to: Chromium) -> AsyncIterator["Browser"]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(to.endpoint)
        try:
            yield browser
        finally:
            for context in browser.contexts[1:]:  # The first is the browser's own.
                await context.close()
            await browser.close()


async def new_context(browser: "Browser", *, trust_anyone: bool = False) -> "BrowserContext":
    """Somebody's browser with no cookies yet. Who tests a server with another authority's certificate trusts anyone."""
    context = await browser.new_context(
        ignore_https_errors=trust_anyone, locale="en-GB", viewport={"width": 1280, "height": 800}
    )
    context.set_default_timeout(15_000)
    return context


async def screenshot(page: "Page", name: str) -> Path:
    """What the page shows now, whole, as build/screenshots/NAME.png."""
    _SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = _SCREENSHOTS / f"{name}.png"
    await page.screenshot(path=file, full_page=True)
    return file


def _trust(home: Path, ca_file: Path) -> None:
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = [found("certutil"), "-d", f"sql:{database}"]
    run([*certutil, "-N", "--empty-password"], environ(home))
    run([*certutil, "-A", "-t", "C,,", "-n", "test", "-i", str(ca_file)], environ(home))
