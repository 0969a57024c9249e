"""Tokens for what a person has allowed."""

from uuid import UUID

import msgspec

from spinor.db import Tx
from spinor.identity import service
from spinor.identity.models import Proven, Tokens, Wish
from spinor.identity.oauth.endpoint import Asking
from spinor.identity.oauth.flows.models import Allowed
from spinor.identity.oauth.flows.requests import OPENID, granted_scope
from spinor.identity.oauth.id_token import make_id_token
from spinor.identity.service.members import member_of


async def tokens_of(
    tx: Tx, asking: Asking, allowed: Allowed, scope: str, session_id: UUID, *, nonce: str = ""
) -> Tokens:
    """A new session in the role that was chosen, as long as its person has it still."""
    member = await member_of(tx, allowed.vo_id, allowed.user_id, allowed.group_id)
    tokens = await service.sign_in(
        tx,
        asking.keys,
        asking.issuer,
        Proven(user=member.user, signed_in_by=allowed.signed_in_by),
        Wish(vo=member.vo, group=member.group, scope=granted_scope(scope)),
        client_id=asking.client.client_id,
        origin=asking.origin,
        session_id=session_id,
    )
    if OPENID not in scope.split():
        return tokens
    claims = {"sub": str(member.subject), "sid": str(session_id), "auth_time": int(allowed.signed_in_at.timestamp())}
    claims |= {"nonce": nonce} if nonce else {}
    id_token = make_id_token(asking.keys, asking.issuer, asking.client.client_id, claims)
    return msgspec.structs.replace(tokens, id_token=id_token, scope=f"{OPENID} {tokens.scope}")
