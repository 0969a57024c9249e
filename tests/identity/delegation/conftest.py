"""A service that trusts a test PKI, asked over HTTP with real tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from spinor.app import Service
from spinor.configuration import service as configuration
from spinor.http import State
from spinor.identity import service as identity
from spinor.identity.delegation.certificates import Certificates
from spinor.identity.keys import KeyRing
from spinor.identity.oauth.authentication import Guesses
from spinor.identity.routes import routes
from spinor.identity.tokens import Verifier
from spinor.settings import Settings
from spinor.x509.assertion import make_assertion
from spinor.x509.proxy import Credential
from tests.identity.workbench import ISSUER
from tests.x509.pki import Pki, make_pki

if TYPE_CHECKING:
    from tests.conftest import World

CA = "/DC=test/CN=Test Issuing CA"
ADA, ALAN = "/DC=test/DC=grid/CN=Ada Lovelace", "/DC=test/DC=grid/CN=Alan Turing"
TOKEN = "/api/auth/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM = {"grant_type": GRANT, "client_id": "spinor-cli"}
DOCUMENT = """
vos:
  astro:
    groups:
      astro_users: {properties: [normal_user], members: [ada, alan]}
      astro_full: {properties: [normal_user, full_proxy], members: [ada, alan]}
      astro_production: {properties: [normal_user, full_proxy]}
      astro_admins: {properties: [configuration_administrator], members: [ada]}
    voms:
      name: testvo
      sign_here: true
      groups: {/testvo/Role=production: astro_production, /testvo/Role=full: astro_full}
  bio:
    groups:
      bio_users: {properties: [normal_user, full_proxy], members: [bea, ada]}
users:
  ada:
    full_name: Ada Lovelace
    identities: [{issuer: /DC=test/CN=Test Issuing CA, subject: /DC=test/DC=grid/CN=Ada Lovelace}]
  alan: {full_name: Alan Turing}
  bea: {full_name: Béa Tinsley}
online_ca: {enabled: true, lifetime: 11d}
"""


@dataclass
class Desk:
    """The service, and those who ask it."""

    world: World
    keys: KeyRing
    settings: Settings
    parts: Certificates
    http: httpx.AsyncClient

    async def configure(self, document: str) -> None:
        async with self.world.db.transaction() as tx:
            await configuration.apply(tx, document, author="tests")

    async def token(self, user: str, vo: str, group: str) -> str:
        async with self.world.db.transaction() as tx:
            caller = await identity.caller_for(tx, user, vo, group)
            return await identity.access_token_for(tx, self.keys, ISSUER, caller)

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.request(method, path, json=body, headers=headers)

    async def sign_in(self, credential: Credential, *, audience: str = ISSUER, **form: str) -> httpx.Response:
        assertion = make_assertion(credential, audience=audience, now=datetime.now(UTC))
        return await self.http.post(TOKEN, data={**FORM, "assertion": assertion, **form})

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.world.db.transaction() as tx:
            return await (await tx.execute(query.encode())).fetchall()


@asynccontextmanager
async def open_desk(
    world: World, folder: Path, certificates: Path, vomsdir: Path, document: str = DOCUMENT
) -> AsyncIterator[Desk]:
    settings = Settings(
        database_url=world.db.url, data_dir=folder, url=ISSUER, keys_dir=folder / "keys", blob_dir=folder / "blobs",
        storage_dir=folder / "storage", ce_dir=folder / "computing", x509_dir=certificates, voms_dir=vomsdir,
    )  # fmt: skip
    keys = KeyRing.create(folder / "keys")
    verifier = Verifier(keys, ISSUER, world.db)
    service, parts = Service(), Certificates(settings)
    service.open(routes.all, world.db, State(settings, keys, verifier, parts, Guesses()), verifier.caller_of)
    transport = httpx.ASGITransport(app=service)
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        desk = Desk(world, keys, settings, parts, http)
        await desk.configure(document)
        yield desk


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("delegation-pki"))


@pytest.fixture
async def desk(world: World, tmp_path: Path, pki: Pki) -> AsyncIterator[Desk]:
    async with open_desk(world, tmp_path / "service", pki.certificates, pki.vomsdir) as made:
        yield made


@pytest.fixture
async def ada(desk: Desk) -> str:
    """Ada's token in the group that gets limited proxies only."""
    return await desk.token("ada", "astro", "astro_users")


@pytest.fixture
async def ada_full(desk: Desk) -> str:
    return await desk.token("ada", "astro", "astro_full")


@pytest.fixture
async def alan(desk: Desk) -> str:
    return await desk.token("alan", "astro", "astro_full")
