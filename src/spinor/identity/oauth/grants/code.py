"""A code that a browser has brought, for tokens (RFC 6749 section 4.1.3)."""

from uuid import uuid4

from spinor.db import Tx
from spinor.identity import service
from spinor.identity.models import Tokens
from spinor.identity.oauth.endpoint import Asking
from spinor.identity.oauth.flows import store
from spinor.identity.oauth.flows.models import FoundCode
from spinor.identity.oauth.flows.redeem import tokens_of
from spinor.identity.oauth.flows.requests import check_verifier


class CodeRefused(service.GrantRefused):
    """This code is not good for a sign-in (any more); start again with `spinor login`."""

    code = "code-refused"


async def give_tokens(asking: Asking) -> Tokens:
    """Tokens for a code, once. Using it again ends the sign-in that it has opened."""
    async with asking.db.transaction() as tx:
        tokens = await _redeem(tx, asking, asking.needed("code"))
    if tokens is None:
        raise CodeRefused(
            "This code was used before, so somebody else may have it; what it was exchanged for has ended. "
            "Start again with `spinor login`."
        )
    return tokens


async def _redeem(tx: Tx, asking: Asking, code: str) -> Tokens | None:
    """None when it was used before: its session has ended then, and the caller has to commit that."""
    found = await store.lock_code(tx, code)
    if found is None:
        raise CodeRefused
    if found.session_id is not None:
        await service.end_session(tx, found.session_id, "reuse")
        return None
    _check(asking, found)
    session_id = uuid4()
    await store.redeem_code(tx, code, session_id)
    return await tokens_of(tx, asking, found.allowed, found.scope, session_id, nonce=found.nonce)


def _check(asking: Asking, found: FoundCode) -> None:
    """CodeRefused unless the code is fresh, and was given to this client at this place."""
    if found.client_id != asking.client.client_id:
        raise CodeRefused
    if found.expired:
        raise CodeRefused("This code has expired: it is good for one minute. Start again with `spinor login`.")
    if not found.browser_open:
        raise CodeRefused("The browser that gave this code was signed out. Start again with `spinor login`.")
    if asking.needed("redirect_uri") != found.redirect_uri:
        raise CodeRefused("redirect_uri is not the one that the code was sent to.")
    check_verifier(found.challenge, asking.needed("code_verifier"))
