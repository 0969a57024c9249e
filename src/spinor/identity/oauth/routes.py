"""The authorization server over HTTP: token endpoint (RFC 6749), revocation (RFC 7009), discovery (RFC 8414), keys."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.access import Scope
from spinor.db import Database
from spinor.errors import SpinorError
from spinor.http import Public, Routes, State
from spinor.identity import service
from spinor.identity.keys import KeyRing
from spinor.identity.models import DEVELOPMENT_GRANT
from spinor.identity.oauth.authorize import routes as authorize_routes
from spinor.identity.oauth.clients import GrantNotForClient, authenticated_client
from spinor.identity.oauth.device import routes as device_routes
from spinor.identity.oauth.endpoint import Asking, UnsupportedGrant, answer, needed, origin_of, read_form, refusal
from spinor.identity.oauth.grants import GRANTS
from spinor.identity.oauth.id_token import ALGORITHM
from spinor.settings import Settings

routes = Routes("oauth")


@routes.post("/api/auth/token", scope=Public.SIGN_IN)
async def give_tokens(request: Request, db: Database, state: State) -> Response:
    """Exchange a grant for tokens (form; RFC 6749 answers)."""
    try:
        form = await read_form(request)
        grant_type = needed(form, "grant_type")
        async with db.transaction() as tx:
            client = await authenticated_client(tx, form, request.headers.get("authorization", ""))
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
async def revoke_token(request: Request, db: Database) -> Response:
    """End a refresh token and all that came from the same sign-in (form; RFC 7009)."""
    try:
        form = await read_form(request)
        token = needed(form, "token")
        async with db.transaction() as tx:
            client = await authenticated_client(tx, form, request.headers.get("authorization", ""))
            await service.revoke(tx, token, client_id=client.client_id)
    except SpinorError as error:
        if error.status >= 500:
            raise
        return refusal(error)
    return answer({})


@routes.get("/.well-known/openid-configuration", scope=Public.DESCRIPTION)
async def discovery(state: State) -> dict[str, Any]:
    """Describe the authorization server (RFC 8414)."""
    settings = state[Settings]
    offered = [grant for grant in GRANTS if grant != DEVELOPMENT_GRANT or settings.development_login]
    return {
        "issuer": settings.url,
        "authorization_endpoint": f"{settings.url}/api/auth/authorize",
        "device_authorization_endpoint": f"{settings.url}/api/auth/device_authorization",
        "token_endpoint": f"{settings.url}/api/auth/token",
        "revocation_endpoint": f"{settings.url}/api/auth/revoke",
        "jwks_uri": f"{settings.url}/.well-known/jwks.json",
        "scopes_supported": ["openid", *(scope.value for scope in Scope)],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "request_uri_parameter_supported": False,
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "grant_types_supported": offered,
        "token_endpoint_auth_methods_supported": ["none"],
        "subject_types_supported": ["public"],
    }


@routes.get("/.well-known/jwks.json", scope=Public.DESCRIPTION)
async def public_keys(state: State) -> Response:
    """Publish the keys that verify our tokens (RFC 7517)."""
    headers = {"cache-control": "public, max-age=3600"}
    return Response(msgspec.json.encode(state[KeyRing].jwks()), headers=headers, media_type="application/jwk-set+json")


routes.all += authorize_routes.all + device_routes.all
