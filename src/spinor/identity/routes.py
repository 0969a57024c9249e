"""Identity over HTTP: the token endpoint (RFC 6749), revocation (RFC 7009), discovery (RFC 8414) and `whoami`."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.db import Database, Tx
from spinor.errors import BadInput, BodyTooLarge, SpinorError
from spinor.http import Public, Routes, State, read_body
from spinor.identity import development, service
from spinor.identity.keys import KeyRing
from spinor.identity.models import DEVELOPMENT_GRANT, Tokens, WhoAmI
from spinor.settings import Settings

routes = Routes("identity")

_LONGEST_FORM_BYTES = 64 * 1024
_FORM_TYPE = "application/x-www-form-urlencoded"
_REFRESH_GRANT = "refresh_token"


class BadForm(SpinorError):
    """The form is not what this address expects (RFC 6749 section 5.2)."""

    status, code = 400, "bad-form"
    oauth_error = "invalid_request"


class UnsupportedGrant(BadForm):
    """This grant type is not offered here."""

    code = "unsupported-grant"
    oauth_error = "unsupported_grant_type"


@routes.post("/api/auth/token", scope=Public.SIGN_IN)
async def give_tokens(request: Request, db: Database, state: State) -> Response:
    """Exchange a grant for tokens (form; RFC 6749 answers)."""
    try:
        return _answer(msgspec.to_builtins(await _granted(await _form(request), db, state)))
    except SpinorError as error:
        if error.status >= 500:
            raise
        return _refusal(error)


@routes.post("/api/auth/revoke", scope=Public.SIGN_IN)
async def revoke_token(request: Request, db: Database) -> Response:
    """End a refresh token and all that came from the same sign-in (form; RFC 7009)."""
    try:
        token = _needed(await _form(request), "token")
    except SpinorError as error:
        return _refusal(error)
    async with db.transaction() as tx:
        await service.revoke(tx, token)
    return _answer({})


@routes.get("/.well-known/openid-configuration", scope=Public.DESCRIPTION)
async def discovery(state: State) -> dict[str, Any]:
    """Describe the authorization server (RFC 8414)."""
    settings = state[Settings]
    grants = [_REFRESH_GRANT, *([DEVELOPMENT_GRANT] if settings.development_login else [])]
    return {
        "issuer": settings.url,
        "token_endpoint": f"{settings.url}/api/auth/token",
        "revocation_endpoint": f"{settings.url}/api/auth/revoke",
        "jwks_uri": f"{settings.url}/.well-known/jwks.json",
        "scopes_supported": [scope.value for scope in Scope],
        "response_types_supported": [],
        "grant_types_supported": grants,
        "token_endpoint_auth_methods_supported": ["none"],
        "subject_types_supported": ["public"],
    }


@routes.get("/.well-known/jwks.json", scope=Public.DESCRIPTION)
async def public_keys(state: State) -> Response:
    """Publish the keys that verify our tokens (RFC 7517)."""
    headers = {"cache-control": "public, max-age=3600"}
    return Response(msgspec.json.encode(state[KeyRing].jwks()), headers=headers, media_type="application/jwk-set+json")


@routes.get("/api/auth/whoami", scope=Scope.SELF_READ)
async def whoami(tx: Tx, caller: Caller) -> WhoAmI:
    """Say who you are, what you may, and which roles you could take."""
    return await service.who_am_i(tx, caller)


async def _granted(form: dict[str, str], db: Database, state: State) -> Tokens:
    grant, settings, keys = _needed(form, "grant_type"), state[Settings], state[KeyRing]
    if grant == _REFRESH_GRANT:
        given = _needed(form, "refresh_token")
        async with db.transaction() as tx:
            tokens = await service.refresh(tx, keys, settings.url, given, form.get("scope", ""))
        if tokens is None:
            raise service.GrantRefused(
                "This refresh token was used before, so somebody else may have it; everything that came from this "
                "sign-in has ended. Run `spinor login`."
            )
        return tokens
    if grant == DEVELOPMENT_GRANT and settings.development_login:
        user = development.user_of_secret(settings.data_dir, _needed(form, "secret"))
        role = (form.get("vo", ""), form.get("group", ""))
        async with db.transaction() as tx:
            return await service.sign_in(tx, keys, settings.url, user, role, form.get("scope", ""))
    raise UnsupportedGrant(f"The grant type {grant[:100]!r} is not offered here.")


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise BadForm(f"The body must be {_FORM_TYPE}.")
    try:
        text = (await read_body(request, _LONGEST_FORM_BYTES)).decode()
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=32)
    except BodyTooLarge:
        raise BadForm(f"The form is longer than {_LONGEST_FORM_BYTES} bytes.") from None
    except ValueError:
        raise BadForm("The body is not a form in UTF-8.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadForm("A parameter is there twice.")
    return form


def _needed(form: dict[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise BadForm(f"The form has no {name}.")
    return value


def _answer(document: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")


def _refusal(error: SpinorError) -> Response:
    """The error as RFC 6749 section 5.2 wants it, with our own code beside."""
    usual = "invalid_request" if isinstance(error, BadInput) else "invalid_grant"
    name = getattr(error, "oauth_error", usual)
    return _answer({"error": name, "error_description": error.message, "code": error.code}, 400)
