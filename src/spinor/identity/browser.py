"""A person in a browser: the cookie that says who sits there, and the token that proves a form came from our page."""

import hashlib
import hmac
import secrets

from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Tx
from spinor.errors import Denied
from spinor.identity import store
from spinor.identity.models import Person, Proven

BROWSER_SESSION_S = 12 * 3600
# The prefix makes browsers refuse it from anywhere but this host, over HTTPS, and without a Domain.
COOKIE = "__Host-spinor"


class ForeignForm(Denied):
    """This form did not come from a page of this service, or the page is too old; open the page again."""

    code = "foreign-form"


async def person_at(tx: Tx, request: Request) -> Person | None:
    """Who sits at this browser, when somebody has signed in there."""
    cookie = request.cookies.get(COOKIE, "")
    return await store.find_browser_session(tx, _hash(cookie)) if cookie else None


async def remember(tx: Tx, response: Response, proven: Proven, lifetime_s: int = BROWSER_SESSION_S) -> None:
    """Let the browser that gets this response be this user's for 12 hours at most, by a new cookie each time."""
    lifetime_s = min(lifetime_s, BROWSER_SESSION_S)
    cookie = secrets.token_urlsafe(32)
    await store.insert_browser_session(tx, _hash(cookie), proven.user, proven.signed_in_by, lifetime_s)
    response.set_cookie(COOKIE, cookie, max_age=lifetime_s, path="/", secure=True, httponly=True, samesite="lax")


async def forget(tx: Tx, request: Request, response: Response) -> None:
    """Sign the browser out."""
    await store.delete_browser_session(tx, _hash(request.cookies.get(COOKIE, "")))
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def mark_of(request: Request) -> bytes:
    """What this browser is known by in the tables: nothing that would open its session."""
    return _hash(request.cookies.get(COOKIE, ""))


def form_token(request: Request, purpose: str) -> str:
    """What a form of a page for this browser carries, so that no other page can send it in this person's name."""
    return hmac.digest(_hash(request.cookies.get(COOKIE, "")), purpose.encode(), hashlib.sha256).hex()


def check_form(request: Request, purpose: str, given: str) -> None:
    """ForeignForm unless the form carries the token of this browser and purpose, and came from our own page."""
    origin = request.headers.get("sec-fetch-site", "same-origin")
    known = form_token(request, purpose).encode()
    if COOKIE not in request.cookies or origin != "same-origin" or not hmac.compare_digest(known, given.encode()):
        raise ForeignForm


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
