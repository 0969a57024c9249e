"""The ways to a token, by grant type: each takes an Asking and gives the answer of the token endpoint."""

from collections.abc import Awaitable, Callable

from spinor.identity.models import DEVELOPMENT_GRANT, Tokens
from spinor.identity.oauth import clients
from spinor.identity.oauth.endpoint import Asking
from spinor.identity.oauth.grants import assertion, client_credentials, code, development, device, exchange, refresh

Grant = Callable[[Asking], Awaitable[Tokens]]

GRANTS: dict[str, Grant] = {
    clients.CODE: code.give_tokens,
    clients.DEVICE: device.give_tokens,
    clients.REFRESH: refresh.give_tokens,
    clients.CREDENTIALS: client_credentials.give_tokens,
    clients.EXCHANGE: exchange.give_tokens,
    clients.ASSERTION: assertion.give_tokens,
    DEVELOPMENT_GRANT: development.give_tokens,
}
