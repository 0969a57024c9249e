"""In a real JupyterHub, whose users sign in at a real OpenID provider: notebooks, terminals, and the browser."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from spinor.credentials import Book, Server
from tests.acceptance.conftest import Service
from tests.notebook.community import join, person
from tests.servers.authority import Authority
from tests.servers.chromium import screenshot
from tests.servers.jupyterhub import JupyterHub, jupyterhub, open_lab, run_all_cells
from tests.servers.oidc import OIDCServer
from tests.servers.process import environ, found, run

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peer("oidc-provider"),
    pytest.mark.peer("jupyterhub"),
]


@pytest.fixture(scope="session")
def hub(service: Service, oidc_server: OIDCServer, jupyterhub: JupyterHub) -> JupyterHub:
    """A hub whose users may use the service."""
    join(service, "opaque", oidc_server, jupyterhub.client.client_id)
    return jupyterhub


@pytest.fixture
def settle(hub: JupyterHub, service: Service, oidc_server: OIDCServer) -> "Settle":
    return Settle(hub, service, oidc_server)


class Settle:
    """Prepares a home as the hub's image would: with the service's address, and no more."""

    def __init__(self, hub: JupyterHub, service: Service, provider: OIDCServer) -> None:
        self._hub, self._service, self._provider = hub, service, provider

    def __call__(self, name: str) -> Path:
        person(self._provider, name)
        ca_file = str(self._service.work / "data" / "tls" / "ca.pem")
        known = Server(ca_file=ca_file, lent_by=self._provider.issuer)
        home = self._hub.home(name)
        folder = home / ".config" / "spinor"
        folder.mkdir(parents=True)
        book = Book(current=self._service.url, servers={self._service.url: known})
        (folder / "client.json").write_bytes(msgspec.json.encode(book))
        return home


async def test_a_notebook_is_signed_in_runs_jobs_and_finds_files(hub: JupyterHub, settle: Settle) -> None:
    settle("emmy")
    hub.sign_in("emmy")
    hub.start("emmy")
    async with hub.kernel("emmy") as kernel:
        await kernel.text("%load_ext spinor")
        assert "emmy, demo_users of demo" in await kernel.text("%login")
        await kernel.text("open('ring.txt', 'w').write('noether')\n%put ring.txt /demo/emmy/ring.txt")
        cell = "import json, os\n[file] = json.load(open(os.environ['SPINOR_INPUTS']))\n"
        cell += "print(open(file['path']).read().upper())"
        await kernel.text(f"%%job --as job --name shout --input-data /demo/emmy/ring.txt\n{cell}")
        assert "done" in await kernel.text("job.wait()")
        assert "NOETHER" in await kernel.text("%logs $job.job_id")
        shown = await kernel.execute("%jobs name=shout")
        assert "shout" in shown[-1].data["text/html"]
        assert "/demo/emmy/ring.txt" in await kernel.text("%find name=ring.txt")
        assert "noether" in await kernel.text("%get /demo/emmy/ring.txt copy.txt\nprint(open('copy.txt').read())")
    hub.stop("emmy")


async def test_a_token_that_the_hub_has_renewed_is_found(
    hub: JupyterHub, settle: Settle, oidc_server: OIDCServer
) -> None:
    settle("sofya")
    hub.sign_in("sofya")
    hub.start("sofya")
    async with hub.kernel("sofya") as kernel:
        # This one is as it was at the start of the server, and never renewed.
        await kernel.text("import os\nlent = os.environ.pop('ACCESS_TOKEN')")
        await kernel.text("from spinor import connect\ngrid = connect()\nfirst = grid.client.token()")
        oidc_server.end_token(hub.auth_state("sofya")["access_token"])
        hub.visit("sofya")  # Its user opens a page: the hub renews the token in the file.
        assert await kernel.text("open(os.environ['SECRETS_MOUNT_PATH'] + '/access_token').read() == lent") == "False"
        shown = await kernel.text("grid.me")
        assert "sofya" in shown
        assert str(hub.token_file("sofya")) in shown
        assert await kernel.text("grid.client.token() == first") == "False"
    hub.stop("sofya")


@pytest.mark.peer("voms")
async def test_a_terminal_is_signed_in_and_gets_a_proxy(hub: JupyterHub, settle: Settle) -> None:
    home = settle("maria")
    hub.sign_in("maria")
    hub.start("maria")
    assert re.search(r"user\s+maria", await hub.terminal("maria", "spinor whoami"))
    proxy = home / "proxy.pem"
    command = f"X509_USER_PROXY={proxy} dirac-notebook-proxy-init --voms demo:/demo/Role=user --hours 12"
    said = await hub.terminal("maria", command)
    assert "limited" in said
    assert "/demo/Role=user" in said
    assert re.search(r"hours\s+(11\.9|12\.0)", said)
    assert "PRIVATE KEY" not in said
    assert proxy.stat().st_mode & 0o777 == 0o600
    asked = ["openssl", "x509", "-in", str(proxy), "-noout", "-subject", "-ext", "proxyCertInfo"]
    assert "1.3.6.1.4.1.3536.1.1.1.9" in run(asked, environ(home))  # The policy of a limited proxy.
    trusted = environ(home, X509_CERT_DIR=str(hub.provider.authority.directory))
    info = run([found("voms-proxy-info"), "-all", "-dont-verify-ac", "-file", str(proxy)], trusted)
    assert "RFC compliant proxy" in info
    assert "attribute : /demo/Role=user" in info
    # All servers of this hub are of one account, so the usual place of the token would be everybody's.
    kept = await hub.terminal("maria", f"BEARER_TOKEN_FILE={home}/bearer spinor notebook login")
    assert "as maria, group demo_users" in kept
    hub.stop("maria")


@pytest.mark.peer("chromium")
async def test_what_the_browser_shows(hub: JupyterHub, settle: Settle, page: "Page") -> None:
    settle("hedy")
    hub.write_notebook(
        "hedy", "grid.ipynb",
        "%load_ext spinor",
        "%login",
        "%%job --name frequency-hopping --as job --memory 500MB -- 79\nimport sys\n"
        "for channel in range(1, int(sys.argv[1]) + 1, 13):\n    print('channel', channel)",
        "job.wait()",
        "from spinor import connect\ngrid = connect()\n"
        "jobs = grid.jobs.submit(name='<img src=x onerror=alert(1)>', executable='bash',\n"
        "    arguments=['-c', 'exit {code}'], parameters={'code': [0, 0, 0, 1, 0, 2]}).wait()",
        "open('melody.txt', 'w').write('88 keys')\n%put melody.txt /demo/hedy/melody.txt",
        "%find /demo/hedy",
        "jobs.to_pandas()[['job_id', 'name', 'status', 'exit_code', 'wall_s']]",
        "%job 424242",
    )  # fmt: skip
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await page.set_viewport_size({"width": 1280, "height": 2600})
    await open_lab(page, hub, "hedy", "grid.ipynb")
    await run_all_cells(page)
    await page.wait_for_selector(".jp-OutputArea-output:has-text('424242')", timeout=60_000)
    shown = await page.inner_text(".jp-Notebook")
    assert "hedy demo_users of demo" in shown
    assert "frequency-hopping" in shown
    assert "<img src=x onerror=alert(1)>" in shown
    assert await page.locator(".jp-OutputArea-output img").count() == 0
    assert dialogs == []
    assert (await screenshot(page, "notebook")).stat().st_size > 1000
    hub.stop("hedy")


async def test_the_hub_gives_the_token_of_its_login_to_a_server_that_may_have_it(
    authority: Authority, oidc_server: OIDCServer
) -> None:
    own = "admin:auth_state!user"
    roles = [
        {"name": "user", "scopes": ["self", own]},
        {"name": "server", "scopes": ["users:activity!user", "access:servers!server", own]},
    ]
    asked = "from spinor.hub_service import ask_hub\nask_hub()"
    oidc_server.add_user("ida")
    with jupyterhub(authority, oidc_server, roles=roles) as open_hub:
        open_hub.sign_in("ida")
        open_hub.start("ida")
        async with open_hub.kernel("ida") as kernel:
            assert await kernel.text(asked) == repr(open_hub.auth_state("ida")["access_token"])


async def test_the_hub_gives_none_to_a_server_that_may_not(jupyterhub: JupyterHub, oidc_server: OIDCServer) -> None:
    oidc_server.add_user("otto")
    jupyterhub.sign_in("otto")
    jupyterhub.start("otto")
    async with jupyterhub.kernel("otto") as kernel:
        assert await kernel.text("from spinor.hub_service import ask_hub\nprint(ask_hub())") == "None\n"
    jupyterhub.stop("otto")
