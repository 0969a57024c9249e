"""What a service may learn about a token that was shown to it (RFC 7662), and how its client ends it (RFC 7009)."""

import time
from typing import Any

import msgspec

from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.http import State
from spinor.identity import service, tokens
from spinor.identity.keys import KeyRing
from spinor.identity.oauth.clients import OAuthClient
from spinor.identity.oauth.endpoint import BadForm
from spinor.settings import Settings

INACTIVE: dict[str, Any] = {"active": False}
_TOLD = ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "client_id", "vo", "group", "auth_time", "act")
_TOLD_OF_CAPABILITIES = ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "wlcg.ver", "wlcg.groups")


class IntrospectionDenied(SpinorError):
    """This client may not ask about tokens (introspect: true in the operations data)."""

    status, code = 403, "introspection-denied"
    oauth_error = "unauthorized_client"


class UnsupportedToken(BadForm):
    """Tokens of this kind cannot be ended: they run out by themselves."""

    code = "unsupported-token"
    oauth_error = "unsupported_token_type"


async def described(tx: Tx, state: State, client: OAuthClient, token: str) -> dict[str, Any]:
    """What holds of a token now; of one that does not hold, only that."""
    if not client.introspect:
        raise IntrospectionDenied
    if token.startswith(service.REFRESH_PREFIX):
        return await _described_refresh(tx, state, token)
    try:
        payload = tokens.verified_payload(state[KeyRing], token)
    except tokens.TokenRefused:
        return INACTIVE
    said = msgspec.json.decode(payload, type=dict[str, Any])
    if said.get("iss") == state[Settings].url:
        return await _described_access(tx, state, token, said)
    return _described_capabilities(state, said)


async def _described_access(tx: Tx, state: State, token: str, said: dict[str, Any]) -> dict[str, Any]:
    try:
        claims = tokens.read_token(state[KeyRing], state[Settings].url, token, time.time())
        caller = await state[tokens.Verifier].caller_in(tx, claims)
    except SpinorError:
        return INACTIVE
    # The group may give less by now than when the token was made.
    told = {name: said[name] for name in _TOLD if name in said} | {"scope": " ".join(sorted(caller.scopes))}
    return {"active": True, "token_type": "Bearer", "username": caller.user, **told}


def _described_capabilities(state: State, said: dict[str, Any]) -> dict[str, Any]:
    """A token for a storage or a computing element: our keys signed it, as the issuer of a VO."""
    is_ours = str(said.get("iss", "")).startswith(f"{state[Settings].url}/vo/")
    if not is_ours or not said.get("nbf", 0) <= time.time() < said.get("exp", 0):
        return INACTIVE
    told = {name: said[name] for name in _TOLD_OF_CAPABILITIES if name in said}
    return {"active": True, "token_type": "Bearer", **told}


async def _described_refresh(tx: Tx, state: State, token: str) -> dict[str, Any]:
    if not await service.holds(tx, state[KeyRing], token):
        return INACTIVE
    return {"active": True, "token_type": "refresh_token", "iss": state[Settings].url}


async def end(tx: Tx, state: State, client: OAuthClient, token: str) -> None:
    """End the session of a token of this client. A token that is none, or another client's, is no error.

    UnsupportedToken for those of storages and computing elements, which are in no session.
    """
    if await service.revoke(tx, token, client_id=client.client_id):
        return
    try:
        payload = tokens.verified_payload(state[KeyRing], token)
    except tokens.TokenRefused:
        return
    said = msgspec.json.decode(payload, type=dict[str, Any])
    if str(said.get("iss", "")).startswith(f"{state[Settings].url}/vo/"):
        raise UnsupportedToken
    try:
        claims = tokens.read_token(state[KeyRing], state[Settings].url, token, time.time())
    except tokens.TokenRefused:
        return
    session_id = tokens.session_of(claims)
    if claims.client_id == client.client_id and session_id is not None:
        await service.end_session(tx, session_id, "client")
