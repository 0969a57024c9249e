"""A refresh token for new tokens (RFC 6749 section 6, with rotation)."""

from spinor.identity import service
from spinor.identity.federation.service import recheck
from spinor.identity.models import Tokens
from spinor.identity.oauth.endpoint import Asking


async def give_tokens(asking: Asking) -> Tokens:
    """New tokens; the refresh token that was given is spent. Its reuse ends the sign-in."""
    token = asking.needed("refresh_token")
    await recheck(asking.db, asking.state, token)
    async with asking.db.transaction() as tx:
        tokens = await service.refresh(
            tx,
            asking.keys,
            asking.issuer,
            token,
            client_id=asking.client.client_id,
            scope=asking.wish.scope,
            origin=asking.origin,
        )
    if tokens is None:
        raise service.GrantRefused(
            "This refresh token was used before, so somebody else may have it; everything that came from this "
            "sign-in has ended. Run `spinor login`."
        )
    return tokens
