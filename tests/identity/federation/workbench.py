"""A whole Spinor over HTTPS beside real providers, and a person with a browser of few words."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx
import pytest
import uvicorn

import spinor.app
from spinor.access import Caller
from spinor.app import create_app
from spinor.configuration import service as configuration
from spinor.db import Database
from spinor.identity import service as identity
from spinor.identity.federation.provider import Upstreams
from spinor.identity.keys import KeyRing
from spinor.settings import Settings
from tests.servers.authority import Authority
from tests.servers.oidc import Client, OIDCServer, consent
from tests.servers.process import free_port

if TYPE_CHECKING:
    from tests.conftest import World

DOCUMENT = """
vos:
  astro:
    groups:
      astro_users: {{properties: [normal_user], members: [ada, alan]}}
      astro_admins:
        properties: [job_administrator, file_catalog_management, pilot_administrator, configuration_administrator]
        members: [ada]
      astro_managers: {{properties: [vo_administrator], members: [alan]}}
      astro_production: {{properties: [job_monitor]}}
  bio:
    groups:
      bio_users: {{properties: [normal_user], members: [bea]}}
      bio_managers: {{properties: [vo_administrator], members: [bea]}}
users:
  ada: {{full_name: Ada Lovelace}}
  alan: {{full_name: Alan Turing}}
  bea: {{full_name: Beatrice Tinsley}}
identity_providers:
{providers}
"""
PROVIDER = """
  {name}:
    title: {title}
    issuer: {issuer}
    client_id: {client_id}
    client_secret_file: {secret_file}
    ca_file: {ca_file}
    scopes: [openid, profile, email, eduperson_entitlement, wlcg.groups, eduperson_assurance, cert_entitlement]
    registration: {registration}
    recheck: 1h
    memberships: [{memberships}]
"""
MEMBER = "urn:mace:egi.eu:group:astro.example.org:role=member#aai.egi.eu"
RULES = (
    f'{{entitlement: "{MEMBER}", vo: astro, group: astro_users}}, '
    "{wlcg_group: /astro/production, vo: astro, group: astro_production}"
)


class Clock:
    """The real time, and as much more as a test wants."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Spinor:
    """A service that answers at `url`."""

    db: Database
    settings: Settings
    clock: Clock
    authority: Authority
    world: World
    url: str
    providers: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> KeyRing:
        return KeyRing.load(self.settings.keys_dir)

    async def provide(
        self,
        name: str,
        issuer: str,
        client: Client,
        *,
        registration: str = "rules",
        memberships: str = RULES,
        **more: str,
    ) -> None:
        """Put a provider into the operations data, or change it."""
        secret_file = ""
        if client.client_secret:
            secrets_dir = self.settings.data_dir / "secrets" / "providers"
            secrets_dir.mkdir(parents=True, exist_ok=True)
            (secrets_dir / name).touch(mode=0o600)
            (secrets_dir / name).write_text(client.client_secret)
            secret_file = name
        text = PROVIDER.format(
            name=name,
            title=f"Login {name}",
            issuer=issuer,
            client_id=client.client_id,
            secret_file=secret_file or "''",
            ca_file=self.authority.ca_file,
            registration=registration,
            memberships=memberships,
        )
        self.providers[name] = text.rstrip() + "".join(f"\n    {key}: {value}" for key, value in more.items())
        await self.apply()

    async def apply(self, change: tuple[str, str] = ("", "")) -> None:
        document = DOCUMENT.format(providers="".join(self.providers.values()) or "  {}").replace(*change)
        async with self.db.transaction() as tx:
            await configuration.apply(tx, document, author="tests")

    def callback(self, name: str) -> str:
        return f"{self.url}/login/{name}/callback"

    @contextlib.asynccontextmanager
    async def person(self) -> AsyncIterator[Person]:
        async with httpx.AsyncClient(
            base_url=self.url,
            verify=self.authority.context(),
            trust_env=False,
            timeout=60,
            headers={"accept": "text/html"},
        ) as http:
            yield Person(self, http)

    async def memberships(self, user: str) -> dict[str, list[str]]:
        """Group -> sources."""
        async with self.db.transaction() as tx:
            rows = await (
                await tx.execute(
                    """SELECT g.name, m.sources FROM identity.membership m JOIN identity.vo_group g USING (group_id)
                         JOIN identity.user_account u USING (user_id) WHERE u.name = %s""",
                    [user],
                )
            ).fetchall()
        return dict(rows)

    async def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.db.transaction() as tx:
            return await (await tx.execute(query.encode(), parameters)).fetchall()

    async def caller(self, user: str, vo: str, group: str) -> Caller:
        async with self.db.transaction() as tx:
            return await identity.caller_for(tx, user, vo, group)

    async def api(self, caller: Caller, method: str, path: str, body: Any = None) -> httpx.Response:
        async with self.db.transaction() as tx:
            token = await identity.access_token_for(tx, self.keys, self.url, caller)
        async with httpx.AsyncClient(
            base_url=self.url, verify=self.authority.context(), trust_env=False, timeout=60
        ) as http:
            return await http.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})


@dataclass
class Person:
    """Somebody at a browser, who sees Spinor's pages and posts the forms of oidc-provider."""

    spinor: Spinor
    http: httpx.AsyncClient

    async def begin(self, provider: str, next_path: str = "") -> str:
        """Where the provider wants to see them."""
        after = f"?next={quote(next_path, safe='')}" if next_path else ""
        answer = await self.http.get(f"/login/{provider}{after}")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def come_back(self, server: OIDCServer, address: str, sub: str, provider: str) -> str:
        """The address to which the provider sends them back."""

        def at_the_provider() -> str:
            with server.http() as http:
                return consent(http, address, sub, until=self.spinor.callback(provider))

        return await asyncio.to_thread(at_the_provider)

    async def sign_in(self, server: OIDCServer, sub: str, provider: str, next_path: str = "/account") -> httpx.Response:
        """The answer of the callback."""
        address = await self.begin(provider, next_path)
        return await self.http.get(await self.come_back(server, address, sub, provider))

    async def user(self) -> str:
        """Who is signed in at this browser; empty when nobody is."""
        page = await self.http.get("/account")
        if page.status_code != 200:
            return ""
        return page.text.partition("sign in as <b>")[2].partition("</b>")[0]

    async def form(self, path: str, **fields: str) -> httpx.Response:
        """Fill in the form of a page, with its hidden token."""
        page = await self.http.get(path)
        token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
        return await self.http.post(path, data={"form_token": token, **fields})


def asked(address: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def absolute(base: str, address: str) -> str:
    return urljoin(base, address)


@contextlib.asynccontextmanager
async def running_spinor(
    world: World, authority: Authority, place: Path, monkeypatch: pytest.MonkeyPatch, *, development: bool = False
) -> AsyncIterator[Spinor]:
    port = free_port()
    url = f"https://localhost:{port}"
    KeyRing.create(place / "keys")
    settings = Settings(
        database_url=world.db.url, data_dir=place, url=url, keys_dir=place / "keys", blob_dir=place / "blobs",
        storage_dir=place / "storage", ce_dir=place / "computing", development_login=development,
    )  # fmt: skip
    clock = Clock()

    def with_our_clock(secrets_dir: Path) -> Upstreams:
        return Upstreams(secrets_dir, clock)

    monkeypatch.setattr(spinor.app, "Upstreams", with_our_clock)
    host = authority.host()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings), host="127.0.0.1", port=port, ssl_keyfile=str(host.key),
            ssl_certfile=str(host.certificate), log_config=None, access_log=False,
        )
    )  # fmt: skip
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.02)
        made = Spinor(world.db, settings, clock, authority, world, url)
        yield made
    finally:
        server.should_exit = True
        await task
