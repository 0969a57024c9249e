"""The authorization server over HTTP: token endpoint (RFC 6749), revocation (RFC 7009), introspection (RFC 7662), and
tokens for storages and computing elements."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import SpinorError
from spinor.http import Public, Routes, State
from spinor.identity.models import Tokens
from spinor.identity.oauth import capabilities, discovery, introspection
from spinor.identity.oauth.authentication import client_of
from spinor.identity.oauth.authorize import routes as authorize_routes
from spinor.identity.oauth.clients import GrantNotForClient, OAuthClient
from spinor.identity.oauth.device import routes as device_routes
from spinor.identity.oauth.endpoint import Asking, UnsupportedGrant, answer, needed, origin_of, read_form, refusal
from spinor.identity.oauth.grants import GRANTS

routes = Routes("oauth")


@routes.post("/api/auth/token", scope=Public.SIGN_IN)
async def give_tokens(request: Request, db: Database, state: State) -> Response:
    """Exchange a grant for tokens (form; RFC 6749 answers)."""
    try:
        form = await read_form(request)
        grant_type = needed(form, "grant_type")
        client = await client_of(request, db, state, form)
        grant = GRANTS.get(grant_type)
        if grant is None:
            raise UnsupportedGrant(f"The grant type {grant_type[:100]!r} is not offered here.")
        if grant_type not in client.grants:
            raise GrantNotForClient(f"The client {client.client_id!r} may not use the grant {grant_type!r}.")
        asking = Asking(form=form, client=client, origin=origin_of(request), request=request, db=db, state=state)
        return answer(await grant(asking))
    except SpinorError as error:
        if error.status >= 500:
            raise
        return refusal(error)


@routes.post("/api/auth/revoke", scope=Public.SIGN_IN)
async def revoke_token(request: Request, db: Database, state: State) -> Response:
    """End the sign-in of a refresh or access token (form; RFC 7009)."""
    return await _about_token(request, db, state, introspection.end)


@routes.post("/api/auth/introspect", scope=Public.SIGN_IN)
async def introspect_token(request: Request, db: Database, state: State) -> Response:
    """Tell a service whether a token holds now, and what it says (form; RFC 7662)."""
    return await _about_token(request, db, state, introspection.described)


@routes.post("/api/auth/tokens", scope=Scope.TOKENS_CREATE)
async def create_token(
    tx: Tx, state: State, request: Request, caller: Caller, body: capabilities.WantedToken
) -> Response:
    """Get a token for a storage or a computing element of the VO (WLCG Common JWT Profile 1.3)."""
    given: Tokens = await capabilities.give(tx, state, caller, body, origin=origin_of(request))
    return answer(given)


async def _about_token(
    request: Request, db: Database, state: State, verb: Callable[[Tx, State, OAuthClient, str], Awaitable[Any]]
) -> Response:
    try:
        form = await read_form(request)
        client = await client_of(request, db, state, form)
        token = needed(form, "token")
        async with db.transaction() as tx:
            found = await verb(tx, state, client, token)
    except SpinorError as error:
        if error.status >= 500:
            raise
        return refusal(error)
    return answer(found or {})


routes.all += [*discovery.routes.all, *authorize_routes.all, *device_routes.all]
