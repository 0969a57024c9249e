"""What the authorization server says of itself: RFC 8414, OpenID discovery, RFC 9728, the issuers of VOs, and keys.

Only what can be done is told: an address appears with the grant that uses it.
"""

from typing import Any

import msgspec
from starlette.responses import Response

from spinor.access import Scope
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.http import Public, Routes, State
from spinor.identity import store
from spinor.identity.key_files import JWKS_LIFETIME_S, SIGNING_ALGORITHMS
from spinor.identity.keys import KeyRing
from spinor.identity.models import DEVELOPMENT_GRANT
from spinor.identity.oauth import clients
from spinor.identity.oauth.authentication import METHODS
from spinor.identity.oauth.capabilities import issuer_of
from spinor.identity.oauth.capability_scopes import COMPUTE_ACTIONS, GROUPS, STORAGE_ACTIONS
from spinor.identity.oauth.grants import GRANTS
from spinor.identity.oauth.id_token import ALGORITHM
from spinor.settings import Settings

routes = Routes("discovery")
_KEPT = {"cache-control": f"public, max-age={JWKS_LIFETIME_S}"}
_FOR_CLIENTS_WITH_A_SECRET = [method for method in METHODS if method != "none"]


def metadata(settings: Settings) -> dict[str, Any]:
    """The authorization server (RFC 8414)."""
    here = f"{settings.url}/api/auth"
    offered = [grant for grant in GRANTS if grant != DEVELOPMENT_GRANT or settings.development_login]
    document: dict[str, Any] = {
        "issuer": settings.url,
        "token_endpoint": f"{here}/token",
        "token_endpoint_auth_methods_supported": list(METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "revocation_endpoint": f"{here}/revoke",
        "revocation_endpoint_auth_methods_supported": list(METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "introspection_endpoint": f"{here}/introspect",
        "introspection_endpoint_auth_methods_supported": _FOR_CLIENTS_WITH_A_SECRET,
        "introspection_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "jwks_uri": f"{settings.url}/.well-known/jwks.json",
        "scopes_supported": ["openid", *(scope.value for scope in Scope)],
        "response_types_supported": [],
        "request_uri_parameter_supported": False,
        "grant_types_supported": offered,
        "service_documentation": f"{settings.url}/api/docs",
    }
    if clients.CODE in GRANTS:
        document |= {
            "authorization_endpoint": f"{here}/authorize",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
    if clients.DEVICE in GRANTS:
        document["device_authorization_endpoint"] = f"{here}/device_authorization"
    return document


@routes.get("/.well-known/oauth-authorization-server", scope=Public.DESCRIPTION)
async def server_metadata(state: State) -> dict[str, Any]:
    """Describe the authorization server (RFC 8414)."""
    return metadata(state[Settings])


@routes.get("/.well-known/openid-configuration", scope=Public.DESCRIPTION)
async def discovery(state: State) -> dict[str, Any]:
    """Describe the authorization server to OpenID clients."""
    return {
        **metadata(state[Settings]),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
    }


@routes.get("/.well-known/oauth-protected-resource", scope=Public.DESCRIPTION)
async def resource_metadata(state: State) -> dict[str, Any]:
    """Say whose tokens this service takes, and how (RFC 9728)."""
    url = state[Settings].url
    return {
        "resource": url,
        "authorization_servers": [url],
        "jwks_uri": f"{url}/.well-known/jwks.json",
        "scopes_supported": [scope.value for scope in Scope],
        "bearer_methods_supported": ["header"],
        "resource_name": "Spinor",
        "resource_documentation": f"{url}/api/docs",
    }


@routes.get("/.well-known/jwks.json", scope=Public.DESCRIPTION)
async def public_keys(state: State) -> Response:
    """Publish the keys that verify our tokens (RFC 7517)."""
    return _keys(state)


@routes.get("/vo/{vo}/jwks.json", scope=Public.DESCRIPTION)
async def public_keys_of_vo(tx: Tx, state: State, vo: str) -> Response:
    """Publish the keys that verify the tokens of a VO for storages and computing elements."""
    await _check_vo(tx, vo)
    return _keys(state)


@routes.get("/vo/{vo}/.well-known/openid-configuration", scope=Public.DESCRIPTION)
async def issuer_of_vo(tx: Tx, state: State, vo: str) -> dict[str, Any]:
    """Describe the issuer of a VO (WLCG Common JWT Profile)."""
    return await _metadata_of_vo(tx, state, vo)


@routes.get("/.well-known/openid-configuration/vo/{vo}", scope=Public.DESCRIPTION)
async def issuer_of_vo_inserted(tx: Tx, state: State, vo: str) -> dict[str, Any]:
    """Describe the issuer of a VO, at the address that RFC 8414 makes of its name with OpenID's suffix."""
    return await _metadata_of_vo(tx, state, vo)


@routes.get("/.well-known/oauth-authorization-server/vo/{vo}", scope=Public.DESCRIPTION)
async def server_of_vo(tx: Tx, state: State, vo: str) -> dict[str, Any]:
    """Describe the issuer of a VO, at the address that RFC 8414 makes of its name."""
    return await _metadata_of_vo(tx, state, vo)


async def _metadata_of_vo(tx: Tx, state: State, vo: str) -> dict[str, Any]:
    """Its tokens come from the same token endpoint as all others: by exchange, with the `audience` of the storage."""
    await _check_vo(tx, vo)
    url = state[Settings].url
    issuer = issuer_of(url, vo)
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/jwks.json",
        "token_endpoint": f"{url}/api/auth/token",
        "token_endpoint_auth_methods_supported": list(METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "introspection_endpoint": f"{url}/api/auth/introspect",
        "introspection_endpoint_auth_methods_supported": _FOR_CLIENTS_WITH_A_SECRET,
        "introspection_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "grant_types_supported": [clients.EXCHANGE],
        "response_types_supported": [],
        "scopes_supported": [*STORAGE_ACTIONS, *COMPUTE_ACTIONS, GROUPS],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "wlcg.ver", "scope", "wlcg.groups"],
    }


async def _check_vo(tx: Tx, vo: str) -> None:
    if await store.find_vo_id(tx, vo) is None:
        raise NotFound(f"There is no issuer at /vo/{vo}.")


def _keys(state: State) -> Response:
    return Response(msgspec.json.encode(state[KeyRing].jwks()), headers=_KEPT, media_type="application/jwk-set+json")
