"""One's own account in a browser: its logins, and adding another one."""

from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database
from spinor.errors import Conflict
from spinor.http import Public, Routes, State
from spinor.identity import browser
from spinor.identity.federation import service
from spinor.identity.federation.login import sent_to
from spinor.identity.federation.people_pages import for_people, query_of
from spinor.identity.federation.provider import Upstreams
from spinor.identity.models import Person
from spinor.identity.oauth import pages
from spinor.identity.oauth.endpoint import read_form

routes = Routes("federation")


class AnotherPerson(Conflict):
    """Another user is signed in at this browser than at the terminal; sign out here first."""

    code = "another-person"


@routes.get("/account", scope=Public.SIGN_IN)
@for_people
async def show_account(request: Request, db: Database) -> Response:
    """Show the logins of the person at this browser."""
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        if person is None:
            return pages.redirect("/login?next=/account")
        identities = await service.identities_of(tx, person.user)
        known = await service.list_providers(tx)
    linked = {each.provider for each in identities}
    return pages.page(
        "account.html",
        person=person,
        identities=identities,
        titles={provider.name: provider.title for provider in known},
        others=[provider for provider in known if provider.name not in linked],
    )


@routes.get("/account/link/{provider}", scope=Public.SIGN_IN)
@for_people
async def ask_link(request: Request, db: Database, state: State, provider: str) -> Response:
    """Ask whether a login at this provider shall be added to the account."""
    wanted = query_of(request).get("user", "")
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        chosen = await service.provider_named(tx, provider)
    if person is None:
        return pages.redirect(f"/login?next=/account/link/{chosen.name}")
    if wanted not in ("", person.user):
        raise AnotherPerson
    metadata = await state[Upstreams].of(chosen).metadata()
    return pages.page(
        "link.html",
        form_targets=[metadata.authorization_endpoint],
        provider=chosen,
        person=person,
        form_token=browser.form_token(request, _purpose(chosen.name, person)),
    )


@routes.post("/account/link/{provider}", scope=Public.SIGN_IN)
@for_people
async def begin_link(request: Request, db: Database, state: State, provider: str) -> Response:
    """Send the browser to a provider, to add the login there to the account."""
    form = await read_form(request)
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        chosen = await service.provider_named(tx, provider)
    if person is None:
        return pages.redirect(f"/login?next=/account/link/{chosen.name}")
    browser.check_form(request, _purpose(chosen.name, person), form.get("form_token", ""))
    return await sent_to(state, chosen, "/account", linking=person.user)


def _purpose(provider: str, person: Person) -> str:
    return f"link {provider} to {person.user}"
