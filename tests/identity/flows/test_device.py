"""The device flow: a person decides, by a form, on what they see; nobody guesses codes, and polls keep their pace."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from spinor.db import execute, fetch_rows, fetch_value
from spinor.identity.oauth.device import ALPHABET
from tests.identity.flows.people import (
    DEVICE,
    ISSUER,
    VERIFIER,
    Browser,
    Program,
    challenge_of,
    is_page,
    refused,
)
from tests.identity.workbench import Service

WRONG = "BBBB-BBBB"


async def change(service: Service, statement: str) -> None:
    async with service.world.db.transaction() as tx:
        assert await execute(tx, statement), statement


async def value(service: Service, statement: str) -> object:
    async with service.world.db.transaction() as tx:
        return await fetch_value(tx, statement)


async def wait(service: Service) -> None:
    """Let the interval pass."""
    await change(service, "UPDATE identity.device_grant SET polled_at = polled_at - make_interval(secs => interval_s)")


async def test_a_person_lets_a_program_in(ada: Browser, program: Program, service: Service) -> None:
    started = await program.start()
    assert re.fullmatch(f"[{ALPHABET}]{{4}}-[{ALPHABET}]{{4}}", started["user_code"])
    assert started["verification_uri"] == f"{ISSUER}/device"
    assert (started["expires_in"], started["interval"]) == (600, 5)
    assert refused(await program.poll(started["device_code"]), "authorization_pending")
    done = await ada.decide(started["user_code"], role="astro/astro_users")
    assert is_page(done, 200)
    tokens = (await program.poll(started["device_code"])).body
    who = (await program.who(tokens["access_token"])).body
    assert (who["user"], who["group"]) == ("ada", "astro_users")
    assert (await program.refresh(tokens["refresh_token"])).status == 200


async def test_a_denial_is_told_to_the_program(ada: Browser, program: Program) -> None:
    started = await program.start()
    assert is_page(await ada.decide(started["user_code"], "deny"), 200)
    assert refused(await program.poll(started["device_code"]), "access_denied")
    assert is_page(await ada.confirm(started["user_code"]), 404), "it cannot be decided again"


@pytest.mark.parametrize(
    "write", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code[:4]} {code[5:]} "]
)
async def test_a_code_may_be_typed_as_people_type(ada: Browser, program: Program, write: object) -> None:
    started = await program.start()
    assert (await ada.confirm(write(started["user_code"]))).status == 200  # type: ignore[operator]


async def test_a_link_fills_in_the_code_and_decides_nothing(ada: Browser, program: Program, service: Service) -> None:
    """RFC 8628 section 5.4, and the gap of DiracX: there a link leads past any question to the login."""
    started = await program.start()
    link = urlsplit(started["verification_uri_complete"])
    page = await ada.get(f"{link.path}?{link.query}")
    assert page.fields["user_code"] == started["user_code"]
    assert page.form.decisions == []
    assert "Spinor command line" not in page.text, "the program shows only after the person has gone on"
    assert await value(service, "SELECT state::text FROM identity.device_grant") == "waiting"
    assert refused(await program.poll(started["device_code"]), "authorization_pending")


async def test_nobody_at_the_browser_is_sent_to_sign_in_with_the_code_and_nothing_else(
    program: Program, service: Service
) -> None:
    nobody = Browser(service)
    assert (await nobody.get("/device")).headers["location"] == "/login?next=/device"
    location = (await nobody.get("/device?user_code=wdjb-mjht")).headers["location"]
    assert parse_qs(urlsplit(location).query)["next"] == ["/device?user_code=WDJBMJHT"]
    for hostile in ("https://evil.example", "WDJB-MJHT%26next=https://evil.example", "%0d%0aset-cookie:a=b"):
        location = (await nobody.get(f"/device?user_code={hostile}")).headers["location"]
        assert location == "/login?next=/device"


async def test_the_person_sees_what_asks_for_what_from_where_and_when(bea: Browser, service: Service) -> None:
    far = Browser(service, address="203.0.113.5")
    far.headers["accept"] = "application/json"
    started = await far.post(DEVICE, {"client_id": "other", "scope": "files:read"})
    code = re.search(r'"user_code":"([\w-]+)"', started.text)
    assert code
    page = await bea.confirm(code[1])
    assert page.form.decisions == ["allow", "deny"]
    asked_at = await value(service, "SELECT to_char(asked_at, 'HH24:MI:SS') FROM identity.device_grant")
    for shown in (
        "Another program &lt;b&gt;", "other", "203.0.113.5", "another address", "find and read files",
        f"{asked_at} UTC", "started this yourself just now", "bio_users", code[1],
    ):  # fmt: skip
        assert shown in page.text, shown
    assert "submit jobs" not in page.text


async def test_only_a_form_of_ours_for_this_browser_and_this_code_decides(
    ada: Browser, bea: Browser, program: Program, service: Service
) -> None:
    started, second = await program.start(), await program.start()
    page = await ada.confirm(started["user_code"])
    good = {**page.fields, "role": page.form.roles[0], "decision": "allow"}
    for changes in ({"form_token": ""}, {"form_token": "0" * 64}, {"user_code": second["user_code"]}):
        assert is_page(await ada.post("/device/decision", {**good, **changes}), 403)
    assert is_page(await bea.post("/device/decision", good), 403)
    assert is_page(await Browser(service).post("/device/decision", good), 403)
    assert is_page(await ada.post("/device", {"user_code": started["user_code"]}), 403)
    elsewhere = Browser(service, cookie=ada.cookie)
    elsewhere.headers["sec-fetch-site"] = "cross-site"
    assert is_page(await elsewhere.post("/device/decision", good), 403)
    assert refused(await program.poll(started["device_code"]), "authorization_pending")


async def test_five_wrong_codes_and_a_person_waits(
    ada: Browser, bea: Browser, program: Program, service: Service
) -> None:
    started = await program.start()
    for _ in range(5):
        assert is_page_with_form(await ada.confirm(WRONG), 404)
    assert is_page_with_form(await ada.confirm(WRONG), 429)
    assert is_page_with_form(await ada.confirm(started["user_code"]), 429), "also the right one"
    assert (await bea.confirm(started["user_code"])).status == 200, "another person is not kept out"
    assert await value(service, "SELECT count(*) FROM identity.device_guess") == 5
    again = await Browser(service, address="203.0.113.77").sign_in("ada")
    assert is_page_with_form(await again.confirm(started["user_code"]), 429), "nor does another browser help"
    await change(service, "UPDATE identity.device_guess SET guessed_at = now() - interval '11 minutes'")
    assert (await ada.confirm(started["user_code"])).status == 200


def is_page_with_form(page: object, status: int) -> bool:
    return is_page(page, status) and "user_code" in page.fields  # type: ignore[arg-type, attr-defined]


@pytest.mark.parametrize(("count", "address"), [(30, "192.0.2.7"), (300, "elsewhere")])
async def test_wrong_codes_from_one_address_and_of_all_are_limited(
    ada: Browser, program: Program, service: Service, count: int, address: str
) -> None:
    started = await program.start()
    await change(
        service,
        "INSERT INTO identity.device_guess (user_id, address) SELECT user_id, '"
        f"{address}' FROM identity.user_account, generate_series(1, {count}) WHERE name = 'alan'",
    )
    assert is_page_with_form(await ada.confirm(started["user_code"]), 429)


async def test_guesses_at_once_do_not_pass_the_limit_together(ada: Browser, service: Service) -> None:
    page = await ada.get("/device")
    form = {**page.fields, "user_code": WRONG}
    seen = await asyncio.gather(*(ada.post("/device", form) for _ in range(12)))
    assert sorted(one.status for one in seen) == [404] * 5 + [429] * 7
    assert await value(service, "SELECT count(*) FROM identity.device_guess") == 5


async def test_the_decision_counts_guesses_too(ada: Browser, program: Program, service: Service) -> None:
    """A person can make a form of their own browser for any code."""
    from spinor.identity.browser import form_token
    from tests.identity.workbench import request

    started = await program.start()
    letters = started["user_code"].replace("-", "")

    def form(code: str) -> dict[str, str]:
        made = form_token(request("POST", "/", headers={"cookie": ada.cookie}), f"device {code}")
        return {"user_code": code, "form_token": made, "decision": "allow", "role": "astro/astro_users"}

    for _ in range(5):
        assert (await ada.post("/device/decision", form("BBBBBBBB"))).status == 404
    assert (await ada.post("/device/decision", form(letters))).status == 429


@pytest.mark.parametrize("typed", ["", "WDJB", "WDJB-MJHT-X", "AEIO-UAEI", "x" * 5000, "\0", "' OR 1=1 --"])
async def test_what_is_no_code_is_no_guess(ada: Browser, service: Service, typed: str) -> None:
    assert is_page_with_form(await ada.confirm(typed), 404)
    assert await value(service, "SELECT count(*) FROM identity.device_guess") == 0


async def test_a_fast_poll_is_told_to_slow_down_and_that_is_kept(program: Program, service: Service) -> None:
    """Server A5 never said so."""
    code = (await program.start())["device_code"]
    assert refused(await program.poll(code), "authorization_pending")
    assert refused(await program.poll(code), "slow_down")
    assert refused(await program.poll(code), "slow_down")
    assert await value(service, "SELECT interval_s FROM identity.device_grant") == 15
    await change(service, "UPDATE identity.device_grant SET polled_at = now() - interval '9 seconds'")
    assert refused(await program.poll(code), "slow_down")
    await wait(service)
    assert refused(await program.poll(code), "authorization_pending")
    assert await value(service, "SELECT interval_s FROM identity.device_grant") == 20


async def test_a_device_code_expires_however_often_it_is_polled(
    ada: Browser, program: Program, service: Service
) -> None:
    """In A5 each poll made it live longer."""
    started = await program.start()
    before = await value(service, "SELECT expires_at FROM identity.device_grant")
    await program.poll(started["device_code"])
    await program.poll(started["device_code"])
    assert await value(service, "SELECT expires_at FROM identity.device_grant") == before
    await change(service, "UPDATE identity.device_grant SET expires_at = clock_timestamp()")
    assert refused(await program.poll(started["device_code"]), "expired_token")
    assert is_page_with_form(await ada.confirm(started["user_code"]), 404)


async def test_what_was_allowed_expires_too(ada: Browser, program: Program, service: Service) -> None:
    started = await program.start()
    await ada.decide(started["user_code"])
    await change(service, "UPDATE identity.device_grant SET expires_at = clock_timestamp()")
    assert refused(await program.poll(started["device_code"]), "expired_token")


async def test_a_second_redemption_is_refused_and_ends_the_first(
    ada: Browser, program: Program, service: Service
) -> None:
    started = await program.start()
    await ada.decide(started["user_code"])
    tokens = (await program.poll(started["device_code"])).body
    assert refused(await program.poll(started["device_code"]), "invalid_grant")
    assert (await program.who(tokens["access_token"])).status == 401
    assert await value(service, "SELECT ended_by FROM identity.session") == "reuse"


async def test_two_polls_at_once_give_one_session(ada: Browser, program: Program, service: Service) -> None:
    started = await program.start()
    await ada.decide(started["user_code"])
    answers = await asyncio.gather(*(program.poll(started["device_code"]) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200, *[400] * 7]
    assert await value(service, "SELECT count(*) FROM identity.session") == 1


async def test_two_people_cannot_both_decide(ada: Browser, bea: Browser, program: Program, service: Service) -> None:
    started = await program.start()
    pages = [(who, await who.confirm(started["user_code"])) for who in (ada, bea)]
    seen = await asyncio.gather(
        *(
            who.post("/device/decision", {**page.fields, "role": page.form.roles[0], "decision": "allow"})
            for who, page in pages
        )
    )
    assert sorted(one.status for one in seen) == [200, 404]


async def test_another_client_gets_nothing(ada: Browser, program: Program, other: Program) -> None:
    started = await program.start()
    await ada.decide(started["user_code"])
    assert refused(await other.poll(started["device_code"]), "invalid_grant")
    assert (await program.poll(started["device_code"])).status == 200


@pytest.mark.parametrize("code", ["", "spinor_dc_unknown", "\0", "x" * 5000])
async def test_an_unknown_device_code_is_refused(program: Program, code: str) -> None:
    assert refused(await program.poll(code), "invalid_grant" if code else "invalid_request")


@pytest.mark.parametrize("verifier", [None, "", "w" * 64, "v" * 42])
async def test_a_challenge_has_to_be_answered(ada: Browser, program: Program, verifier: str | None) -> None:
    started = await program.start(code_challenge=challenge_of(VERIFIER), code_challenge_method="S256")
    await ada.decide(started["user_code"])
    given = {} if verifier is None else {"code_verifier": verifier}
    assert refused(await program.poll(started["device_code"], **given), "invalid_grant")
    assert (await program.poll(started["device_code"], code_verifier=VERIFIER)).status == 200


async def test_a_verifier_without_a_challenge_is_a_downgrade(ada: Browser, program: Program) -> None:
    started = await program.start()
    await ada.decide(started["user_code"])
    assert refused(await program.poll(started["device_code"], code_verifier=VERIFIER), "invalid_grant")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_id": "unknown"}, "invalid_client"),
        ({"code_challenge": challenge_of(VERIFIER)}, "invalid_request"),
        ({"code_challenge": challenge_of(VERIFIER), "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "S256"}, "invalid_request"),
        ({"scope": "files:read\0"}, "invalid_request"),
        ({"vo": "x" * 2000}, "invalid_request"),
    ],
)
async def test_what_cannot_be_started(service: Service, fields: dict[str, str], error: str) -> None:
    assert refused(await service.form(DEVICE, **fields), error)


async def test_not_everybody_may_let_programs_wait_for_ever(program: Program, service: Service) -> None:
    await program.start()
    await change(
        service,
        "INSERT INTO identity.device_grant (device_hash, user_code_hash, client_id, challenge, scope, wanted_vo,"
        " wanted_group, address, user_agent, expires_at, interval_s) SELECT sha256(n::text::bytea),"
        " sha256(n::text::bytea), '', '', '', '', '', '', '', now() + interval '1 minute', 5"
        " FROM generate_series(1, 200) n",
    )
    answer = await service.form(DEVICE, client_id="spinor-cli")
    assert answer.body["error"] == "temporarily_unavailable"
    await change(service, "UPDATE identity.device_grant SET expires_at = clock_timestamp()")
    await program.start()


@pytest.mark.parametrize("fields", [{"vo": "bio"}, {"group": "nobody"}, {"scope": "jobs:submit config:write"}])
async def test_a_person_who_cannot_give_it_can_only_turn_it_away(
    ada: Browser, program: Program, fields: dict[str, str]
) -> None:
    started = await program.start(**fields)
    page = await ada.confirm(started["user_code"])
    assert page.form.decisions == ["deny"]
    assert is_page(await ada.decide(started["user_code"], role="astro/astro_users"), 403)
    assert refused(await program.poll(started["device_code"]), "authorization_pending")


async def test_the_scope_is_the_one_that_was_shown(ada: Browser, program: Program) -> None:
    started = await program.start(scope="files:read openid")
    await ada.decide(started["user_code"])
    tokens = (await program.poll(started["device_code"], scope="jobs:submit")).body
    assert set(tokens["scope"].split()) == {"openid", "files:read"}
    assert tokens["id_token"]


async def test_codes_are_kept_as_hashes(program: Program, service: Service) -> None:
    started = await program.start()
    async with service.world.db.transaction() as tx:
        kept = str(await fetch_rows(tx, "SELECT d::text FROM identity.device_grant d"))
    letters = started["user_code"].replace("-", "")
    for hidden in (started["device_code"], started["user_code"], letters):
        assert hidden not in kept
