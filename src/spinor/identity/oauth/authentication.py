"""How a client proves to be itself: a secret (RFC 6749 section 2.3.1), a signed assertion (RFC 7523), or, when it is
public, not at all.

What is wrong is never told: whoever guesses learns nothing of which clients there are.
"""

import binascii
import hashlib
import hmac
import logging
import os
import stat
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from starlette.requests import Request

from spinor.db import Database, Tx
from spinor.errors import SpinorError
from spinor.http import State
from spinor.identity import jose, service
from spinor.identity.oauth.clients import ClientRefused, OAuthClient, known_client
from spinor.identity.oauth.endpoint import origin_of
from spinor.identity.oauth.registry.models import ClientKind
from spinor.settings import Settings

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
METHODS = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
ASSERTION_LIFETIME_S = 300
SHORTEST_SECRET = 32
_LEEWAY_S = 60
_FAILURES, _WINDOW_S, _MOST_WATCHED = 10, 60.0, 10_000
_TOKEN_ENDPOINT = "/api/auth/token"  # noqa: S105  An address, not a secret.
_log = logging.getLogger("spinor.oauth")


class SecretFileUnusable(SpinorError):
    """The secret of a client cannot be read."""

    code = "secret-file-unusable"


class Guesses:
    """Who has failed lately to be a client: after ten failures in a minute, an address is not listened to any more.

    Each server process counts for itself, and secrets have 32 characters or more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[tuple[str, str], tuple[float, int]] = {}

    def check(self, client_id: str, address: str) -> None:
        until, failures = self._failed.get((client_id, address), (0.0, 0))
        if failures >= _FAILURES and self._clock() < until:
            raise ClientRefused("The client failed to prove to be itself too often; try again in a minute.")

    def note(self, client_id: str, address: str) -> None:
        now = self._clock()
        until, failures = self._failed.pop((client_id, address), (0.0, 0))
        if now >= until:
            until, failures = now + _WINDOW_S, 0
        while len(self._failed) >= _MOST_WATCHED:
            del self._failed[next(iter(self._failed))]
        self._failed[client_id, address] = (until, failures + 1)


async def client_of(request: Request, db: Database, state: State, form: dict[str, str]) -> OAuthClient:
    """The client that sent a form, proven. What proved it stays spent, whatever comes of what follows."""
    async with db.statements() as tx:
        authorization = ", ".join(request.headers.getlist("authorization"))
        return await authenticated_client(tx, state, form, authorization, origin_of(request).address)


async def authenticated_client(
    tx: Tx, state: State, form: dict[str, str], authorization: str, address: str = ""
) -> OAuthClient:
    """The client that sent a form; ClientRefused when it did not prove to be it."""
    client_id, secret = _named(form, authorization)
    guesses = state[Guesses]
    guesses.check(client_id, address)
    client = await known_client(tx, client_id)
    if client is None or not await _is_proven(tx, state, client, form, secret):
        guesses.note(client_id, address)
        raise ClientRefused
    return client


def _named(form: dict[str, str], authorization: str) -> tuple[str, str | None]:
    """The client that the form is said to be from, and its secret if it told one. Only one way at a time."""
    posted = form.get("client_secret")
    if authorization:
        client_id, secret = _basic(authorization)
        if posted is not None or "client_assertion" in form or form.get("client_id", client_id) != client_id:
            raise ClientRefused("The client names or proves itself twice; it must do so in one way.")
        return client_id, secret
    if "client_assertion" in form:
        if posted is not None or form.get("client_assertion_type") != ASSERTION_TYPE:
            raise ClientRefused("The client proves itself twice, or by an assertion of an unknown type.")
        return form.get("client_id") or _subject(form["client_assertion"]), None
    client_id = form.get("client_id", "")
    if not client_id:
        raise ClientRefused("The form does not say which client sends it (client_id).")
    return client_id, posted


def _basic(authorization: str) -> tuple[str, str]:
    kind, _, encoded = authorization.partition(" ")
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise ClientRefused from None
    if kind.lower() != "basic" or not colon or not client_id:
        raise ClientRefused
    return unquote_plus(client_id), unquote_plus(secret)


def _subject(assertion: str) -> str:
    try:
        return str(jose.claims_of(assertion).get("sub", ""))
    except jose.BadJWT:
        raise ClientRefused from None


async def _is_proven(tx: Tx, state: State, client: OAuthClient, form: dict[str, str], secret: str | None) -> bool:
    assertion = form.get("client_assertion")
    if client.jwks:
        return secret is None and assertion is not None and await _holds(tx, state[Settings].url, client, assertion)
    if client.kind is ClientKind.PUBLIC:
        return not secret and assertion is None
    known = _known_secret(state[Settings].data_dir, client)
    return bool(known and secret and hmac.compare_digest(_digest(secret), _digest(known)))


def _known_secret(data_dir: Path, client: OAuthClient) -> str:
    try:
        return read_secret(data_dir, client.secret_file)
    except SecretFileUnusable as error:
        # Whose files these are is told to the operator, and to nobody else.
        _log.error("a client cannot sign in", extra={"client_id": client.client_id, "reason": error.message})
        return ""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def read_secret(data_dir: Path, name: str) -> str:
    """The secret of a client. SecretFileUnusable when there is none, others can read it, or it can be guessed."""
    path = data_dir / "secrets" / "clients" / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            text = file.read(4096)
    except OSError as error:
        raise SecretFileUnusable(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise SecretFileUnusable(f"{path} must be a file that nobody else can read; run `chmod 600 {path}`.")
    secret = text.decode(errors="replace").strip()
    if len(secret) < SHORTEST_SECRET:
        raise SecretFileUnusable(
            f"{path} has less than {SHORTEST_SECRET} characters; make it by `openssl rand -hex 32`."
        )
    return secret


async def _holds(tx: Tx, url: str, client: OAuthClient, assertion: str) -> bool:
    """RFC 7523 section 3: from the client, about the client, for us alone, short-lived, and only once."""
    try:
        claims = jose.verified_claims(assertion, client.jwks, types=("", "jwt", "client-authentication+jwt"))
        issued_at, not_before, expires_at = (_time(claims.get(name, 0)) for name in ("iat", "nbf", "exp"))
    except jose.BadJWT:
        return False
    audience, now = claims.get("aud"), time.time()
    named = audience if isinstance(audience, list) else [audience]
    jti = claims.get("jti")
    holds = (
        claims.get("iss") == client.client_id == claims.get("sub")
        and named in ([url], [url + _TOKEN_ENDPOINT])  # One that is for others too could be sent to us by them.
        and now - _LEEWAY_S < expires_at <= now + ASSERTION_LIFETIME_S + _LEEWAY_S
        and max(issued_at, not_before) < now + _LEEWAY_S
        and isinstance(jti, str)
        and 0 < len(jti) <= 256
    )
    what = f"client assertion\0{client.client_id}\0{jti}".encode()
    return holds and await service.spend(tx, what, datetime.fromtimestamp(expires_at + _LEEWAY_S, UTC))


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e11:
        raise jose.BadJWT("a time in it is none")
    return float(value)
