"""A notebook to which nobody has lent a token: it shows a code, which its person confirms in the browser."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from spinor.identity.development import read_secret
from tests.acceptance.conftest import Service
from tests.servers.chromium import new_context, screenshot

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("chromium")]


@pytest.fixture
async def kernel(service: Service, tmp_path: Path) -> AsyncIterator[AsyncKernelClient]:
    """A kernel that knows the service's address, and nobody's token."""
    ours = ("SPINOR_", "BEARER_", "JUPYTERHUB_", "ACCESS_TOKEN", "SECRETS_")
    environ = {name: value for name, value in service.environ.items() if not name.startswith(ours)} | {
        "SPINOR_URL": service.url,
        "SPINOR_CA_FILE": str(service.work / "data" / "tls" / "ca.pem"),
        "SPINOR_CONFIG_DIR": str(tmp_path / "config"),
        "BEARER_TOKEN_FILE": str(tmp_path / "bearer"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(env=environ, cwd=str(tmp_path))
    client: AsyncKernelClient = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    try:
        yield client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


@pytest.fixture
async def person(browser: "Browser") -> "Page":
    """The authority of the service is not one that Chromium knows."""
    return await (await new_context(browser, trust_anyone=True)).new_page()


async def shown(kernel: AsyncKernelClient, cell: str, until: str) -> dict[str, Any]:
    """What the running cell displays, once it says that."""
    while True:
        message = await kernel.get_iopub_msg(timeout=60)
        content: dict[str, Any] = message["content"]
        if message["parent_header"].get("msg_id") != cell:
            continue
        if until in str(content.get("data", content.get("evalue", ""))):
            return content
        assert message["msg_type"] != "error", content


async def test_the_code_is_confirmed_in_the_browser(
    kernel: AsyncKernelClient, service: Service, person: "Page", tmp_path: Path
) -> None:
    cell = kernel.execute("%load_ext spinor\n%login")
    invitation = (await shown(kernel, cell, "Waiting for you"))["data"]["text/html"]
    await person.set_content(invitation)
    await screenshot(person, "notebook-invitation")
    address = html.unescape(re.findall(r'href="([^"]+)"', invitation)[0])
    assert address.startswith(service.url)
    code = re.findall(r">(\w{4}-\w{4})<", invitation)[0]
    await person.goto(address)
    await person.get_by_label("Secret").fill(
        read_secret(service.work / "data" / "secrets" / "development-login").secret
    )
    await person.get_by_role("button", name="Sign in").click()
    assert code.replace("-", "") in (await person.content()).replace("-", "")
    await person.get_by_role("button", name="Continue").click()
    await person.get_by_label("demo_users").check()
    await person.get_by_role("button", name="Allow").click()
    await person.wait_for_selector("text=is signed in")
    assert "Confirmed." in (await shown(kernel, cell, "Confirmed."))["data"]["text/html"]
    assert "demo_users of demo" in str(await shown(kernel, cell, "from the sign-in in this notebook"))
    # Its tokens are in the memory of the kernel alone.
    assert not (tmp_path / "bearer").exists()
    assert not (tmp_path / "config").exists()
    # Spinor's own runs out: the refresh token gives the next, which is not kept either.
    later = "import time\nnow = time.time\ntime.time = lambda: now() + 1300\n%jobs"
    await shown(kernel, kernel.execute(later), "job")
    assert not (tmp_path / "config" / "client.json").exists()


async def test_who_says_no_in_the_browser_is_heard_in_the_notebook(
    kernel: AsyncKernelClient, service: Service, person: "Page"
) -> None:
    cell = kernel.execute("%load_ext spinor\n%login")
    invitation = (await shown(kernel, cell, "Waiting for you"))["data"]["text/html"]
    await person.goto(html.unescape(re.findall(r'href="([^"]+)"', invitation)[0]))
    await person.get_by_label("Secret").fill(
        read_secret(service.work / "data" / "secrets" / "development-login").secret
    )
    await person.get_by_role("button", name="Sign in").click()
    await person.get_by_role("button", name="Continue").click()
    await person.get_by_role("button", name="Deny").click()
    error = await shown(kernel, cell, "turned down")
    assert "Traceback" not in str(error)
