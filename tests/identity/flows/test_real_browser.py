"""A person with a terminal, and with Chromium on the same machine or on a phone, at a real service over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spinor.identity.development import read_secret
from tests.acceptance.conftest import SPINOR, Service, start_service
from tests.servers.chromium import new_context, screenshot

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("chromium")]


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    work = Path(tempfile.mkdtemp(prefix="spinor-browser-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        service.ok("login")
        yield service
    finally:
        service.run("down")
        shutil.rmtree(work, ignore_errors=True)


@pytest.fixture
def elsewhere(running: Service, tmp_path: Path) -> Service:
    """Another machine: it knows nothing of the service yet, and its browser leaves each address in a file."""
    opener = tmp_path / "open-browser"
    opener.write_text('#!/bin/sh\nprintf %s "$1" > "$0.new" && mv "$0.new" "$0.address"\n')
    opener.chmod(0o755)
    own = {
        "SPINOR_CONFIG_DIR": str(tmp_path / "config"),
        "BEARER_TOKEN_FILE": str(tmp_path / "token"),
        "BROWSER": str(opener),
    }
    return Service(tmp_path, {**running.environ, **own})


@dataclass
class Login:
    """`spinor login` while it waits."""

    process: asyncio.subprocess.Process
    said: str = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """What it has said, as soon as it matches."""
        assert self.process.stderr
        while not (found := re.search(pattern, self.said)):
            line = await self.process.stderr.readline()
            assert line, f"it ended: {self.said}"
            self.said += line.decode()
        return found

    async def end(self) -> int:
        assert self.process.stderr
        self.said += (await self.process.stderr.read()).decode()
        return await self.process.wait()


@contextlib.asynccontextmanager
async def login(machine: Service, running: Service, *words: str) -> AsyncIterator[Login]:
    there = ["--server", running.url, "--ca-file", str(running.work / "data" / "tls" / "ca.pem")]
    process = await asyncio.create_subprocess_exec(
        SPINOR, "login", *there, *words, env=machine.environ, cwd=machine.work, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Login(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def sign_in(page: Page, running: Service) -> None:
    secret = read_secret(running.work / "data" / "secrets" / "development-login").secret
    await page.get_by_label("Secret").fill(secret)
    await page.get_by_role("button", name="Sign in").click()


@pytest.fixture
async def person(browser: Browser) -> Page:
    """At this machine. The authority of a service of one's own is not one that Chromium knows."""
    page = await (await new_context(browser, trust_anyone=True)).new_page()
    return watched(page)


@pytest.fixture
async def phone(browser: Browser) -> Page:
    context = await browser.new_context(
        ignore_https_errors=True, viewport={"width": 375, "height": 720}, is_mobile=True
    )
    context.set_default_timeout(15_000)
    return watched(await context.new_page())


def watched(page: Page) -> Page:
    """A page that breaks its own content security policy says so in the console; that fails the test."""

    def look(text: str) -> None:
        assert "Content Security Policy" not in text, text

    page.on("console", lambda message: look(message.text))
    return page


async def test_the_terminal_is_let_in_by_the_browser_beside_it(
    running: Service, elsewhere: Service, person: Page
) -> None:
    async with login(elsewhere, running, "--browser", "--group", "demo_users") as waiting:
        address = (await waiting.until(r"https://\S+"))[0]
        opened = elsewhere.work / "open-browser.address"
        while not opened.exists():  # noqa: ASYNC110  Another process writes it.
            await asyncio.sleep(0.05)
        assert opened.read_text() == address
        await person.goto(address)
        await sign_in(person, running)
        await person.wait_for_selector("text=act for you?")
        await screenshot(person, "oauth-consent")
        await person.get_by_role("button", name="Allow").click()
        await person.wait_for_selector("text=You are signed in")
        assert person.url.startswith("http://127.0.0.1:")
        await screenshot(person, "oauth-back-in-the-terminal")
        assert await waiting.end() == 0, waiting.said
    who = elsewhere.ok("whoami")
    assert re.search(r"^group +demo_users$", who.out, re.MULTILINE)
    assert re.search(r"^session +[0-9a-f-]{36}$", who.out, re.MULTILINE)
    assert "renewed by itself" in who.out
    token = elsewhere.ok("token").out.strip()
    assert token == (elsewhere.work / "token").read_text().strip()
    assert (elsewhere.work / "token").stat().st_mode & 0o777 == 0o600
    elsewhere.ok("logout")
    assert elsewhere.run("whoami").code == 4
    assert elsewhere.run("whoami", BEARER_TOKEN=token).code == 4, "its session has ended, so nobody else can use it"


async def test_the_terminal_is_let_in_by_a_phone(running: Service, elsewhere: Service, phone: Page) -> None:
    async with login(elsewhere, running, "--device", "--scope", "self:read", "--scope", "files:read") as waiting:
        address = (await waiting.until(r"https://\S+"))[0]
        code = (await waiting.until(r"code +(\w{4}-\w{4})"))[1]
        await phone.goto(f"{address}?user_code={code}")
        await sign_in(phone, running)
        assert await phone.get_by_label("The code that it shows").input_value() in (code, code.replace("-", ""))
        await screenshot(phone, "oauth-device-code")
        await phone.get_by_role("button", name="Continue").click()
        await phone.wait_for_selector("text=Only go on if you started this yourself just now")
        await screenshot(phone, "oauth-device-confirm")
        await phone.get_by_label("demo_users").check()
        await phone.get_by_role("button", name="Allow").click()
        await phone.wait_for_selector("text=is signed in")
        await screenshot(phone, "oauth-device-done")
        assert await waiting.end() == 0, waiting.said
    assert re.search(r"^scopes +files:read, self:read$", elsewhere.ok("whoami").out, re.MULTILINE)
    elsewhere.ok("logout")


async def test_who_says_no_in_the_browser_is_heard_in_the_terminal(
    running: Service, elsewhere: Service, person: Page
) -> None:
    async with login(elsewhere, running, "--browser") as waiting:
        await person.goto((await waiting.until(r"https://\S+"))[0])
        await sign_in(person, running)
        await person.get_by_role("button", name="Deny").click()
        await person.wait_for_selector("text=You are not signed in")
        assert await waiting.end() == 4
    async with login(elsewhere, running, "--device") as waiting:
        address = (await waiting.until(r"https://\S+"))[0]
        code = (await waiting.until(r"code +(\w{4}-\w{4})"))[1]
        await person.goto(address)
        await person.get_by_label("The code that it shows").fill(code.lower())
        await person.get_by_role("button", name="Continue").click()
        await person.get_by_role("button", name="Deny").click()
        await person.wait_for_selector("text=was turned away")
        await screenshot(person, "oauth-device-denied")
        assert await waiting.end() == 4
        assert "turned down" in waiting.said
    assert not (elsewhere.work / "token").exists()


async def test_a_sign_in_may_be_too_narrow_to_see_who_it_is(running: Service, tmp_path: Path) -> None:
    own = {"SPINOR_CONFIG_DIR": running.environ["SPINOR_CONFIG_DIR"], "BEARER_TOKEN_FILE": str(tmp_path / "token")}
    narrow = Service(tmp_path, {**running.environ, **own})
    assert narrow.ok("login", "--scope", "files:read").err == f"Signed in to {running.url}.\n"
    assert narrow.run("whoami").code == 4
    running.ok("login")


@pytest.mark.parametrize("way", ["--browser", "--device"])
async def test_giving_up_leaves_nothing(running: Service, elsewhere: Service, way: str) -> None:
    async with login(elsewhere, running, way) as waiting:
        await waiting.until(r"https://\S+")
        waiting.process.send_signal(signal.SIGINT)
        assert await waiting.end() == 130
        assert "Traceback" not in waiting.said
    assert not (elsewhere.work / "token").exists()


async def test_errors_are_pages(running: Service, person: Page) -> None:
    await person.goto(f"{running.url}/api/auth/authorize?client_id=spinor-cli&redirect_uri=https://evil.example/")
    await person.wait_for_selector("text=not registered for it")
    await screenshot(person, "oauth-misdirected")
    await person.goto(f"{running.url}/device")
    await sign_in(person, running)
    await person.get_by_label("The code that it shows").fill("BCDF-GHJK")
    await person.get_by_role("button", name="Continue").click()
    await person.wait_for_selector("text=No program waits with this code")
    await screenshot(person, "oauth-device-wrong-code")
