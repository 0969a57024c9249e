"""What the authorization endpoint lets pass, whom it tells when it does not, and what its page shows."""

from urllib.parse import parse_qs, urlsplit

import pytest

from spinor.access import Scope
from spinor.db import execute
from spinor.errors import SpinorError
from spinor.identity.oauth.flows.requests import fits
from spinor.identity.oauth.flows.roles import WORDS
from tests.identity.flows.people import AUTHORIZE, CALLBACK, ISSUER, Browser, Program, authorization, is_page
from tests.identity.workbench import Service


async def test_a_person_lets_a_program_in(ada: Browser, program: Program) -> None:
    answer = await ada.consent(authorization(group="astro_users"))
    assert answer.status == 303
    assert answer.headers["location"].startswith(f"{CALLBACK}?")
    assert answer.answer["state"] == "the-state"
    assert answer.answer["iss"] == ISSUER
    tokens = (await program.redeem(answer.answer["code"])).body
    who = (await program.who(tokens["access_token"])).body
    assert (who["user"], who["vo"], who["group"]) == ("ada", "astro", "astro_users")
    assert "id_token" not in tokens
    assert (await program.refresh(tokens["refresh_token"])).status == 200


async def test_nobody_at_the_browser_is_sent_to_sign_in_and_comes_back(service: Service) -> None:
    seen = await Browser(service).get(AUTHORIZE, authorization(scope="jobs:read files:read"))
    assert seen.status == 303
    parts = urlsplit(seen.headers["location"])
    assert (parts.scheme, parts.netloc, parts.path) == ("", "", "/login")
    back = urlsplit(parse_qs(parts.query)["next"][0])
    assert back.path == AUTHORIZE
    assert {name: v[0] for name, v in parse_qs(back.query).items()} == authorization(scope="jobs:read files:read")


async def test_a_denial_is_told_to_the_program(ada: Browser) -> None:
    answer = await ada.consent(authorization(), "deny")
    assert answer.status == 303
    assert (answer.answer["error"], answer.answer["state"], answer.answer["iss"]) == (
        "access_denied", "the-state", ISSUER,
    )  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "https://evil.example/",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:41023@evil.example/",
        "http://127.0.0.1\\@evil.example/",
        "http://127.0.0.1:41023/callback?next=https://evil.example",
        "http://127.0.0.1:41023/callback#fragment",
        "http://127.0.0.1:41023//evil.example",
        "http://127.0.0.1:41023/callback\r\nset-cookie: a=b",
        "http://127.0.0.1:٤١/callback",
        "https://127.0.0.1:41023/callback",
        "http://localhost:41023/callback",
        "http://[::1]:41023/callback",
        "http://127.1:41023/callback",
        "javascript:alert(1)",
        "x" * 3000,
    ],
)
async def test_a_foreign_place_to_go_back_to_is_never_gone_to(ada: Browser, address: str | None) -> None:
    """RFC 9700 section 4.11: not even to tell the error."""
    assert is_page(await ada.get(AUTHORIZE, authorization(redirect_uri=address)), 400)
    assert is_page(await ada.get(AUTHORIZE, authorization(redirect_uri=address, response_type="token")), 400)


@pytest.mark.parametrize(
    ("wanted", "registered", "good"),
    [
        ("https://app.example/back", "https://app.example/back", True),
        ("https://app.example/back/", "https://app.example/back", False),
        ("https://app.example/back?x=1", "https://app.example/back", False),
        ("https://APP.example/back", "https://app.example/back", False),
        ("https://app.example:443/back", "https://app.example/back", False),
        ("https://app.example/a/../back", "https://app.example/back", False),
        ("http://127.0.0.1:5/callback", "http://127.0.0.1/callback", True),
        ("http://127.0.0.1/callback", "http://127.0.0.1:9/callback", True),
        ("http://127.0.0.1:5/other", "http://127.0.0.1/callback", False),
        ("http://127.0.0.1:5/any/path", "http://127.0.0.1", True),
        ("http://[::1]:5/callback", "http://[::1]/callback", True),
        ("", "", False),
    ],
)
def test_addresses_are_compared_whole_but_for_a_port_of_this_computer(wanted: str, registered: str, good: bool) -> None:
    assert fits(wanted, registered) is good


@pytest.mark.parametrize("client_id", [None, "", "unknown", "spinor-cli\0", "' OR 1=1 --"])
async def test_an_unknown_program_is_told_to_the_person(ada: Browser, client_id: str | None) -> None:
    assert is_page(await ada.get(AUTHORIZE, authorization(client_id=client_id)), 400)


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "code_challenge"])
async def test_a_parameter_that_is_there_twice_is_refused(ada: Browser, name: str) -> None:
    query = "&".join(f"{key}={value}" for key, value in authorization(scope="files:read").items())
    assert is_page(await ada.get(f"{AUTHORIZE}?{query}&{name}=again"), 400)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge": "x" * 44}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example/"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"scope": "files:read\n"}, "invalid_request"),
        ({"nonce": "a\0b"}, "invalid_request"),
        ({"prompt": "none"}, "consent_required"),
    ],
)
async def test_what_a_program_cannot_have_is_told_to_it(
    ada: Browser, changes: dict[str, str | None], error: str
) -> None:
    seen = await ada.get(AUTHORIZE, authorization(**changes))
    assert seen.status == 303
    assert seen.headers["location"].startswith(f"{CALLBACK}?")
    assert (seen.answer["error"], seen.answer["state"], seen.answer["iss"]) == (error, "the-state", ISSUER)
    assert "code" not in seen.answer


@pytest.mark.parametrize("state", [None, "", "a b", "é", "x" * 1100])
async def test_a_request_needs_a_state(ada: Browser, state: str | None) -> None:
    seen = await ada.get(AUTHORIZE, authorization(state=state))
    assert (seen.answer["error"], seen.answer["iss"]) == ("invalid_request", ISSUER)
    assert "state" not in seen.answer


async def test_a_client_without_this_grant_is_refused(ada: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    from spinor.identity.oauth.clients import BUILT_IN, DEVICE, OAuthClient

    only = OAuthClient(client_id="d", name="D", grants=frozenset({DEVICE}), redirect_uris=("http://127.0.0.1",))
    monkeypatch.setitem(BUILT_IN, "d", only)
    assert (await ada.get(AUTHORIZE, authorization(client_id="d"))).answer["error"] == "unauthorized_client"


async def test_prompt_none_without_a_person(service: Service) -> None:
    seen = await Browser(service).get(AUTHORIZE, authorization(prompt="none"))
    assert seen.answer["error"] == "login_required"


async def test_the_query_of_a_registered_address_is_kept(ada: Browser) -> None:
    asked = authorization(client_id="other", redirect_uri="https://other.example/back?from=spinor")
    answer = await ada.consent(asked)
    assert answer.headers["location"].startswith("https://other.example/back?from=spinor&code=")
    assert "form-action 'self' https://other.example;" in (await ada.get(AUTHORIZE, asked)).headers[
        "content-security-policy"
    ]  # fmt: skip


async def test_the_form_is_good_for_one_browser_and_one_request(ada: Browser, bea: Browser, service: Service) -> None:
    """What DiracX's state lacks: it is bound to a browser."""
    page = await ada.get(AUTHORIZE, authorization(scope="files:read"))
    good = {**page.fields, "role": page.form.roles[0], "decision": "allow"}
    for changes in (
        {"scope": "files:read jobs:submit"}, {"state": "another"}, {"redirect_uri": "http://127.0.0.1:1/callback"},
        {"code_challenge": "y" * 43}, {"form_token": ""}, {"form_token": "0" * 64}, {"group": "astro_users"},
        {"form_token": "é"},
    ):  # fmt: skip
        assert is_page(await ada.post(AUTHORIZE, {**good, **changes}), 403), changes
    assert is_page(await bea.post(AUTHORIZE, good), 403)
    assert is_page(await Browser(service).post(AUTHORIZE, good), 403)
    elsewhere = Browser(service, cookie=ada.cookie)
    elsewhere.headers["sec-fetch-site"] = "cross-site"
    assert is_page(await elsewhere.post(AUTHORIZE, good), 403)
    assert (await ada.post(AUTHORIZE, good)).status == 303


async def test_only_the_person_s_own_roles_can_be_chosen(ada: Browser) -> None:
    for role in ("", "bio/bio_users", "astro/nothing", "astro_users"):
        assert is_page(await ada.consent(authorization(), role=role), 403)


async def test_the_page_offers_the_roles_that_fit(ada: Browser, bea: Browser) -> None:
    assert (await ada.get(AUTHORIZE, authorization())).form.roles == ["astro/astro_users", "astro/astro_admins"]
    asked = authorization(scope="jobs:submit")
    assert (await ada.get(AUTHORIZE, asked)).form.roles == ["astro/astro_users"]
    assert (await bea.get(AUTHORIZE, authorization())).form.roles == ["bio/bio_users"]


@pytest.mark.parametrize("changes", [{"vo": "bio"}, {"group": "nobody"}, {"scope": "jobs:submit config:write"}])
async def test_a_person_who_cannot_give_it_can_only_go_back(ada: Browser, changes: dict[str, str]) -> None:
    page = await ada.get(AUTHORIZE, authorization(**changes))
    assert (page.status, page.form.decisions) == (200, ["deny"])
    assert (await ada.consent(authorization(**changes), "deny")).answer["error"] == "access_denied"
    assert is_page(await ada.consent(authorization(**changes), role="astro/astro_users"), 403)


async def test_a_suspended_person_can_only_go_back(ada: Browser, service: Service) -> None:
    async with service.world.db.transaction() as tx:
        await execute(
            tx,
            "INSERT INTO identity.suspension (user_id, reason, suspended_by)"
            " SELECT user_id, 'tests', 'tests' FROM identity.user_account WHERE name = 'ada'",
        )
    page = await ada.get(AUTHORIZE, authorization())
    assert page.form.decisions == ["deny"]
    assert "suspended" in page.text


async def test_what_others_wrote_is_escaped(ada: Browser, service: Service) -> None:
    async with service.world.db.transaction() as tx:
        await execute(tx, "UPDATE identity.user_account SET full_name = '<script>alert(1)</script>' WHERE name = 'ada'")
    hostile = '"><script>alert(2)</script>'
    for path, fields in (
        (AUTHORIZE, authorization(client_id="other", nonce=hostile)),
        (AUTHORIZE, authorization(vo=hostile)),
        (AUTHORIZE, authorization(client_id=hostile)),
        (AUTHORIZE, authorization(scope=hostile)),
        ("/device", {"user_code": hostile}),
    ):
        page = await ada.get(path, fields)
        assert page.form.scripts == 0, page.text
        assert "<b>Another" not in page.text


async def test_every_page_keeps_others_out(ada: Browser) -> None:
    for page in (
        await ada.get(AUTHORIZE, authorization()),
        await ada.get(AUTHORIZE, authorization(client_id="unknown")),
        await ada.get("/device"),
        await ada.consent(authorization()),
    ):
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["x-frame-options"] == "DENY"


async def test_a_program_gets_a_problem_and_no_page(service: Service) -> None:
    asking = Browser(service, headers={"accept": "application/json"})
    with pytest.raises(SpinorError, match="not known"):
        await asking.get(AUTHORIZE, authorization(client_id="unknown"))


def test_every_scope_has_plain_words() -> None:
    assert set(WORDS) == set(Scope)
