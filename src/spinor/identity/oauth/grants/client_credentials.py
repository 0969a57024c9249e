"""A service's own proof for tokens in the role of its robot user (RFC 6749 section 4.4)."""

from spinor.identity import service
from spinor.identity.models import Tokens
from spinor.identity.oauth.clients import GrantNotForClient
from spinor.identity.oauth.endpoint import Asking


async def give_tokens(asking: Asking) -> Tokens:
    """An access token and no refresh token: the service can always ask again."""
    role, wish = asking.client.acts_as, asking.wish
    if role is None:
        raise GrantNotForClient(f"The client {asking.client.client_id!r} acts as nobody (acts_as).")
    if wish.vo not in ("", role.vo) or wish.group not in ("", role.group):
        raise service.GrantRefused(f"This client acts in {role.vo}/{role.group} and in no other role.")
    async with asking.db.transaction() as tx:
        return await service.sign_in_service(
            tx,
            asking.keys,
            asking.issuer,
            (role.user, role.vo, role.group),
            (wish.scope, asking.client.scopes),
            client_id=asking.client.client_id,
            origin=asking.origin,
        )
