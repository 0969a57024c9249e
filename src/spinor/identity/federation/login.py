"""Signing in and out in a browser: /login, /login/<provider>, its callback, /logout."""

from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database
from spinor.http import Public, Routes, State
from spinor.identity import browser, development
from spinor.identity.federation import newcomers, rules, service, signing_in
from spinor.identity.federation.jwts import SignInRefused
from spinor.identity.federation.models import Provider, Visitor
from spinor.identity.federation.people_pages import for_people, query_of
from spinor.identity.federation.provider import Upstreams
from spinor.identity.keys import KeyRing
from spinor.identity.models import Proven
from spinor.identity.oauth import pages
from spinor.identity.oauth.endpoint import origin_of, read_form
from spinor.settings import Settings

routes = Routes("federation")
_LOGOUT = "logout"


@routes.get("/login", scope=Public.SIGN_IN)
@for_people
async def show_logins(request: Request, db: Database, state: State) -> Response:
    """Show the ways to sign in."""
    next_path = rules.next_path(query_of(request).get("next", ""), "")
    async with db.transaction() as tx:
        known = await service.list_providers(tx)
        person = await browser.person_at(tx, request)
    return pages.page(
        "login.html",
        providers=known,
        development=state[Settings].development_login,
        next_path=next_path,
        person=person,
        host=state[Settings].url.partition("://")[2],
    )


@routes.post("/login", scope=Public.SIGN_IN)
@for_people
async def sign_in_for_development(request: Request, db: Database, state: State) -> Response:
    """Sign in by the secret of the development login, where it is offered."""
    if not state[Settings].development_login:
        raise service.UnknownProvider
    form = await read_form(request)
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise browser.ForeignForm
    user = development.user_of_secret(state[Settings].data_dir, form.get("secret", ""))
    response = pages.redirect(rules.next_path(form.get("next", "")))
    async with db.transaction() as tx:
        await browser.remember(tx, response, Proven(user=user, signed_in_by="development"))
    return response


@routes.get("/login/{provider}", scope=Public.SIGN_IN)
@for_people
async def begin_sign_in(request: Request, db: Database, state: State, provider: str) -> Response:
    """Send the browser to a provider."""
    next_path = rules.next_path(query_of(request).get("next", ""))
    async with db.transaction() as tx:
        chosen = await service.provider_named(tx, provider)
    return await sent_to(state, chosen, next_path)


async def sent_to(state: State, provider: Provider, next_path: str, *, linking: str = "") -> Response:
    """The way to a provider, which the browser remembers for ten minutes."""
    upstreams = state[Upstreams]
    begun = await signing_in.begin(
        upstreams.of(provider),
        state[KeyRing].seal,
        state[Settings].url,
        next_path=next_path,
        now=upstreams.clock(),
        linking=linking,
    )
    response = pages.redirect(begun.address)
    # Lax, since the way back is a link from the provider's site.
    response.set_cookie(
        begun.cookie,
        begun.value,
        max_age=signing_in.UNDER_WAY_S,
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return response


@routes.get("/login/{provider}/callback", scope=Public.SIGN_IN)
@for_people
async def finish_sign_in(request: Request, db: Database, state: State, provider: str) -> Response:
    """Take a provider's answer."""
    upstreams, keys, query = state[Upstreams], state[KeyRing], query_of(request)
    async with db.transaction() as tx:
        chosen = await service.provider_named(tx, provider)
    now = upstreams.clock()
    under_way = signing_in.resume(keys.seal, request.cookies, query, chosen, now)
    async with db.transaction() as tx:
        await signing_in.spend(tx, under_way)
    visitor = await signing_in.finish(upstreams.of(chosen), state[Settings].url, under_way, query, now)
    if under_way.linking:
        response = await _linked(request, db, state, chosen, visitor, under_way)
    else:
        response = await _signed_in(request, db, state, chosen, visitor, under_way)
    response.delete_cookie(signing_in.cookie_of(under_way.state), path="/", secure=True, httponly=True, samesite="lax")
    return response


async def _signed_in(
    request: Request,
    db: Database,
    state: State,
    provider: Provider,
    visitor: Visitor,
    under_way: signing_in.UnderWay,
) -> Response:
    proven = await service.admit(db, state[KeyRing], provider, visitor, address=origin_of(request).address)
    async with db.transaction() as tx:
        if proven is None:
            response = pages.redirect("/register")
            await newcomers.remember(tx, response, visitor)
        else:
            response = pages.redirect(rules.next_path(under_way.next))
            # New programs are let in by the browser without asking the provider, so not for longer than that may be.
            await browser.remember(tx, response, proven, provider.recheck_s)
            newcomers.forget(response)
    return response


async def _linked(
    request: Request,
    db: Database,
    state: State,
    provider: Provider,
    visitor: Visitor,
    under_way: signing_in.UnderWay,
) -> Response:
    """Only the browser in which the same user is still signed in may add this login to their account."""
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        if person is None or person.user != under_way.linking:
            raise SignInRefused(
                "Somebody else is signed in at this browser now than when this was begun; nothing was linked."
            )
        address = origin_of(request).address
        await service.link(tx, state[KeyRing], provider, visitor, person.user, address=address)
    return pages.redirect(rules.next_path(under_way.next, "/account"))


@routes.get("/logout", scope=Public.SIGN_IN)
@for_people
async def ask_sign_out(request: Request, db: Database) -> Response:
    """Ask whether this browser shall be signed out."""
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
    return pages.page("logout.html", person=person, form_token=browser.form_token(request, _LOGOUT))


@routes.post("/logout", scope=Public.SIGN_IN)
@for_people
async def sign_out(request: Request, db: Database) -> Response:
    """Sign this browser out."""
    form = await read_form(request)
    browser.check_form(request, _LOGOUT, form.get("form_token", ""))
    response = pages.redirect("/login")
    async with db.transaction() as tx:
        await browser.forget(tx, request, response)
    return response
