"""People in a browser whom a provider has proven and who have no account here yet."""

import hashlib
import hmac
import secrets

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Tx
from spinor.identity.browser import ForeignForm
from spinor.identity.federation import store
from spinor.identity.federation.models import Visitor

COOKIE = "__Host-spinor-newcomer"
_LIFETIME_S = 3600


async def remember(tx: Tx, response: Response, visitor: Visitor) -> None:
    """Let the browser that gets this response ask for an account for this person, for an hour."""
    cookie = secrets.token_urlsafe(32)
    kept = msgspec.structs.replace(visitor, refresh_token="")
    await store.insert_newcomer(tx, _hash(cookie), kept, _LIFETIME_S)
    response.set_cookie(COOKIE, cookie, max_age=_LIFETIME_S, path="/", secure=True, httponly=True, samesite="lax")


async def newcomer_at(tx: Tx, request: Request) -> Visitor | None:
    """Who sits at this browser and has no account."""
    cookie = request.cookies.get(COOKIE, "")
    return await store.find_newcomer(tx, _hash(cookie)) if cookie else None


def forget(response: Response) -> None:
    """Who has an account now is no newcomer."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def form_token(request: Request, purpose: str) -> str:
    """What a form for this newcomer carries, so that no other page can send it in their name."""
    return hmac.digest(_hash(request.cookies.get(COOKIE, "")), purpose.encode(), hashlib.sha256).hex()


def check_form(request: Request, purpose: str, given: str) -> None:
    """ForeignForm unless the form came from the page that this newcomer was shown."""
    origin = request.headers.get("sec-fetch-site", "same-origin")
    known = form_token(request, purpose)
    if COOKIE not in request.cookies or origin != "same-origin" or not hmac.compare_digest(known, given):
        raise ForeignForm


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
