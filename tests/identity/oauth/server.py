"""The whole address book of identity in this process: real tokens, real tables, no sockets."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from joserfc import jws
from joserfc.jwk import ECKey

from spinor.access import Caller
from spinor.app import Service
from spinor.configuration import service as configuration
from spinor.http import State
from spinor.identity import service as identity
from spinor.identity.federation.provider import Upstreams
from spinor.identity.keys import KeyRing, write_private
from spinor.identity.models import Proven, Tokens, Wish
from spinor.identity.oauth.authentication import Guesses
from spinor.identity.routes import routes
from spinor.identity.tokens import Verifier
from spinor.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import World

URL = "https://spinor.example.org"
TOKEN, REVOKE, INTROSPECT, TOKENS = (f"/api/auth/{name}" for name in ("token", "revoke", "introspect", "tokens"))
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECRET = "kGv1xw5LqEJ3Nf7sTz0yHbCmUoRiPaDe"
STORAGE = "https://se.example.org:1094"

OPERATIONS = """
vos:
  astro:
    groups:
      astro_users: {{properties: [normal_user], members: [ada, alan, robot]}}
      astro_admins: {{properties: [job_administrator, configuration_administrator], members: [ada]}}
    capabilities:
      audiences: [https://ce.example.org]
      rules:
        - {{properties: [normal_user], scopes: ["storage.read:/", "storage.modify:/users/{{user}}", compute.read]}}
        - {{groups: [astro_admins], scopes: ["storage.stage:/"]}}
  bio:
    groups:
      bio_users: {{properties: [normal_user], members: [bea]}}
users:
  ada: {{full_name: Ada Lovelace}}
  alan: {{full_name: Alan Turing}}
  bea: {{full_name: Beatrice Tinsley}}
  robot: {{}}
clients:
  runner:
    name: Runner of the astronomers
    kind: service
    grants: [client_credentials, token_exchange]
    secret_file: runner
    acts_as: {{user: robot, vo: astro, group: astro_users}}
    scopes: [jobs:read, jobs:submit, config:write]
  signer:
    name: A service with a key
    kind: service
    grants: [client_credentials]
    jwks: [{key}]
    acts_as: {{user: robot, vo: astro, group: astro_users}}
  gateway:
    name: A gateway for people
    kind: confidential
    grants: [authorization_code, refresh_token, token_exchange]
    redirect_uris: ["https://gateway.example.org/back"]
    secret_file: gateway
    exchange_from: ["{url}"]
    introspect: true
  second-gateway:
    name: Another gateway
    kind: confidential
    grants: [token_exchange]
    secret_file: gateway
    exchange_from: ["{url}"]
  browser-app:
    name: An app in a browser
    kind: public
    grants: [authorization_code, refresh_token]
    redirect_uris: ["https://app.example.org/back"]
sites:
  LOCAL:
    storage_elements:
      se: {{plugin: file, root: /srv/data, vos: [astro], options: {{audience: "{storage}"}}}}
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Server:
    world: World
    settings: Settings
    keys: KeyRing
    app: Service
    client_key: ECKey
    guesses: Guesses

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        sent: list[Any] = []
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw,
            "path_params": {}, "http_version": "1.1", "client": ("192.0.2.1", 4711),
        }  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        content = b"".join(part.get("body", b"") for part in sent[1:])
        found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, json.loads(content) if content else None)

    async def form(self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self.send("POST", path, urlencode(fields).encode(), {**kind, **(headers or {})})

    async def as_client(self, name: str, path: str, secret: str = SECRET, /, **fields: str) -> Answer:
        return await self.form(path, fields, basic(name, secret))

    async def get(self, path: str, token: str = "") -> Answer:
        return await self.send("GET", path, b"", {"authorization": f"Bearer {token}"} if token else {})

    async def post(self, path: str, token: str, body: Any) -> Answer:
        return await self.send("POST", path, json.dumps(body).encode(), {"authorization": f"Bearer {token}"})

    async def sign_in(
        self, user: str = "ada", scope: str = "", *, client_id: str = "spinor-cli", vo: str = "", group: str = ""
    ) -> Tokens:
        """Tokens of somebody, as if they had signed in with that client."""
        async with self.world.db.transaction() as tx:
            return await identity.sign_in(
                tx, self.keys, URL, Proven(user=user, signed_in_by="test"), Wish(scope=scope, vo=vo, group=group),
                client_id=client_id,
            )  # fmt: skip

    async def caller(self, user: str, vo: str, group: str) -> Caller:
        async with self.world.db.transaction() as tx:
            return await identity.caller_for(tx, user, vo, group)

    def assertion(self, header: Mapping[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """What the client `signer` proves itself with, but for the changes; None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": "signer", "sub": "signer", "aud": URL + TOKEN, "iat": now, "exp": now + 120,
            "jti": secrets.token_urlsafe(8), **changes,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        full = {"alg": "ES256", "kid": self.client_key.kid, **(header or {})}
        full = {name: value for name, value in full.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[full["alg"]], strict_check_header=False)
        return jws.serialize_compact(
            full, json.dumps(claims), key or self.client_key, algorithms=[full["alg"]], registry=registry
        )


def basic(name: str, secret: str = SECRET) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def claims_in(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


async def make_server(world: World, directory: Path, operations: str = OPERATIONS) -> Server:
    key = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True)
    text = operations.format(key=json.dumps(key.as_dict(private=False)), url=URL, storage=STORAGE)
    secrets_dir = directory / "secrets" / "clients"
    secrets_dir.mkdir(parents=True, mode=0o700)
    for name in ("runner", "gateway"):
        write_private(secrets_dir / name, SECRET.encode() + b"\n")
    settings = Settings(
        database_url=world.db.url,
        data_dir=directory,
        url=URL,
        keys_dir=directory / "keys",
        blob_dir=directory / "blobs",
        storage_dir=directory / "storage",
        ce_dir=directory / "computing",
    )
    async with world.db.transaction() as tx:
        await configuration.apply(tx, text, author="tests")
    keys = KeyRing.create(settings.keys_dir)
    verifier, guesses, app = Verifier(keys, URL, world.db), Guesses(), Service()
    app.open(
        routes.all,
        world.db,
        State(settings, keys, verifier, guesses, Upstreams(settings.data_dir / "secrets" / "providers")),
        verifier.caller_of,
    )
    return Server(world, settings, keys, app, key, guesses)
