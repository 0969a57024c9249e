"""The authorization endpoint: a browser comes from a program, a person decides, and the browser goes back with a code.

RFC 6749 section 4.1 with PKCE for every client (RFC 7636), exact places to go back to (RFC 8252 for programs on one's
own computer), our name in the answer (RFC 9207), and a 303 after the form (RFC 9700).
"""

import functools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database
from spinor.errors import NotSignedIn
from spinor.http import Public, Routes, State
from spinor.identity import browser
from spinor.identity.models import Person
from spinor.identity.oauth.clients import OAuthClient, known_client
from spinor.identity.oauth.endpoint import read_form
from spinor.identity.oauth.flows import store
from spinor.identity.oauth.flows.models import AuthorizationRequest, Code
from spinor.identity.oauth.flows.requests import SendBack, parameters_of, read_request, where_to, with_answer
from spinor.identity.oauth.flows.roles import Choice, allowed_by, choice_for
from spinor.identity.oauth.pages import for_people, page, redirect
from spinor.settings import Settings

routes = Routes("oauth")
_PATH = "/api/auth/authorize"
_CODE_PREFIX = "spinor_ac_"


class BrowserSignedOut(NotSignedIn):
    """You are not signed in in this browser any more; go back to the program and start again."""

    code = "browser-signed-out"


def _refusing(verb: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """A route that sends the browser back to its program when that cannot have what it asks."""

    @functools.wraps(verb)
    async def answered(**given: Any) -> Response:
        try:
            return await verb(**given)
        except SendBack as refusal:
            answer = {"error": refusal.oauth_error, "error_description": refusal.message, "state": refusal.state}
            known = {name: value for name, value in answer.items() if value}
            return redirect(with_answer(refusal.redirect_uri, **known, iss=given["state"][Settings].url))

    return answered


@routes.get(_PATH, scope=Public.SIGN_IN)
@for_people
@_refusing
async def ask_person(request: Request, db: Database, state: State) -> Response:  # noqa: ARG001 (for refusals)
    """Ask the person at this browser whether a program may act for them (RFC 6749 section 4.1.1)."""
    client, asked = await _read(db, parameters_of(request.query_params.multi_items()))
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        if person is not None:
            choice = await choice_for(tx, person, asked.vo, asked.group, asked.scope)
    if "none" in asked.prompt.split():
        name = "login_required" if person is None else "consent_required"
        raise SendBack(name, "This cannot be done without asking the person.", asked.redirect_uri, asked.state)
    if person is None:
        return redirect(f"/login?next={quote(f'{_PATH}?{request.url.query}', safe='')}")
    return _consent(request, client, asked, person, choice)


@routes.post(_PATH, scope=Public.SIGN_IN)
@for_people
@_refusing
async def take_decision(request: Request, db: Database, state: State) -> Response:
    """Take the decision of the person at this browser, and send the browser back to the program (form)."""
    form = await read_form(request)
    _, asked = await _read(db, form)
    browser.check_form(request, _purpose(asked), form.get("form_token", ""))
    if form.get("decision") != "allow":
        raise SendBack("access_denied", "The person said no.", asked.redirect_uri, asked.state)
    code = _CODE_PREFIX + secrets.token_urlsafe(32)
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
        if person is None:
            raise BrowserSignedOut
        choice = await choice_for(tx, person, asked.vo, asked.group, asked.scope)
        allowed = allowed_by(person, choice.role(form.get("role", "")).member)
        given = Code(asked=asked, allowed=allowed, browser_hash=browser.mark_of(request))
        await store.insert_code(tx, code, given)
    return redirect(with_answer(asked.redirect_uri, code=code, state=asked.state, iss=state[Settings].url))


async def _read(db: Database, parameters: dict[str, str]) -> tuple[OAuthClient, AuthorizationRequest]:
    async with db.transaction() as tx:
        client = await known_client(tx, parameters.get("client_id", ""))
    redirect_uri = where_to(parameters, client)
    assert client
    return client, read_request(parameters, client, redirect_uri)


def _consent(
    request: Request, client: OAuthClient, asked: AuthorizationRequest, person: Person, choice: Choice
) -> Response:
    fields = {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
    fields |= {"response_type": "code", "code_challenge_method": "S256"}
    return page(
        "consent.html",
        form_targets=[asked.redirect_uri],
        client=client,
        fields={**fields, "form_token": browser.form_token(request, _purpose(asked))},
        back=urlsplit(asked.redirect_uri),
        person=person,
        choice=choice,
    )


def _purpose(asked: AuthorizationRequest) -> str:
    """A form is good for exactly the request that its page showed."""
    return f"authorize {msgspec.json.encode(asked).decode()}"
