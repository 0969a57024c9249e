"""A signature of a grid certificate's or proxy's key for tokens (RFC 7523): no mutual TLS is needed."""

from spinor.identity import service
from spinor.identity.delegation.certificates import Certificates
from spinor.identity.delegation.service import proven_by_assertion
from spinor.identity.models import Tokens
from spinor.identity.oauth.endpoint import Asking


async def give_tokens(asking: Asking) -> Tokens:
    """Tokens for the user to whom the certificate is linked; the assertion is spent."""
    found = await proven_by_assertion(
        asking.db,
        asking.state[Certificates],
        asking.needed("assertion"),
        (asking.issuer, f"{asking.issuer}/api/auth/token"),
        asking.wish,
    )
    async with asking.db.transaction() as tx:
        return await service.sign_in(
            tx,
            asking.keys,
            asking.issuer,
            found.proven,
            found.wish,
            client_id=asking.client.client_id,
            origin=asking.origin,
        )
