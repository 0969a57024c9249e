"""The development login's secret for tokens; only where SPINOR_DEVELOPMENT_LOGIN=1."""

from spinor.identity import development, service
from spinor.identity.models import DEVELOPMENT_GRANT, Proven, Tokens
from spinor.identity.oauth.endpoint import Asking, UnsupportedGrant
from spinor.settings import Settings


async def give_tokens(asking: Asking) -> Tokens:
    """Tokens for the person who started this service."""
    settings = asking.state[Settings]
    if not settings.development_login:
        raise UnsupportedGrant(f"The grant type {DEVELOPMENT_GRANT!r} is not offered here.")
    user = development.user_of_secret(settings.data_dir, asking.needed("secret"))
    proven = Proven(user=user, signed_in_by="development")
    async with asking.db.transaction() as tx:
        return await service.sign_in(
            tx,
            asking.keys,
            asking.issuer,
            proven,
            asking.wish,
            client_id=asking.client.client_id,
            origin=asking.origin,
        )
