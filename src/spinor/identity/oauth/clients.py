"""The programs that may ask for tokens."""

import msgspec

from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.identity.models import DEVELOPMENT_GRANT

CODE = "authorization_code"
REFRESH = "refresh_token"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
CREDENTIALS = "client_credentials"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
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


_TERMINAL = frozenset({CODE, DEVICE, REFRESH, ASSERTION, EXCHANGE, DEVELOPMENT_GRANT})
BUILT_IN = {
    client.client_id: client
    for client in (
        OAuthClient(client_id="spinor-cli", name="Spinor command line", grants=_TERMINAL, redirect_uris=(LOOPBACK,)),
        OAuthClient(client_id="spinor-notebook", name="Spinor in a notebook", grants=_TERMINAL - {CODE}),
    )
}


async def authenticated_client(_tx: Tx, form: dict[str, str], authorization: str) -> OAuthClient:
    """The client that sent a form; ClientRefused when it is none of ours."""
    client = BUILT_IN.get(form.get("client_id", "spinor-cli"))
    if client is None or authorization:
        raise ClientRefused
    return client


async def known_client(_tx: Tx, client_id: str) -> OAuthClient | None:
    """The client of this name, which has not proven to be it."""
    return BUILT_IN.get(client_id)
