"""Who somebody is at a provider."""

from spinor.db import Database
from spinor.errors import SpinorError
from spinor.http import State
from spinor.identity.models import Proven


class ProviderUnknown(SpinorError):
    """No provider of this service lets its tokens be exchanged by that client."""

    status, code = 400, "provider-unknown"
    oauth_error = "invalid_request"


async def proven_by_token(_db: Database, _state: State, _issuer: str, _token: str) -> Proven:
    """The user whose access token of a provider this is; no provider is known."""
    raise ProviderUnknown
