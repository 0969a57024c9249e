"""Asking to be let into a VO: /register."""

from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database, Tx
from spinor.errors import NotSignedIn
from spinor.http import Public, Routes
from spinor.identity import browser
from spinor.identity.federation import newcomers, service
from spinor.identity.federation.models import Admission, Provider, Visitor
from spinor.identity.federation.people_pages import for_people
from spinor.identity.oauth import pages
from spinor.identity.oauth.endpoint import origin_of, read_form

routes = Routes("federation")
_PURPOSE = "register"


class SignInFirst(NotSignedIn):
    """Sign in first, so that it is known who asks; then you come back here."""

    code = "sign-in-first"


@routes.get("/register", scope=Public.SIGN_IN)
@for_people
async def show_registration(request: Request, db: Database) -> Response:
    """Show who a provider says one is, what one has asked for, and the form to ask."""
    async with db.transaction() as tx:
        found = await _asking(tx, request)
        if found is None:
            return pages.redirect("/login?next=/register")
        provider, visitor, is_newcomer = found
        asked = await service.own_registrations(tx, visitor)
        waiting = {each.vo for each in asked if each.state == "waiting"}
        vos = [vo for vo in await service.choices(tx, provider) if vo not in waiting]
        person = None if is_newcomer else await browser.person_at(tx, request)
    return pages.page(
        "register.html",
        provider=provider,
        visitor=visitor,
        asked=asked,
        vos=vos,
        person=person,
        form_token=(newcomers if is_newcomer else browser).form_token(request, _PURPOSE),
    )


@routes.post("/register", scope=Public.SIGN_IN)
@for_people
async def register(request: Request, db: Database) -> Response:
    """Ask the administrators of a VO to be let in."""
    form = await read_form(request)
    async with db.transaction() as tx:
        found = await _asking(tx, request)
        if found is None:
            raise SignInFirst
        provider, visitor, is_newcomer = found
        (newcomers if is_newcomer else browser).check_form(request, _PURPOSE, form.get("form_token", ""))
        address = origin_of(request).address
        vo, message = form.get("vo", ""), form.get("message", "").strip()
        await service.ask_to_join(tx, provider, visitor, vo, message, address=address)
    return pages.redirect("/register")


async def _asking(tx: Tx, request: Request) -> tuple[Provider, Visitor, bool] | None:
    """Who asks, by which provider, and whether they have no account yet."""
    newcomer = await newcomers.newcomer_at(tx, request)
    person = None if newcomer else await browser.person_at(tx, request)
    visitor = newcomer or (await service.visitor_of_user(tx, person.user) if person else None)
    if visitor is None:
        return None
    for provider in await service.list_providers(tx):
        if provider.name == visitor.provider and provider.registration is Admission.APPROVAL:
            return provider, visitor, newcomer is not None
    return None
