"""A real JupyterHub whose users come from an OpenID provider, with their tokens in auth_state and in a file.

The notebooks of its users run in the Python that runs the tests, so that they find Spinor, and terminals find its
commands; JupyterLab itself has an environment of its own.
"""

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from bench.peers import ENVIRONMENTS
from tests.servers.authority import Authority
from tests.servers.oidc import OIDCServer, consent, sign_in
from tests.servers.process import ServerFailed, answers, environ, free_port, node, running, workplace

if TYPE_CHECKING:
    from playwright.async_api import Page

_ENVIRONMENT = ENVIRONMENTS / "jupyterhub"
_CONFIGURATION = Path(__file__).with_name("hub") / "configuration.py"
SCOPE = ("openid", "profile", "email", "eduperson_entitlement", "offline_access")
_WAIT_S = 120


class Output(NamedTuple):
    """One output of a cell: stream, execute_result, display_data or error; data by media type."""

    kind: str
    data: Mapping[str, Any]


class JupyterHub:
    def __init__(self, place: Path, provider: OIDCServer, api_token: str) -> None:
        self.place = place
        self.provider = provider
        self.url = f"https://localhost:{free_port()}"
        self.client = provider.add_client(f"hub-{secrets.token_hex(4)}", [f"{self.url}/hub/oauth_callback"])
        self._api_token = api_token
        self._browsers: dict[str, httpx.Client] = {}

    def home(self, user: str) -> Path:
        """Where JupyterLab of this user looks for notebooks."""
        return self.place / "homes" / user

    def write_notebook(self, user: str, name: str, *cells: str) -> None:
        """A notebook of code cells, in the user's home."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        written = [empty | {"id": f"cell-{number}", "source": source} for number, source in enumerate(cells)]
        notebook = {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        self.home(user).mkdir(parents=True, exist_ok=True)
        (self.home(user) / name).write_text(json.dumps(notebook))

    def token_file(self, user: str) -> Path:
        """$SECRETS_MOUNT_PATH/access_token, once the user's server has been started."""
        return self.place / "secrets" / user / "access_token"

    def set_environment(self, **variables: str) -> None:
        """For servers that start from now on."""
        file = self.place / "settings.json"
        settings = json.loads(file.read_text())
        settings["environment"] |= variables
        file.write_text(json.dumps(settings))

    def close(self) -> None:
        for browser in self._browsers.values():
            browser.close()

    def sign_in(self, user: str) -> None:
        """Go through the provider without a browser. The user is its subject, and needs no account here before."""
        browser = self._browsers.setdefault(user, httpx.Client(verify=self.provider.authority.context()))
        consent(browser, f"{self.url}/hub/oauth_login?next=/hub/home", user, until=f"{self.url}/hub/home")

    def visit(self, user: str) -> None:
        """As who is signed in opens a page of the hub: this is when it looks after the tokens."""
        self._browsers[user].get(f"{self.url}/hub/home").raise_for_status()

    def auth_state(self, user: str) -> dict[str, Any]:
        state: dict[str, Any] = self._api("GET", f"users/{user}").json()["auth_state"]
        return state

    def start(self, user: str) -> str:
        """Start the user's server; its address."""
        self._api("POST", f"users/{user}/server")
        deadline = time.monotonic() + _WAIT_S
        while not self._api("GET", f"users/{user}").json()["servers"].get("", {}).get("ready"):
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server of {user} is not ready; see {self.place / 'jupyterhub.log'}")
            time.sleep(0.1)
        return f"{self.url}/user/{user}"

    def stop(self, user: str) -> None:
        self._api("DELETE", f"users/{user}/server")
        deadline = time.monotonic() + _WAIT_S
        while self._api("GET", f"users/{user}").json()["servers"]:
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server of {user} does not stop; see {self.place / 'jupyterhub.log'}")
            time.sleep(0.1)

    @contextlib.asynccontextmanager
    async def kernel(self, user: str) -> AsyncIterator["Kernel"]:
        """A new kernel in the user's running server."""
        root = f"{self.url}/user/{user}/api/kernels"
        with self._http() as http:
            identifier = http.post(root, json={"name": "python3"}).raise_for_status().json()["id"]
            try:
                async with self._socket(f"user/{user}/api/kernels/{identifier}/channels") as connection:
                    yield Kernel(connection)
            finally:
                http.delete(f"{root}/{identifier}")

    async def terminal(self, user: str, command: str) -> str:
        """What a command says in a new terminal of the user's running server, escape sequences and echo included."""
        first, last = secrets.token_hex(8), secrets.token_hex(8)
        with self._http() as http:
            root = f"{self.url}/user/{user}/api/terminals"
            name = http.post(root).raise_for_status().json()["name"]
            # What is typed is echoed, so the words between which the answer is are put together by the shell.
            typed = f"echo {first}''{last}; {command}; echo {last}''{first}\r"
            said = ""
            async with self._socket(f"user/{user}/terminals/websocket/{name}") as connection:
                await connection.write_message(json.dumps(["stdin", typed]))
                while last + first not in said:
                    read = await connection.read_message()
                    if read is None:
                        raise ServerFailed(f"the terminal went away after: {said}")
                    kind, *words = json.loads(read)
                    said += "".join(words) if kind == "stdout" else ""
            http.delete(f"{root}/{name}")
        return said.partition(first + last)[2].partition(last + first)[0]

    @contextlib.asynccontextmanager
    async def _socket(self, path: str) -> AsyncIterator[WebSocketClientConnection]:
        address = f"wss{self.url.removeprefix('https')}/{path}"
        request = HTTPRequest(address, ca_certs=str(self.provider.ca_file), headers=self._bearer)
        connection = await websocket_connect(request)
        try:
            yield connection
        finally:
            connection.close()
            while await connection.read_message() is not None:
                pass  # It is closed when the other side says so, too.

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"token {self._api_token}"}

    def _http(self) -> httpx.Client:
        context = self.provider.authority.context()
        return httpx.Client(verify=context, headers=self._bearer, timeout=60, trust_env=False)

    def _api(self, method: str, path: str) -> httpx.Response:
        with self._http() as http:
            return http.request(method, f"{self.url}/hub/api/{path}").raise_for_status()


class Kernel:
    """A running kernel, which keeps its variables from cell to cell."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection

    async def execute(self, code: str) -> list[Output]:
        """Run a cell; its outputs, in which an error is one like others."""
        number = secrets.token_hex(8)
        header = {"msg_id": number, "msg_type": "execute_request", "username": "", "session": number, "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self._connection.write_message(json.dumps(message))
        outputs: list[Output] = []
        while True:
            read = await self._connection.read_message()
            if read is None:
                raise ServerFailed(f"the kernel went away; until then: {outputs}")
            said = json.loads(read)
            if said.get("parent_header", {}).get("msg_id") != number:
                continue
            kind, content = said["header"]["msg_type"], said["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return outputs
            if kind == "stream":
                outputs.append(Output(kind, {"text/plain": content["text"]}))
            elif kind == "error":
                outputs.append(Output(kind, {"text/plain": f"{content['ename']}: {content['evalue']}"}))
            elif kind in ("execute_result", "display_data", "update_display_data"):
                outputs.append(Output(kind, content["data"]))

    async def text(self, code: str) -> str:
        """What the cell prints and is; ServerFailed when it ends with an error."""
        outputs = await self.execute(code)
        if outputs and outputs[-1].kind == "error":
            raise ServerFailed(f"the cell failed: {outputs[-1].data['text/plain']}")
        return "".join(output.data.get("text/plain", "") for output in outputs)


@contextlib.contextmanager
def jupyterhub(
    authority: Authority,
    provider: OIDCServer,
    *,
    scope: tuple[str, ...] = SCOPE,
    refresh_age_s: int = 1,
    environment: Mapping[str, str] | None = None,
    roles: Sequence[Mapping[str, Any]] = (),
) -> Iterator[JupyterHub]:
    """A hub until the end of the block, with all servers of its users.

    A visit looks after the tokens when they were looked after refresh_age_s ago or earlier; it refreshes those that the
    provider takes no longer. The environment is that of the users' servers, besides what `set_environment` adds; roles
    are as JupyterHub has them, besides those of the tests.
    """
    with workplace("jupyterhub") as place:
        api_token = secrets.token_urlsafe(32)
        hub = JupyterHub(place, provider, api_token)
        settings = _settings(authority, hub, place) | {
            "client_id": hub.client.client_id, "client_secret": hub.client.client_secret, "api_token": api_token,
            "scope": list(scope), "refresh_age_s": refresh_age_s, "roles": list(roles),
        }  # fmt: skip
        settings["environment"] |= environment or {}
        file = place / "settings.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(settings))
        env = environ(place, SPINOR_TEST_HUB=str(file), JUPYTERHUB_CRYPT_KEY=secrets.token_hex(32))
        argv = [str(_ENVIRONMENT / "bin" / "python"), str(_ENVIRONMENT / "bin" / "jupyterhub")]
        argv += ["--config", str(_CONFIGURATION)]
        ready = f"{hub.url}/hub/health"
        with running(argv, lambda: answers(ready, authority.ca_file), place / "jupyterhub.log", wait_s=120, env=env):
            with contextlib.closing(hub):
                yield hub


async def open_lab(page: "Page", hub: JupyterHub, user: str, notebook: str) -> None:
    """In the browser: sign in, start the server, and open a notebook of the user's home in JupyterLab."""
    there = quote(f"/user/{quote(user)}/lab/tree/{quote(notebook)}", safe="")
    await page.goto(f"{hub.url}/hub/oauth_login?next={quote(f'/hub/spawn?next={there}', safe='')}")
    await sign_in(page, user)
    await page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=_WAIT_S * 1000)
    # Before that, running a cell asks for a kernel.
    await page.wait_for_selector("text=Python 3 | Idle", timeout=_WAIT_S * 1000)


async def run_all_cells(page: "Page") -> None:
    """Of the notebook that is open. Who asks waits for what the cells show."""
    await page.click("li.lm-MenuBar-item:has-text('Run')")
    await page.click("li.lm-Menu-item[data-command='runmenu:run-all']")


def _settings(authority: Authority, hub: JupyterHub, place: Path) -> dict[str, Any]:
    host = authority.host()
    python = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    kernel = place / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps(python | {"display_name": "Python 3", "language": "python"}))
    lab = place / "lab" / "labconfig" / "page_config.json"
    lab.parent.mkdir(parents=True)
    # It would ask each user about news, and a server of the project for them.
    lab.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    # A login shell would set its own PATH.
    terminals = {"terminado_settings": {"shell_command": ["/bin/bash"]}}
    (place / "lab" / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": terminals}))
    proxy = _ENVIRONMENT / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    environment = {
        "JUPYTER_PATH": str(place / "jupyter"),
        "JUPYTER_CONFIG_PATH": str(place / "lab"),
        # Commands of Spinor before those of JupyterLab.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }
    root = ["--allow-root"] if os.geteuid() == 0 else []
    return {
        "url": hub.url, "issuer": hub.provider.issuer, "ca_file": str(authority.ca_file),
        "certificate": str(host.certificate), "key": str(host.key), "hub_port": free_port(), "proxy_port": free_port(),
        "proxy": [node(), str(proxy)], "environment": environment,
        "singleuser": [str(_ENVIRONMENT / "bin" / "jupyterhub-singleuser"), *root],
    }  # fmt: skip
