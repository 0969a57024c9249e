"""A service whose people sign in at a community's login, as a notebook hub's users do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.conftest import Service
from tests.servers.oidc import Client, OIDCServer

HUB_CLIENT = "notebooks"
AUDIENCE = "https://spinor.example"  # Of the tokens of the second provider of the tests.


def join(service: Service, name: str, provider: OIDCServer, hub_client: str = HUB_CLIENT) -> None:
    """Let people of the provider into the service, tokens of the hub be exchanged, and the service give proxies."""
    own = provider.add_client(f"spinor-{name}")
    folder = service.work / "data" / "secrets" / "providers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / name).touch(0o600)
    (folder / name).write_text(own.client_secret or "")
    document = _in_force(service)
    document.setdefault("identity_providers", {})[name] = {
        "title": "The community's login",
        "issuer": provider.issuer,
        "client_id": own.client_id,
        "client_secret_file": name,
        "ca_file": str(provider.ca_file),
        "exchange_clients": [hub_client],
        "exchange_audiences": [AUDIENCE],
        "memberships": [{"vo": "demo", "group": "demo_users", "anyone": True}],
    }
    _apply(service, document)


def give_proxies(service: Service) -> None:
    """Let the service make proxies with attributes of its own."""
    _apply(service, _in_force(service))


def _in_force(service: Service) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(service.ok("config", "show").out)
    return document


def _apply(service: Service, document: dict[str, Any]) -> None:
    document["online_ca"] = {"enabled": True}
    document["vos"]["demo"]["voms"] = {"sign_here": True, "groups": {"/demo/Role=user": "demo_users"}}
    (service.work / "community.yaml").write_text(yaml.safe_dump(document))
    service.ok("config", "apply", "community.yaml")


def person(provider: OIDCServer, name: str) -> None:
    provider.add_user(
        name, preferred_username=name, name=name.title(), access_token_claims={"preferred_username": name}
    )


class Lent:
    """The token file that a hub keeps for its user, and the hub's way to tokens."""

    def __init__(self, provider: OIDCServer, client: Client, folder: Path) -> None:
        self.provider, self.client, self.file = provider, client, folder / "access_token"
        folder.mkdir(mode=0o700)

    def token(self, name: str, *, lives_s: int = 3600) -> str:
        with self._living(lives_s):
            person(self.provider, name)
            return str(self.provider.sign_in(self.client, name, "profile")["access_token"])

    def put(self, token: str) -> None:
        draft = self.file.with_name("new")
        draft.touch(0o600)
        draft.write_text(token)
        draft.replace(self.file)

    @contextlib.contextmanager
    def _living(self, lives_s: int) -> Iterator[None]:
        self.provider.set(access_token_s=lives_s)
        try:
            yield
        finally:
            self.provider.set(access_token_s=3600)
