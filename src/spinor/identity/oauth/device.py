"""The device flow (RFC 8628): a program without a browser shows a code, and its person decides in a browser elsewhere.

A link alone never decides: it fills in the code at most. The person sees what asks, for what, from where and since
when, and decides by a form of ours. Whoever guesses codes is stopped soon.
"""

import re
import secrets

from starlette.requests import Request
from starlette.responses import Response

from spinor.db import Database, Tx
from spinor.errors import BadInput, SpinorError, Unavailable
from spinor.http import Public, Routes, State
from spinor.identity import browser
from spinor.identity.models import Person
from spinor.identity.oauth.authentication import client_of
from spinor.identity.oauth.authorize import BrowserSignedOut
from spinor.identity.oauth.clients import DEVICE, GrantNotForClient, known_client
from spinor.identity.oauth.endpoint import BadForm, answer, origin_of, read_form, refusal
from spinor.identity.oauth.flows import store
from spinor.identity.oauth.flows.models import (
    DEVICE_LIFETIME_S,
    POLL_INTERVAL_S,
    DeviceRequest,
    WaitingDevice,
)
from spinor.identity.oauth.flows.requests import challenge_fault
from spinor.identity.oauth.flows.roles import allowed_by, choice_for
from spinor.identity.oauth.pages import for_people, page, redirect
from spinor.settings import Settings

routes = Routes("oauth")
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, so that no words come out.
_LETTERS = 8
_CODE = re.compile(f"[{ALPHABET}]{{{_LETTERS}}}")
_DEVICE_PREFIX = "spinor_dc_"
_MOST_WAITING, _MOST_FROM_ADDRESS = 10_000, 200
# In ten minutes. With as many programs waiting as there may be, all guesses together hit one in 8,000 times.
_MOST_GUESSES, _MOST_GUESSES_FROM_ADDRESS, _MOST_GUESSES_OF_PERSON = 300, 30, 5


class TooManyWaiting(Unavailable):
    """Too many programs wait for their sign-in already; try again in a few minutes."""

    code = "too-many-waiting"
    oauth_error = "temporarily_unavailable"


class TooManyGuesses(SpinorError):
    """Too many wrong codes were typed; wait ten minutes, then let the program show a new one."""

    status, code = 429, "too-many-guesses"


class NobodyWaits(BadInput):
    """No program waits with this code. Compare it with the one that is shown; after ten minutes it is a new one."""

    status, code = 404, "nobody-waits"


@routes.post("/api/auth/device_authorization", scope=Public.SIGN_IN)
async def start_device_sign_in(request: Request, db: Database, state: State) -> Response:
    """Give a program a code to show to its person, and one to wait with (form; RFC 8628 section 3.1)."""
    device_code = _DEVICE_PREFIX + secrets.token_urlsafe(32)
    try:
        form = await read_form(request)
        client = await client_of(request, db, state, form)
        if DEVICE not in client.grants:
            raise GrantNotForClient(f"The client {client.client_id!r} may not use the device flow.")
        async with db.transaction() as tx:
            user_code = await _keep(tx, device_code, _read(form, client.client_id, request))
    except SpinorError as error:
        if error.status >= 500 and not isinstance(error, TooManyWaiting):
            raise
        return refusal(error)
    shown = f"{user_code[:4]}-{user_code[4:]}"
    verification_uri = f"{state[Settings].url}/device"
    return answer(
        {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": verification_uri,
            "verification_uri_complete": f"{verification_uri}?user_code={shown}",
            "expires_in": DEVICE_LIFETIME_S,
            "interval": POLL_INTERVAL_S,
        }
    )


@routes.get("/device", scope=Public.SIGN_IN)
@for_people
async def ask_user_code(request: Request, db: Database) -> Response:
    """Ask for the code that a program on another machine shows."""
    given = request.query_params.get("user_code", "")
    async with db.transaction() as tx:
        person = await browser.person_at(tx, request)
    if person is None:
        code = _read_code(given)
        return redirect("/login?next=/device" + (f"%3Fuser_code%3D{code}" if _CODE.fullmatch(code) else ""))
    return _enter(request, person, given=given[:20])


@routes.post("/device", scope=Public.SIGN_IN)
@for_people
async def show_waiting_program(request: Request, db: Database) -> Response:
    """Show the program that waits with a code, and ask whether to let it in (form)."""
    form = await read_form(request)
    browser.check_form(request, "device", form.get("form_token", ""))
    given = form.get("user_code", "")
    async with db.transaction() as tx:
        person = await _person(tx, request)
        found = await _look_up(tx, given, person, origin_of(request).address)
        if isinstance(found, WaitingDevice):
            return await _confirm(tx, request, person, found, _read_code(given))
    return _enter(request, person, given=given[:20], fault=found)


@routes.post("/device/decision", scope=Public.SIGN_IN)
@for_people
async def decide_on_program(request: Request, db: Database) -> Response:
    """Let the program that waits with a code in, or turn it away (form)."""
    form = await read_form(request)
    code = _read_code(form.get("user_code", ""))
    browser.check_form(request, f"device {code}", form.get("form_token", ""))
    async with db.transaction() as tx:
        person = await _person(tx, request)
        # A form of ours proves no more than its browser, whose person can make one for any code.
        found = await _look_up(tx, code, person, origin_of(request).address)
        if isinstance(found, WaitingDevice):
            return await _decide(tx, person, found, form, code)
    return _enter(request, person, given="", fault=found)


async def _decide(tx: Tx, person: Person, found: WaitingDevice, form: dict[str, str], code: str) -> Response:
    client = await known_client(tx, found.client_id)
    if form.get("decision") != "allow":
        await store.deny_device(tx, code)
        return page("device_done.html", person=person, client=client, role=None)
    choice = await choice_for(tx, person, found.wanted_vo, found.wanted_group, found.scope)
    role = choice.role(form.get("role", ""))
    await store.allow_device(tx, code, allowed_by(person, role.member))
    return page("device_done.html", person=person, client=client, role=role)


async def _keep(tx: Tx, device_code: str, asked: DeviceRequest) -> str:
    """The user code of a program that waits from now on."""
    waiting = await store.count_waiting_devices(tx, asked.address)
    if waiting.from_all >= _MOST_WAITING or waiting.from_address >= _MOST_FROM_ADDRESS:
        raise TooManyWaiting
    while True:
        user_code = "".join(secrets.choice(ALPHABET) for _ in range(_LETTERS))
        if await store.insert_device(tx, device_code, user_code, asked):
            return user_code


def _read(form: dict[str, str], client_id: str, request: Request) -> DeviceRequest:
    if ("code_challenge" in form or "code_challenge_method" in form) and (fault := challenge_fault(form)):
        raise BadForm(fault)
    origin = origin_of(request)
    wanted = [form.get(name, "") for name in ("scope", "vo", "group")]
    if not all(word.isprintable() and len(word) <= 1024 for word in wanted):
        raise BadForm("scope, vo or group has other than printable characters, or is too long.")
    return DeviceRequest(
        client_id=client_id,
        challenge=form.get("code_challenge", ""),
        scope=wanted[0],
        wanted_vo=wanted[1],
        wanted_group=wanted[2],
        address=origin.address,
        user_agent=origin.user_agent,
    )


def _read_code(typed: str) -> str:
    """The letters of a code, however a person wrote them."""
    return re.sub(r"[^A-Za-z]", "", typed).upper()[:40]


async def _person(tx: Tx, request: Request) -> Person:
    person = await browser.person_at(tx, request)
    if person is None:
        raise BrowserSignedOut("You are not signed in in this browser any more; open the page /device again.")
    return person


async def _look_up(tx: Tx, typed: str, person: Person, address: str) -> WaitingDevice | SpinorError:
    """The program that waits with this code. An error is given and not raised: the guess is to be committed."""
    code = _read_code(typed)
    if not _CODE.fullmatch(code):
        return NobodyWaits(f"The code has {_LETTERS} letters, like WDJB-MJHT, and no vowels.")
    await store.lock_guesses(tx)
    guesses = await store.count_guesses(tx, person.user, address)
    if (
        guesses.by_person >= _MOST_GUESSES_OF_PERSON
        or guesses.by_address >= _MOST_GUESSES_FROM_ADDRESS
        or guesses.by_all >= _MOST_GUESSES
    ):
        return TooManyGuesses()
    found = await store.find_waiting_device(tx, code)
    if found is None:
        await store.insert_guess(tx, person.user, address)
        return NobodyWaits()
    return found


def _enter(request: Request, person: Person, *, given: str, fault: SpinorError | None = None) -> Response:
    return page(
        "device_enter.html",
        status=fault.status if fault else 200,
        person=person,
        given=given,
        fault=fault.message if fault else "",
        form_token=browser.form_token(request, "device"),
    )


async def _confirm(tx: Tx, request: Request, person: Person, found: WaitingDevice, code: str) -> Response:
    return page(
        "device_confirm.html",
        person=person,
        client=await known_client(tx, found.client_id),
        found=found,
        same_address=found.address == origin_of(request).address,
        choice=await choice_for(tx, person, found.wanted_vo, found.wanted_group, found.scope),
        fields={"user_code": code, "form_token": browser.form_token(request, f"device {code}")},
        shown=f"{code[:4]}-{code[4:]}",
    )
