"""The programs that may ask for tokens: those that come with Spinor, and those that the operations data register."""

from typing import Any

import msgspec

from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.identity.models import DEVELOPMENT_GRANT
from spinor.identity.oauth.registry import store
from spinor.identity.oauth.registry.models import ASSERTION as ASSERTION
from spinor.identity.oauth.registry.models import CODE as CODE
from spinor.identity.oauth.registry.models import CREDENTIALS as CREDENTIALS
from spinor.identity.oauth.registry.models import DEVICE as DEVICE
from spinor.identity.oauth.registry.models import EXCHANGE as EXCHANGE
from spinor.identity.oauth.registry.models import REFRESH as REFRESH
from spinor.identity.oauth.registry.models import ActsAs, ClientKind

LOOPBACK = "http://127.0.0.1"  # RFC 8252: any port, and any path of the client's own.


class ClientRefused(SpinorError):
    """The client is not known here, or did not prove to be itself."""

    status, code = 401, "client-refused"
    oauth_error = "invalid_client"


class GrantNotForClient(SpinorError):
    """This client may not use this grant."""

    status, code = 400, "grant-not-for-client"
    oauth_error = "unauthorized_client"


class OAuthClient(msgspec.Struct, frozen=True, kw_only=True):
    """A program that asks for tokens. A public one has no secret: its person proves who it acts for."""

    client_id: str
    name: str  # Shown to people when they are asked to let it in.
    grants: frozenset[str]
    redirect_uris: tuple[str, ...] = ()
    kind: ClientKind = ClientKind.PUBLIC
    secret_file: str = ""
    jwks: list[dict[str, Any]] = []
    acts_as: ActsAs | None = None
    scopes: frozenset[str] = frozenset()  # The most that a service gets; none: what its group gives.
    exchange_from: frozenset[str] | None = None  # None: from every provider that lets somebody exchange its tokens.
    introspect: bool = False


_TERMINAL = frozenset({CODE, DEVICE, REFRESH, ASSERTION, EXCHANGE, DEVELOPMENT_GRANT})
BUILT_IN = {
    client.client_id: client
    for client in (
        OAuthClient(client_id="spinor-cli", name="Spinor command line", grants=_TERMINAL, redirect_uris=(LOOPBACK,)),
        OAuthClient(client_id="spinor-notebook", name="Spinor in a notebook", grants=_TERMINAL - {CODE}),
    )
}


async def known_client(tx: Tx, client_id: str) -> OAuthClient | None:
    """The client of this name, which has not proven to be it."""
    built_in = BUILT_IN.get(client_id)
    if built_in is not None or not client_id or "\0" in client_id:
        return built_in
    found = await store.find_client(tx, client_id)
    if found is None:
        return None
    return OAuthClient(
        client_id=found.client_id,
        name=found.name,
        grants=frozenset(found.grants),
        redirect_uris=tuple(found.redirect_uris),
        kind=found.kind,
        secret_file=found.secret_file,
        jwks=found.jwks,
        acts_as=found.acts_as,
        scopes=frozenset(found.scopes),
        exchange_from=frozenset(found.exchange_from),
        introspect=found.introspect,
    )
